"""`pose2rgbd depth evaluate RUN SOURCE`: a model of video that was really trained, on frames it has not seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support import toy_video

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation import video_run
from pose2rgbd_ros.evaluation.depth_metrics import named_protocol
from pose2rgbd_ros.evaluation.odometry import OdometryProtocol
from pose2rgbd_ros.evaluation.video_run import evaluate_video
from pose2rgbd_ros.training.checkpoint import load_video_checkpoint
from pose2rgbd_ros.training.families import video_config
from pose2rgbd_ros.training.trainer import train


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with toy_video.registered(tmp_path_factory.mktemp("families")):
        yield


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("data") / "flight", frames=120)


@pytest.fixture(scope="module")
def run(flight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    values = {"image_width": 32, "image_height": 32, "device": "cpu", "epochs": 2, "tensorboard": False}
    train([flight], out, video_config("toyvideo", **values))
    return out


def test_a_run_is_measured_on_frames_it_has_not_seen(
    run: Path, flight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["depth", "evaluate", str(run), str(flight), "--lengths-m", "1", "2", "--start-every", "1"]) == 0
    said = capsys.readouterr().out
    depth = json.loads((run / "report/metrics.json").read_text())
    frames = depth["figures"]["predicted"]["frames"]
    assert 4 < frames < 30
    assert f"{frames} frames that neither trained the model nor chose its weights" in said
    assert "mean depth of every pixel is of the frames trained on" in said
    motion = json.loads((run / "report/motion.json").read_text())
    assert motion["snippets"] == frames
    errors = {name: row["ate_m"] for name, row in motion["figures"].items()}
    assert errors["a camera that stands still"] > errors["mean motion of the frames trained on"] > 0
    track = json.loads((run / "report/track/metrics.json").read_text())["sequences"]
    assert all(each["figures"]["7dof"]["segments"] > 0 for each in track.values())
    assert sum(each["figures"]["7dof"]["poses"] - 1 for each in track.values()) == frames
    for page in ("index.html", "track/index.html"):
        assert f"look at {run / 'report' / page}" in said


def test_the_truth_as_a_model_has_no_error(
    run: Path, flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depth and motion in another unit than metres; the steps of snippets make the track."""
    dataset = Dataset(flight)

    def depth(model: video_run._Model, index: int) -> np.ndarray:
        return dataset.depth(index) / 7

    def motions(model: video_run._Model, targets: np.ndarray) -> np.ndarray:
        true = model.true(targets)
        T = np.linalg.inv(true[:, model.data.target :][:, :1]) @ true
        T[..., :3, 3] /= 7
        return T

    monkeypatch.setattr(video_run._Model, "depth", depth)
    monkeypatch.setattr(video_run._Model, "motions", motions)
    settings = OdometryProtocol(lengths_m=(1.0, 2.0), start_every=1)
    found = evaluate_video(run, [flight], tmp_path / "out", "plain", named_protocol("plain"), settings, "cpu")
    assert found.depth is not None
    assert found.depth.found["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert found.depth.found["scale"] == pytest.approx(7, rel=1e-5)
    assert found.motion is not None
    assert found.motion["model"].ate_m.max() < 1e-9
    assert found.motion["model"].scale == pytest.approx(7)
    assert found.track is not None
    for sequence in found.track.sequences:
        figures = sequence.figures["7dof"]
        assert figures["t_err_percent"] == pytest.approx(0, abs=1e-6)
        assert figures["scale"] == pytest.approx(7)
        assert sequence.figures["6dof"]["t_err_percent"] == pytest.approx(100 * 6 / 7, rel=0.1)


def test_another_recording_and_none_that_knows(
    run: Path, flight_dataset: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = flight_dataset(tmp_path / "other", frames=24, depth_kind=None)
    assert main(["depth", "evaluate", str(run), str(other), "--out", str(tmp_path / "out")]) == 0
    motion = json.loads((tmp_path / "out/motion.json").read_text())
    assert motion["snippets"] == 22, "all of them"
    assert "mean motion of the frames trained on" not in motion["figures"]
    assert not (tmp_path / "out/metrics.json").exists(), "it knows no depth"
    capsys.readouterr()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    dataset = Dataset(other)
    for record in dataset.records[:8]:
        (pictures / Path(record.rgb).name).write_bytes((other / record.rgb).read_bytes())
    assert main(["depth", "evaluate", str(run), str(pictures)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "knows neither true depth nor poses: nothing can be measured" in said


def test_frames_trained_on_never_judge(run: Path, flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    """Also where the recording became another one since, and its split with it."""
    shorter = flight_dataset(tmp_path / "flight", frames=104)
    settings = OdometryProtocol()
    found = evaluate_video(run, [shorter], tmp_path / "out", "plain", named_protocol("plain"), settings, "cpu")
    checkpoint = load_video_checkpoint(run)
    assert found.depth is not None
    judged = np.array(found.depth.names, np.int64)
    assert len(judged)
    assert not np.isin(judged, np.concatenate([checkpoint.training_stamps_ns, checkpoint.choosing_stamps_ns])).any()


def test_what_infer_wrote_is_measured(run: Path, flight: Path, tmp_path: Path) -> None:
    """Depth by the stamps of the frames, and the track beside it; of all frames, whoever has seen them."""
    found = tmp_path / "found"
    assert main(["depth", "infer", str(run), str(flight), "--out", str(found)]) == 0
    assert main(["depth", "evaluate", str(found), str(flight), "--start-every", "1", "--lengths-m", "5"]) == 0
    report = tmp_path / "found-evaluation"
    assert json.loads((report / "metrics.json").read_text())["figures"]["predicted"]["frames"] == 120
    track = json.loads((report / "track/metrics.json").read_text())["sequences"]["found"]["figures"]["7dof"]
    assert track["poses"] == 120
    assert track["segments"] > 50

"""`pose2rgbd depth evaluate`: depth and trajectories of any tool against the truth, as files and as a page."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.pages import read_page

from pose2rgbd_ros.cli.depth import EvaluateArguments
from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.depth_images import matched, open_depth
from pose2rgbd_ros.evaluation.depth_metrics import PROTOCOLS
from pose2rgbd_ros.evaluation.odometry import OdometryProtocol, Paired, odometry_metrics
from pose2rgbd_ros.evaluation.odometry_report import OdometryReport, measure, write
from pose2rgbd_ros.geometry import se3

FRAMES = 12


@pytest.fixture(scope="module")
def flight(flight_dataset: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset(flight_dataset(tmp_path_factory.mktemp("flight") / "flight", FRAMES))


def _depths(flight: Dataset) -> np.ndarray:
    return np.stack([flight.depth(i) for i in range(len(flight))])


def _predicted(flight: Dataset) -> np.ndarray:
    """In no unit, off by a tenth, its size drifting from frame to frame, half as large."""
    true = np.nan_to_num(_depths(flight), nan=45.0)[:, ::2, ::2]
    noise = np.random.default_rng(0).normal(0, 0.1, true.shape)
    return (true * np.exp(noise) * np.linspace(0.04, 0.06, len(true))[:, None, None]).astype(np.float32)


def _run(*words: object) -> int:
    return main(["depth", "evaluate", *map(str, words)])


def _figures(folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((folder / "metrics.json").read_text())["figures"]
    return found


def test_a_folder_of_depth_against_a_dataset(
    flight: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "found"
    folder.mkdir()
    for stamp, depth in zip(flight.stamps_ns[2:], _predicted(flight)[2:], strict=True):
        np.save(folder / f"{stamp}.npy", depth)
    assert _run(folder, flight.path) == 0
    report = tmp_path / "found-evaluation"
    figures = _figures(report)
    assert 0.04 < figures["predicted"]["abs_rel"] < 0.08
    assert figures["predicted"]["scale"] == pytest.approx(20, rel=0.2)
    assert figures["predicted"]["scale_spread"] > 0.08
    assert figures["mean depth of every pixel"]["abs_rel"] > 1.5 * figures["predicted"]["abs_rel"]
    assert figures["one depth everywhere"]["sc_inv"] > 2 * figures["predicted"]["sc_inv"]
    said = capsys.readouterr().out
    assert "2 true images of 12 have no prediction and are left out" in said
    assert "of the very frames judged, which flatters it" in said
    assert (report / "table.md").read_text().strip() in said
    assert len((report / "frames.csv").read_text().splitlines()) == FRAMES - 2 + 1
    page = read_page(report / "index.html")
    for name in ("frames.png", "errors.png"):
        assert name in page.files
        assert cv2.imread(str(report / name)).std() > 10


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_named_where_it_is_chosen(repository: Path, name: str) -> None:
    help_text = " ".join(inspect.getsource(EvaluateArguments).split())
    assert re.search(rf"[ ,]{name}[ ,\"]", help_text)
    assert f"`{name}`" in (repository / "docs/depth.md").read_text()


def test_arrays_disparities_and_counts_say_the_same(flight: Dataset, tmp_path: Path) -> None:
    """One prediction as .npy of all, as disparities, as .npz, as float TIFF and as 16 bit PNG of KITTI's unit."""
    found = _predicted(flight) * 20
    np.save(tmp_path / "all.npy", found)
    np.save(tmp_path / "disparities.npy", 1 / found[:, None])
    np.savez(tmp_path / "packed.npz", data=found[..., None])
    for name in ("tiff", "png"):
        (tmp_path / name / "depth").mkdir(parents=True)
    for i, image in enumerate(found):
        cv2.imwrite(str(tmp_path / f"tiff/depth/frame_{i:06d}.tiff"), image)
        cv2.imwrite(str(tmp_path / f"png/depth/{i:010d}.png"), np.rint(image * 256).astype(np.uint16))
    opened = {
        "all.npy": open_depth(tmp_path / "all.npy"),
        "disparities.npy": open_depth(tmp_path / "disparities.npy", is_disparity=True),
        "packed.npz": open_depth(tmp_path / "packed.npz"),
        "tiff": open_depth(tmp_path / "tiff"),
        "png": open_depth(tmp_path / "png", unit_m=1 / 256),
    }
    for name, images in opened.items():
        assert len(images) == FRAMES
        for i in (0, 7):
            np.testing.assert_allclose(images.read(i), found[i], rtol=1e-6, atol=1 / 500, err_msg=name)
    np.save(tmp_path / "truth.npy", _depths(flight))
    words = ["--out", tmp_path / "out", "--unit-m", "0.00390625", "--change", "resize=depth", "filter=nearest"]
    assert _run(tmp_path / "png", tmp_path / "truth.npy", "--protocol", "metric", *words) == 0
    scores = _figures(tmp_path / "out")["predicted"]
    assert scores["scale"] == 1
    assert 0.05 < scores["abs_rel"] < 0.3
    np.save(tmp_path / "few.npy", found[:3])
    assert _run(tmp_path / "few.npy", tmp_path / "truth.npy") == 2


def test_images_belong_together_by_name_or_number(tmp_path: Path) -> None:
    for folder, names in (("a", ["7", "8", "9"]), ("b", ["frame-000008", "frame-000010", "frame-000009"])):
        (tmp_path / folder).mkdir()
        for name in names:
            np.save(tmp_path / folder / f"{name}.npy", np.ones((2, 2)))
    pairs = matched(open_depth(tmp_path / "a"), open_depth(tmp_path / "b"))
    assert pairs == [("frame-000008", 1, 0), ("frame-000009", 2, 1)]
    (tmp_path / "c").mkdir()
    np.save(tmp_path / "c/first.npy", np.ones((2, 2)))
    with pytest.raises(UserError, match=r"no image of .*a \(7, ...\) has the name of one of .*c \(first, ...\)"):
        matched(open_depth(tmp_path / "a"), open_depth(tmp_path / "c"))


@pytest.mark.parametrize(
    ("predicted", "words", "what"),
    [
        ("found", ["--protocol", "eigen"], "there is no depth protocol 'eigen'; choose from plain"),
        ("found", ["--change", "scaling=best"], "scaling is 'best'; choose one of: medians, median_of_ratios, none"),
        ("found", ["--change", "max-depth=far"], "'far' is no number"),
        ("found", ["--change", "nonsense"], "'nonsense' changes no protocol; write NAME=VALUE"),
        ("found", ["--change", "size=3"], "unknown setting size; known ones: min_depth"),
        ("found", ["--protocol", "nyu-trianflow"], "is of images of 640 x 480 pixels, not 48 x 40"),
        ("found", ["--change", "max_depth=0.5"], "no pixel of 12 images can be compared"),
        ("nowhere", [], "nowhere does not exist"),
        ("pictures", [], "holds uint8 pixels"),
        ("pickled.npz", [], "a pickled one is never opened: save it as float32 (N, H, W)"),
        ("flat.npy", [], "holds float32 (40, 48); expected one array of depth images (N, H, W)"),
        ("twice", [], "several depth images of one name"),
    ],
)
def test_bad_depth_is_refused_in_one_line(
    flight: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], predicted: str, words: list[str], what: str
) -> None:
    for name in ("found", "pictures", "twice"):
        (tmp_path / name).mkdir()
    for stamp, depth in zip(flight.stamps_ns, _predicted(flight), strict=True):
        np.save(tmp_path / f"found/{stamp}.npy", depth)
        np.save(tmp_path / f"twice/{stamp}.npy", depth)
        cv2.imwrite(str(tmp_path / f"twice/{stamp}.tiff"), depth)
        cv2.imwrite(str(tmp_path / f"pictures/{stamp}.png"), np.zeros((40, 48, 3), np.uint8))
    mixed = np.empty(2, dtype=object)
    mixed[:] = [np.ones((3, 3)), np.ones((4, 4))]
    np.savez(tmp_path / "pickled.npz", data=mixed)
    np.save(tmp_path / "flat.npy", _predicted(flight)[0].repeat(2, 0).repeat(2, 1))
    assert _run(tmp_path / predicted, flight.path, *words) == 2
    said = capsys.readouterr().err
    assert what in said
    assert said.count("\n") == 1
    assert not (tmp_path / f"{predicted}-evaluation").exists()


def _kitti(path: Path, T: np.ndarray) -> Path:
    np.savetxt(path, T[:, :3].reshape(-1, 12))
    return path


def _drive(frames: int, off: float) -> np.ndarray:
    rng = np.random.default_rng(4)
    T = [np.eye(4)]
    for k in range(frames - 1):
        turn = 0.02 * np.sin(k / 30)
        T.append(
            T[-1] @ se3.exponential(np.array([0, 0, 1, 0, turn, 0]) + off * rng.normal(0, 1, 6) / [5, 5, 5, 99, 99, 99])
        )
    return np.array(T)


def test_trajectories_against_a_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two sequences by their names; a monocular one shows its scale, and only alignments with one forgive it."""
    for folder in ("true", "found"):
        (tmp_path / folder).mkdir()
    for name, scale in (("00", 1.0), ("01", 0.25)):
        _kitti(tmp_path / f"true/{name}.txt", _drive(300, 0.0))
        found = _drive(300, 0.2)
        found[:, :3, 3] *= scale
        _kitti(tmp_path / f"found/{name}.txt", found)
    _kitti(tmp_path / "true/02.txt", _drive(300, 0.0))
    out = tmp_path / "report"
    assert _run(tmp_path / "found", tmp_path / "true", "--out", out) == 0
    said = capsys.readouterr().out
    assert said.count("\n| 01 |") == 5
    assert "01: one unit of the estimate is 4." in said
    assert "00: one unit" not in said
    sequences = json.loads((out / "metrics.json").read_text())["sequences"]
    figures = sequences["01"]["figures"]
    assert figures["7dof"]["t_err_percent"] < 5 < 70 < figures["6dof"]["t_err_percent"]
    assert figures["7dof"]["t_err_percent"] == pytest.approx(sequences["00"]["figures"]["7dof"]["t_err_percent"])
    for name in ("00", "01"):
        assert cv2.imread(str(out / f"{name}.png")).std() > 10
        errors = (out / f"{name}_errors.csv").read_text().splitlines()
        assert (errors[0], len(errors)) == ("pose,seconds,error_m", 301)
    assert "01.png" in read_page(out / "index.html").files


def test_a_short_flight_proposes_shorter_segments(
    flight: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The poses of a dataset against themselves, moved; its frames are stamped."""
    lines = (flight.path / "groundtruth.txt").read_text().splitlines()
    estimate = tmp_path / "found.txt"
    estimate.write_text("\n".join(lines[:-3]) + "\n")
    assert _run(estimate, flight.path / "groundtruth.txt", "--alignment", "6dof") == 0
    said = capsys.readouterr().out
    assert "no t_err and r_err; --lengths-m " in said
    proposed = said.split("--lengths-m ")[1].splitlines()[0].split()
    words = [estimate, flight.path / "groundtruth.txt", "--out", tmp_path / "again", "--start-every", "1"]
    assert _run(*words, "--lengths-m", *proposed) == 0
    found = json.loads((tmp_path / "again/metrics.json").read_text())["sequences"]["found"]["figures"]["6dof"]
    assert found["segments"] > 0
    assert found["t_err_percent"] == pytest.approx(0, abs=1e-3)
    assert "t_err" not in json.loads((tmp_path / "found.txt-evaluation/metrics.json").read_text())["sequences"]["found"]


def test_a_drive_with_a_slash_in_its_name(tmp_path: Path) -> None:
    settings = OdometryProtocol(lengths_m=(5.0,), delta_s=0.0)
    sequence = measure("2011_09_26/image_02", Paired.of(_drive(30, 0.0), _drive(30, 0.1)), settings)
    write(tmp_path, OdometryReport([sequence], settings, "a drive"))
    assert (tmp_path / "2011_09_26-image_02.png").is_file()
    assert "2011_09_26-image_02.png" in read_page(tmp_path / "index.html").files


def test_what_stands_still_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = _kitti(tmp_path / "still.txt", np.tile(np.eye(4), (30, 1, 1)))
    moving = _kitti(tmp_path / "moving.txt", _drive(30, 0.0))
    assert _run(still, moving, "--out", tmp_path / "a") == 0
    assert "still: the estimate stands still, so that no scale can be found" in capsys.readouterr().out
    assert _run(moving, still, "--out", tmp_path / "b") == 0
    said = capsys.readouterr().out
    assert "moving: the reference stands still" in said
    assert "--lengths-m" not in said


def test_bad_trajectories_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true = _kitti(tmp_path / "true.txt", _drive(30, 0.0))
    (tmp_path / "empty").mkdir()
    (tmp_path / "strange.txt").write_text("1 2 3\n")
    for folder, name in (("found", "09"), ("others", "10")):
        (tmp_path / folder).mkdir()
        _kitti(tmp_path / folder / f"{name}.txt", _drive(30, 0.1))
    for words, what in (
        ((tmp_path / "strange.txt", true), "lines of 3 values: no trajectory of a known format"),
        ((tmp_path / "empty", true), "is a folder without poses; name the trajectory file in it"),
        ((tmp_path / "found", tmp_path / "others"), "no trajectory of"),
        ((true, true, "--lengths-m", "-5"), "give one length or several, all above 0"),
        ((true, true, "--delta-s", "1"), "relative errors over a time need stamps"),
        ((true, true, "--start-every", "0"), "start_every is 0; it must be at least 1"),
    ):
        assert _run(*words) == 2, words
        said = capsys.readouterr().err
        assert what in said
        assert said.count("\n") == 1


def test_folders_of_snippets_are_measured_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As SfMLearner's code writes them: a file of five stamped poses each, in the first one's frame, of any scale."""

    def write(folder: str, T: np.ndarray, scale: float, missing: int) -> None:
        (tmp_path / folder).mkdir()
        for first in range(20):
            run = np.linalg.inv(T[first]) @ T[first : first + 5]
            run[:, :3, 3] *= scale
            position, quat = se3.split(run)
            rows = np.column_stack([first / 10 + np.arange(5) / 10, position, quat])
            np.savetxt(tmp_path / folder / f"{first:06d}.txt", rows[: 4 if first == missing else 5], fmt="%.6f")

    write("true", _drive(24, 0.0), 1.0, -1)
    write("found", _drive(24, 0.1), 0.03, 7)
    assert _run(tmp_path / "found", tmp_path / "true", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "1 snippet of the reference left out" in said
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (found["snippets"], found["frames"]) == (19, 5)
    whole = odometry_metrics(Paired.of(_drive(24, 0.0), _drive(24, 0.1)))
    assert whole["snippets"] == 20
    assert found["figures"]["ate_m"] == pytest.approx(whole["snippet_ate_m"], rel=0.1)
    assert found["figures"]["rotation_rad"] == pytest.approx(whole["snippet_rotation_rad"], rel=0.1)
    assert f"ATE {found['figures']['ate_m']:.4f} ±" in (tmp_path / "out/index.html").read_text()

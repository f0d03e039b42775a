"""Tiny real trainings: they learn, stop, resume to the bit, and refuse what cannot work."""

from __future__ import annotations

import csv
import dataclasses
import logging
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.two_processes import run_on_two_processes

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.picture_report import evaluate
from pose2rgbd_ros.models.graphs import StoredGraph
from pose2rgbd_ros.models.pose2rgbd import export
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.training import trainer
from pose2rgbd_ros.training.checkpoint import as_tensors, load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.evaluators import PictureEvaluator
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import TrainResult, train


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("data") / "flight", frames=80)  # 8 choose and 8 judge


def tiny(**settings: object) -> TrainConfig:
    values = {"model": "base", "size": 32, "width": 0.125, "device": "cpu", "epochs": 3, "validate_every": 2}
    return train_config(**{**values, "tensorboard": False, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["base", "slice-4"])
def test_a_run_learns_and_leaves_everything_behind(flight: Path, tmp_path: Path, model: str) -> None:
    out = tmp_path / "run"
    result = train(
        flight, out, tiny(model=model, epochs=45, validate_every=15, batch_size=4, tensorboard=True, split="random")
    )
    assert result.scores["rgb_mae_px"] < 0.8 * result.baseline["rgb_mae_px"]
    assert result.scores["depth_mae"] < 0.8 * result.baseline["depth_mae"]
    assert not result.collapsed
    checkpoint = load_checkpoint(out)
    assert checkpoint.metrics["rgb_mae_px"] == pytest.approx(result.scores["rgb_mae_px"], abs=1e-5)
    assert checkpoint.depth_kind == "metric"
    assert checkpoint.camera.width == checkpoint.camera.height == 32
    assert checkpoint.camera.fx != checkpoint.camera.fy, "48 x 40 squeezed into a square"
    assert len(checkpoint.training_T_map_cam) == checkpoint.provenance["frames"]["train"]
    assert checkpoint.provenance["split"]["name"] == "random"
    assert read_yaml(out / "config.yaml")["model"] == model
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    assert [float(row["epoch"]) for row in rows] == [15, 30, 45]
    assert {"rgb_mae_px", "depth_mae", "psnr_db", "ssim", "variation"} <= set(rows[0])
    assert {file.name for file in (out / "samples").iterdir()} >= {"epoch-0015.png", "best.png"}
    assert any((out / "tb").iterdir())
    assert {file.suffix for file in (out / "last").iterdir()} == {".safetensors", ".yaml"}


def interrupted_run(monkeypatch: pytest.MonkeyPatch, at_step: int, *arguments: object) -> TrainResult:
    """Train, and press Ctrl-C during the given step."""
    step = trainer._Run._step

    def step_and_interrupt(run: trainer._Run, share: float) -> None:
        if run.state.step == at_step:
            signal.raise_signal(signal.SIGINT)
        step(run, share)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "_step", step_and_interrupt)
        return train(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("recipe", [{}, {"recipe": "paper"}, {"ema_decay": 0.9, "model": "slice-3"}])
def test_interrupted_and_resumed_equals_uninterrupted(
    flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: dict[str, object]
) -> None:
    config = tiny(epochs=4, **recipe)
    whole = train(flight, tmp_path / "whole", config)
    first = interrupted_run(monkeypatch, 2, flight, tmp_path / "parts", config)
    assert first.interrupted
    assert 0 < first.epochs < whole.epochs
    second = train(flight, tmp_path / "parts", config, resume=True)
    assert not second.interrupted
    assert second.epochs == whole.epochs
    assert second.scores == whole.scores
    for folder, name in (("last", "state"), ("checkpoint", "weights")):
        once = load_file(tmp_path / "whole" / folder / f"{name}.safetensors")
        twice = load_file(tmp_path / "parts" / folder / f"{name}.safetensors")
        assert once.keys() == twice.keys()
        for key, tensor in once.items():
            assert torch.equal(tensor, twice[key]), f"{folder}: {key} differs"


def test_an_interrupted_run_already_has_a_model(flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = interrupted_run(monkeypatch, 2, flight, tmp_path / "run", tiny())
    assert result.interrupted
    assert load_checkpoint(result.checkpoint).metrics["rgb_mae_px"] > 0


@pytest.mark.parametrize("output", ["auto", "rgb"])
def test_a_dataset_without_depth_trains_in_colour(
    flight_dataset: Callable[..., Path], tmp_path: Path, output: str
) -> None:
    flight = flight_dataset(tmp_path / "colour", frames=12, depth_kind=None)
    result = train(flight, tmp_path / "run", tiny(output=output))
    assert "depth_mae" not in result.scores
    checkpoint = load_checkpoint(result.checkpoint)
    assert checkpoint.output == "rgb"
    assert checkpoint.depth_kind is None
    assert checkpoint.normalization.depth_min is None


@pytest.mark.parametrize("settings", [{"output": "rgbd"}, {"output": "depth"}, {"model": "slice-10"}])
def test_depth_cannot_be_learnt_where_there_is_none(
    flight_dataset: Callable[..., Path], tmp_path: Path, settings: dict[str, object]
) -> None:
    flight = flight_dataset(tmp_path / "colour", frames=12, depth_kind=None)
    with pytest.raises(UserError, match="no depth"):
        train(flight, tmp_path / "run", tiny(**settings))


def test_relative_depth_stays_relative(flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    flight = flight_dataset(tmp_path / "relative", frames=12, depth_kind="relative")
    result = train(flight, tmp_path / "run", tiny(model="slice-4"))
    assert load_checkpoint(result.checkpoint).depth_kind == "relative"
    assert result.depth_unit == "(relative)"
    assert np.isfinite(result.scores["depth_mae"])


@pytest.mark.parametrize(
    "settings", [{"output": "depth"}, {"rotation": "euler"}, {"final": "sigmoid"}, {"fit": "crop"}]
)
def test_other_settings_train(flight: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    result = train(flight, tmp_path / "run", tiny(**settings))
    checkpoint = load_checkpoint(result.checkpoint)
    assert ("rgb_mae_px" in result.scores) == (checkpoint.output != "depth")
    assert checkpoint.normalization.pose_dim == (6 if settings.get("rotation") == "euler" else 7)
    assert (checkpoint.camera.fx == checkpoint.camera.fy) == (settings.get("fit") == "crop")


def test_a_time_budget_ends_the_run(flight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It counts the training alone, and how long it took to set that up is said."""
    caplog.set_level(logging.INFO)
    result = train(flight, tmp_path / "run", tiny(epochs=None, validate_every=None, max_minutes=0.05))
    assert result.seconds > 2.0, "and it ended, which only the budget can have done"
    assert result.epochs >= 1
    (told,) = [line for line in caplog.messages if "--max-minutes" in line]
    assert re.fullmatch(r"set up in \d+ s, beside --max-minutes", told)
    caplog.clear()
    train(flight, tmp_path / "epochs", tiny(epochs=1))
    assert not any("--max-minutes" in line for line in caplog.messages)


def test_early_stop(flight: Path, tmp_path: Path) -> None:
    config = tiny(epochs=500, validate_every=1, early_stop=2, learning_rate=0.0)  # nothing can get better
    result = train(flight, tmp_path / "run", config)
    assert result.epochs < 20


def test_with_few_held_out_frames_nothing_chooses(
    flight_dataset: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flight = flight_dataset(tmp_path / "flight", frames=12)
    result = train(flight, tmp_path / "run", tiny())
    assert "2 frames held out, too few to choose by: for judging only" in caplog.text
    assert result.scored_on == "train"
    checkpoint = load_checkpoint(tmp_path / "run")
    assert (checkpoint.provenance["kept"], checkpoint.provenance["scored_on"]) == ("last", "train")
    last = load_file(tmp_path / "run" / "last" / "state.safetensors")
    assert all(
        torch.equal(kept, last[f"model.model.{name}"]) for name, kept in as_tensors(checkpoint.state_dict).items()
    )
    report = evaluate(tmp_path / "run", flight, tmp_path / "report", device="cpu")
    assert len(report.stamps_ns) == 2
    assert "too few frames were held out to choose by" in report.table()
    with pytest.raises(UserError, match="no frame was held out to choose by"):
        evaluate(tmp_path / "run", flight, tmp_path / "report", split="choose", device="cpu")
    with pytest.raises(UserError, match=r"too few to choose by.*leave out --early-stop"):
        train(flight, tmp_path / "stopped", tiny(early_stop=2))


def test_the_last_weights_are_kept_where_nothing_may_be_chosen_on_held_out_frames(
    flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a value that only gets worse "best" keeps the first weights validated, "last" those of the end."""
    values = iter(range(1000))
    monkeypatch.setattr(PictureEvaluator, "value", lambda *_: float(next(values)))
    steps = {}
    for keep in ("best", "last"):
        out = tmp_path / keep
        train(flight, out, tiny(epochs=4, validate_every=1, keep=keep))
        kept = as_tensors(load_checkpoint(out).state_dict)
        last = load_file(out / "last" / "state.safetensors")
        steps[keep] = all(torch.equal(kept[name], last[f"model.model.{name}"]) for name in kept)
        assert (out / "samples" / f"{keep}.png").exists()
    assert steps == {"best": False, "last": True}
    with pytest.raises(UserError, match="leave one out"):
        tiny(keep="last", early_stop=3)


def test_a_run_leaves_what_its_checkpoint_needs_without_pytorch(
    flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = train(flight, tmp_path / "run", tiny(epochs=1)).checkpoint
    assert StoredGraph(path, load_checkpoint(path), export.EXPORTER).why_not == ""

    def fails(*_: object) -> None:
        raise UserError("install onnx")

    monkeypatch.setattr(export, "export_checkpoint", fails)
    path = train(flight, tmp_path / "other", tiny(epochs=1)).checkpoint
    assert "the checkpoint does not run without PyTorch: install onnx" in caplog.text
    assert StoredGraph(path, load_checkpoint(path), export.EXPORTER).why_not == f"{path}/renderer.onnx is not there"


def test_the_running_average_is_what_is_kept(flight: Path, tmp_path: Path) -> None:
    train(flight, tmp_path / "run", tiny(epochs=1, ema_decay=0.9, keep="last"))
    kept = as_tensors(load_checkpoint(tmp_path / "run").state_dict)
    last = load_file(tmp_path / "run" / "last" / "state.safetensors")
    assert all(torch.equal(kept[name], last[f"average.module.{name}"]) for name in kept)
    assert not all(torch.equal(kept[name], last[f"model.model.{name}"]) for name in kept)


def test_a_collapsed_network_is_noticed(flight: Path, tmp_path: Path) -> None:
    # The decay leaves the network only its biases: one image for every pose.
    result = train(flight, tmp_path / "run", tiny(epochs=15, weight_decay=300.0, learning_rate=0.003))
    assert result.collapsed
    assert result.scores["variation"] < 0.1


def test_a_collapsed_run_is_named_and_stopped(flight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With what to change; unless told otherwise."""
    spoilt = {"weight_decay": 300.0, "learning_rate": 0.003, "schedule": "fixed", "keep": "last"}
    result = train(flight, tmp_path / "stopped", tiny(epochs=30, validate_every=1, **spoilt))
    assert 10 <= result.epochs <= 13
    assert result.collapsed
    assert not result.interrupted
    assert "collapsed: it answers nearly alike whatever its input (variation 0.0" in result.stopped
    assert "other than 0.003 (lower first), another --recipe than default or a larger --width than" in result.stopped
    assert result.stopped in caplog.text
    whole = train(flight, tmp_path / "whole", tiny(epochs=15, validate_every=1, **spoilt, stop_collapsed=False))
    assert (round(whole.epochs), whole.stopped, whole.collapsed) == (15, "", True)


@pytest.mark.parametrize(
    ("schedule", "variations", "stopped_at"),
    [
        ("fixed", [0.01] * 20, 0.35),
        ("cosine", [0.01] * 20, 0.8),  # a falling rate may free it yet ...
        ("cosine", [0.01] * 13 + [0.2] * 7, None),  # ... as it has been seen to do
        ("cosine", [0.1, 0.1, 0.4] + [0.1] * 17, 0.35),  # it varied once
        ("cosine", [300.0] + [0.1] * 19, 0.8),  # that was no more than a wild start
        ("fixed", [0.6] * 12 + [0.1] * 8, 0.7),
        ("fixed", [0.6] * 8 + [0.1, 0.1, 0.6] * 4, None),  # never three in a row
    ],
)
def test_a_run_is_given_up_when_it_will_not_recover(
    flight: Path, tmp_path: Path, schedule: str, variations: list[float], stopped_at: float | None
) -> None:
    config = tiny(schedule=schedule)
    run = trainer._Run(trainer.make_fabric(config), open_training_data(flight, config), tmp_path, config)
    shares = []
    for index, variation in enumerate(variations):
        run.latest = {"variation": variation}
        run._watch_for_collapse(index / 20)
        if run.stop:
            shares.append(index / 20)
    assert shares[:1] == ([] if stopped_at is None else [stopped_at])


def test_a_diverging_run_is_named(flight: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not finite any more at step .*; use a lower --learning-rate"):
        train(flight, tmp_path / "run", tiny(epochs=30, learning_rate=1e30, final="none"))


def test_cuda_asked_for_and_absent(flight: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UserError, match=r"cuda was asked for, but .*use --device cpu or auto"):
        train(flight, tmp_path / "run", tiny(device="cuda"))
    assert not (tmp_path / "run").exists()


def test_bf16_is_for_gpus(flight: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bf16 needs a GPU"):
        train(flight, tmp_path / "run", tiny(precision="bf16"))


def test_a_run_is_not_overwritten_nor_mixed(flight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(flight, out, tiny())
    with pytest.raises(UserError, match="not empty; continue that run with --resume"):
        train(flight, out, tiny())
    with pytest.raises(UserError, match="started with seed=0, now it is 1"):
        train(flight, out, tiny(seed=1), resume=True)
    with pytest.raises(UserError, match="does not exist"):
        train(flight, tmp_path / "other", tiny(), resume=True)


def test_a_damaged_state_is_named(flight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(flight, out, tiny())
    state = out / "last" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(UserError, match="damaged or no safetensors"):
        train(flight, out, tiny(), resume=True)


def test_a_dataset_that_grew_is_not_resumed_on(flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    train(flight_dataset(tmp_path / "before", frames=12), tmp_path / "run", tiny())
    with pytest.raises(UserError, match=r"are not those .* was started with; train anew"):
        train(flight_dataset(tmp_path / "after", frames=14), tmp_path / "run", tiny(), resume=True)


@pytest.mark.parametrize("settings", [{"size": 48}, {"model": "slice-10", "output": "rgb"}])
def test_impossible_settings_leave_nothing_behind(
    flight_dataset: Callable[..., Path], tmp_path: Path, settings: dict[str, object]
) -> None:
    flight = flight_dataset(tmp_path / "flight", frames=12)
    with pytest.raises(UserError, match=r"power of two|needs depth"):
        train(flight, tmp_path / "run", tiny(**settings))
    assert not (tmp_path / "run").exists(), "the next try, with better settings, would find it in use"
    assert not (flight / ".cache").exists(), "told before the frames are cached"


def test_held_out_frames_without_depth_are_named(flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    flight = flight_dataset(tmp_path / "flight", frames=80)
    held_out = open_training_data(flight, tiny(output="depth")).split.test
    for index in held_out:
        (file,) = (flight / "depth").glob(f"{Dataset(flight).stamps_ns[index]}.*")
        cv2.imwrite(str(file), np.zeros_like(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)))
    shutil.rmtree(flight / ".cache")
    with pytest.raises(UserError, match="no model was kept"):
        train(flight, tmp_path / "run", tiny(output="depth"))


def test_a_resumed_run_knows_its_best_score(flight: Path, tmp_path: Path) -> None:
    # The last weights are scored after the last step; a run that goes on must not put worse ones in their place.
    train(flight, tmp_path / "run", tiny(epochs=5, validate_every=100))
    assert read_yaml(tmp_path / "run" / "last" / "state.yaml")["best_score"] < float("inf")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_cuda_trains_resumes_and_evaluates(flight: Path, tmp_path: Path, precision: str) -> None:
    config = tiny(device="cuda", precision=precision, model="slice-4", ema_decay=0.9, epochs=20)
    train(flight, tmp_path / "run", config)
    result = train(flight, tmp_path / "run", dataclasses.replace(config, epochs=60), resume=True)
    assert result.epochs == 60
    assert load_checkpoint(result.checkpoint).provenance["device"].startswith("cuda")
    assert result.scores["rgb_mae_px"] < result.baseline["rgb_mae_px"] * 1.5
    again = evaluate(result.checkpoint, flight, tmp_path / "report", device="cuda")
    assert again.scores["model"]["depth_mae"] == pytest.approx(result.scores["depth_mae"], rel=1e-3)


# Of those left over the interpreter's end could be the process's: SIGABRT after a training that went well.
COUNT_THREADS = (
    "names = [f.read_text() for f in Path('/proc/self/task').glob('*/comm')]; "
    "print(f\"threads of gloo: {sum('gloo' in name for name in names)}\\n\", end='', flush=True)"
)


@pytest.mark.slow
def test_the_process_group_is_left_after_an_error_too(flight: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from pose2rgbd_ros.errors import UserError; "
        "from pose2rgbd_ros.training.trainer import train; from pose2rgbd_ros.training.families import train_config\n"
        "try:\n"
        "    train(Path(sys.argv[1]), Path(sys.argv[2]), train_config(size=32, device='cpu', model='posegan'))\n"
        "except UserError as error:\n"
        "    print(f'refused: {error}\\n', end='', flush=True)\n"
        f"{COUNT_THREADS}"
    )
    printed = run_on_two_processes(program, tmp_path, flight, tmp_path / "run", timeout_s=800)
    assert printed.count("refused:") == 2
    assert printed.count("threads of gloo: 0") == 2


@pytest.mark.slow
def test_two_processes_train_one_model(flight: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from pose2rgbd_ros.training.trainer import train; "
        "from pose2rgbd_ros.training.families import train_config; "
        "c = train_config(size=32, width=0.125, device='cpu', epochs=60, validate_every=30, tensorboard=False,"
        " model='slice-3', slice_features='first', split='random'); "
        "print(f'epochs {train(Path(sys.argv[1]), Path(sys.argv[2]), c).epochs}\\n', end='', flush=True); "
        f"{COUNT_THREADS}"
    )
    printed = run_on_two_processes(program, tmp_path, flight, tmp_path / "run", timeout_s=800)
    assert printed.count("epochs 60.0") == 2
    assert printed.count("threads of gloo: 0") == 2
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.metrics["rgb_mae_px"] < checkpoint.provenance["mean_image"]["rgb_mae_px"]

"""`pose2rgbd calibrate` and `locate` with a network that finds poses, end to end."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import support.carpet as carpet
import support.small_relief as small_relief
import yaml
from safetensors.numpy import load_file, save_file
from scipy.spatial.transform import Rotation
from support.pages import read_page

from pose2rgbd_ros.cli import learn, locate
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.calibrate_poses import (
    Frames,
    JudgedPoses,
    LocalizerGoal,
    _fit,
    _measure,
    calibrate_localizer,
)
from pose2rgbd_ros.evaluation.depth_bounds import deals
from pose2rgbd_ros.evaluation.held_out import Units
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization import covariance
from pose2rgbd_ros.localization.estimate import Estimate, heading_deg
from pose2rgbd_ros.localization.gate import DOUBTS, novelty_cues
from pose2rgbd_ros.localization.localizer import FILES, Localizer, pose_network
from pose2rgbd_ros.localization.predict import ImageEncoder, PosePrediction
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

FRAMES, REALISM = 120, list(DOUBTS).index("realism")


def predictions(loaded: Checkpoint, crops: int, data: Dataset, frames: list[int]) -> list[PosePrediction]:
    encoder = ImageEncoder(loaded, pose_network(loaded), "cpu", crops)
    return encoder.read([encoder.prepare(data.rgb(frame), data.camera) for frame in frames])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A calibrated run, and its dataset: a flight in curves over the carpet."""
    folder = tmp_path_factory.mktemp("place")
    t = np.linspace(0, 4 * np.pi, FRAMES)
    dataset = carpet.write_flight(folder / "data", carpet.carpet(0), carpet.poses(15 * np.cos(t / 2), 9 * np.sin(t)))
    carpet.write_posenet(folder / "run" / "checkpoint", dataset)
    assert learn.calibrate_main([str(folder / "run"), str(dataset), "--device", "cpu"]) == 0
    return folder / "run", dataset


def test_it_writes_figures_arrays_and_a_page(place: tuple[Path, Path]):
    run, _ = place
    figures = yaml.safe_load((run / "checkpoint" / FILES.yaml).read_text())["figures"]
    assert figures["frames"] >= 16
    assert 0.5 < figures["accepted"][0] <= 1.0
    assert set(figures["coverage"]) == {"0.5", "0.9", "0.95"}
    split = carpet.split_of(Dataset(place[1]))
    assert figures["frames"] == len(split.choose)
    judged = figures["judged"]
    assert judged["frames"] == len(split.judge)
    assert set(judged["coverage"]) == {"0.5", "0.9", "0.95"}
    page = read_page(run / "report" / "calibration.html")
    assert f"judged on {len(split.judge)} other held-out frames" in page.text
    assert page.files == ["coverage.png", "examples.png"]
    kept = all(
        judged["coverage"][level][part][2] >= float(level)
        for level in judged["coverage"]
        for part in ("position", "rotation")
    )
    assert page.verdict[0] == ("good" if kept else "bad")
    value, low, high = judged["coverage"]["0.9"]["position"]
    assert page.tables[0][2][:2] == ["90%", f"{value:.1%} ({low:.1%} to {high:.1%})"]


def test_what_judges_changes_no_covariance_and_no_limit(place: tuple[Path, Path], tmp_path: Path):
    """The same flight, but frames that judge have poses 40 m off: nothing else may differ, and it is told."""
    _, dataset = place
    split, data = carpet.split_of(Dataset(dataset)), Dataset(dataset)
    off = data.T_map_cam.copy()
    off[split.judge, 2, 3] += 40.0
    moved = carpet.write_flight(tmp_path / "moved", carpet.carpet(0), data.T_map_cam, T_recorded=off)
    found = [
        calibrate_localizer(carpet.write_posenet(tmp_path / "runs" / path.name, dataset), path, LocalizerGoal(crops=1))
        for path in (dataset, moved)
    ]
    for name in ("scatter", "weights", "centre", "spread"):
        first, second = (getattr(one.calibration.covariance, name) for one in found)
        assert np.array_equal(first, second)
    assert found[0].calibration.gate.limit == found[1].calibration.gate.limit
    assert set(found[0].held_out.frames).isdisjoint(split.judge)
    assert found[1].judged.position_m > 30.0
    assert found[1].judged.coverage[1][0].value < 0.5 * found[0].judged.coverage[1][0].value
    assert found[0].judged.accepted == found[1].judged.accepted
    line = found[1].line().splitlines()[1]
    assert f"judged on {len(split.judge)} other held-out frames" in line


def test_judged_poses_by_hand():
    """Four lines; covariances are along the map's axes, whatever the camera's heading."""
    generator = np.random.default_rng(0)
    sigma = np.array([1.0, 2.0, 3.0, 0.01, 0.02, 0.03])
    answers, true, size = [], [], []
    for index in range(4000):
        T = np.eye(4)
        T[:3, :3] = Rotation.from_euler("z", generator.uniform(0, 6)).as_matrix() @ np.diag([1.0, -1.0, -1.0])
        error = generator.normal(0, sigma)
        size.append([np.linalg.norm(error[:3]), np.degrees(np.linalg.norm(error[3:]))])
        answers.append(Estimate(T, np.diag(sigma**2), accepted=index % 4 > 0))
        T_true = np.eye(4)
        T_true[:3, :3], T_true[:3, 3] = Rotation.from_rotvec(error[3:]).as_matrix() @ T[:3, :3], error[:3]
        true.append(T_true)
    answers[0] = Estimate(None, accepted=False, reason="the image is black")
    lines = Units(np.arange(4000), np.arange(4000) // 1000 + 5, "lines")
    judged = JudgedPoses.of(answers, np.stack(true), lines)
    shares = [[one.value for one in row] for row in judged.coverage]
    assert np.allclose(shares, [[level] * 3 for level in (0.5, 0.9, 0.95)], atol=0.02)
    assert judged.accepted.value == 0.75
    assert (judged.frames, judged.units) == (4000, 4)
    medians = np.median([one for one, answer in zip(size, answers, strict=True) if answer.accepted], axis=0)
    assert (judged.position_m, judged.rotation_deg) == pytest.approx(tuple(medians))
    none = JudgedPoses.of([], np.zeros((0, 4, 4)), Units(np.array([], int), np.array([], int), "lines"))
    assert "nothing was left to judge on" in none.line()
    rejected = JudgedPoses.of(answers[:1], np.stack(true[:1]), Units(np.arange(1), np.zeros(1, int), "lines"))
    assert rejected.accepted.value == 0.0
    assert np.isnan(rejected.coverage[1][0].value)


def drawn_frames(seed: int, lines: int = 8, each: int = 25) -> tuple[Frames, np.ndarray]:
    """Frames of some lines, errors of which grow with the first doubt; and figures of training frames."""
    generator, count = np.random.default_rng(seed), lines * each
    doubts = generator.normal(size=(count, 5))
    errors = generator.normal(size=(count, 6)) * np.repeat([1.0, 0.02], 3) * np.exp(0.5 * doubts[:, :1])
    figures = [120.0, 50.0, 1.0] * generator.uniform(0.9, 1.1, (2, count, 3))
    return Frames(errors, doubts, figures[0], np.arange(count) // each), figures[1]


def test_a_line_is_measured_by_what_other_lines_taught():
    """Its own errors change nothing of what is promised for it, and its own doubts do not raise the limit it is held
    to.
    """
    frames, figures = drawn_frames(0)
    halves = deals(np.unique(frames.unit))
    judged = np.concatenate([np.flatnonzero(~np.isin(frames.unit, half)) for half in halves])
    plain = _measure(frames, figures, 0.95)
    size = (np.linalg.norm(frames.errors[judged, :3], axis=1), np.linalg.norm(frames.errors[judged, 3:], axis=1))
    assert np.allclose([plain.position_m, np.radians(plain.rotation_deg)], size), "those that were not fitted on"
    for line in (0, 5):
        own, mine = frames.unit == line, frames.unit[judged] == line
        wrong = replace(frames, errors=np.where(own[:, None], 50.0, 1.0) * frames.errors)
        found = _measure(wrong, figures, 0.95)
        assert np.array_equal(found.sigma_m[mine], plain.sigma_m[mine])
        assert np.array_equal(found.accepted_at, plain.accepted_at)
        assert not np.allclose(found.sigma_m[~mine], plain.sigma_m[~mine])
        assert found.coverage[1][0].value < plain.coverage[1][0].value - 0.5 / 8
        strange = replace(frames, doubts=frames.doubts + np.where(own[:, None], 9.0, 0.0))
        assert not _measure(strange, figures, 0.95).accepted_at[mine].any()


def test_measured_shares_are_those_of_accepted_frames():
    """Rejected frames, of enormous errors, are counted as rejected and nowhere else."""
    frames, figures = drawn_frames(1)
    frames.doubts[::10] += 30.0
    frames.errors[::10] *= 1e3
    measured = _measure(frames, figures, 0.85)
    assert measured.accepted.value == measured.accepted_at.mean() < 0.9
    assert measured.position_m[measured.accepted_at].max() < 100.0 < measured.position_m.max()
    for row, level in zip(measured.coverage, covariance.LEVELS, strict=True):
        shares = [one.value for one in row]
        at = np.flatnonzero(np.isclose(measured.curve[:, 0], level))[0]
        assert np.allclose(measured.curve[at, 1:], shares), "the curve is of the same frames"
        assert np.allclose(shares, level, atol=0.16)


def test_sigma_is_that_of_the_worst_direction():
    frames, figures = drawn_frames(2)
    frames.errors[:, 1] *= 20.0
    measured = _measure(frames, figures, 0.95)
    assert 0.5 < np.median(measured.position_m) / np.median(measured.sigma_m) < 1.5


def test_errors_of_rejected_frames_teach_nothing():
    """Neither of those whose doubts are too many nor of those whose image itself is refused."""
    frames, figures = drawn_frames(3)
    doubtful, dark = np.arange(0, 200, 25), np.arange(3, 200, 100)
    frames.doubts[doubtful] += 30.0
    frames.figures[dark, 0] = 5.0
    rejected = np.isin(np.arange(200), np.concatenate([doubtful, dark]))
    bright = np.tile(figures, (3, 1))  # so many that the dark ones are no part of what is usual
    model, gate = _fit(frames, bright, 0.95)
    assert all(gate.reason(one) for one in frames.doubts[doubtful])
    assert all(gate.look(one) for one in frames.figures[dark])
    wrong = replace(frames, errors=np.where(rejected[:, None], 1e3, 1.0) * frames.errors)
    wronged = _fit(wrong, bright, 0.95)[0]
    assert np.array_equal(wronged.scatter, model.scatter)
    assert np.array_equal(wronged.weights, model.weights)
    accepted = replace(frames, errors=np.where(rejected[:, None], 1.0, 3.0) * frames.errors)
    sizes = [one.covariance_level(np.zeros((1, 5)))[0] for one in (_fit(accepted, bright, 0.95)[0], model)]
    assert np.allclose(sizes[0], 9 * sizes[1])


def test_held_out_images_are_no_stranger_than_themselves():
    """Of other brightness than the training frames': what is held out belongs to the place as well."""
    frames, figures = drawn_frames(4)
    brighter = replace(frames, figures=frames.figures * [1.6, 1.0, 1.0])
    gate = _fit(brighter, figures, 0.95)[1]
    assert not any(gate.look(one) for one in brighter.figures)
    assert not any(gate.look(one) for one in figures)


def test_estimates_have_a_covariance_and_bad_images_a_reason(place: tuple[Path, Path]):
    run, dataset = place
    localizer, data = Localizer(run, "cpu"), Dataset(dataset)
    frames = range(0, FRAMES, 6)
    found = localizer.find_all((data.rgb(i) for i in frames), data.camera)
    assert np.mean([one.accepted for one in found]) > 0.6
    for one in found:
        assert (np.linalg.eigvalsh(one.covariance) > 0).all()
        assert one.accepted == (one.score <= one.limit) == (one.reason == "")
    alone = localizer.find(data.rgb(6), data.camera)
    assert np.allclose(alone.T_map_cam, found[1].T_map_cam, atol=1e-4)
    black = localizer.find(np.zeros((144, 144, 3), np.uint8), data.camera)
    assert (black.accepted, black.T_map_cam) == (False, None)
    assert "black" in black.reason
    dark = localizer.find((data.rgb(0) * 0.3).astype(np.uint8), data.camera)
    assert "too dark" in dark.reason
    assert Localizer(run, "cpu", gate=False).find((data.rgb(0) * 0.3).astype(np.uint8), data.camera).accepted
    assert localizer.calibration.gate.spread[REALISM] == 0, "a network without a discriminator"
    uncalibrated = Localizer(run, "cpu", calibrated=False).find(data.rgb(0), data.camera)
    assert uncalibrated.covariance is None
    assert uncalibrated.accepted


def test_a_calibration_of_other_weights_or_damaged_is_refused(place: tuple[Path, Path], tmp_path: Path):
    run, dataset = place
    copy = carpet.write_posenet(tmp_path / "copy", dataset, seed=1)
    for name in (FILES.yaml, FILES.arrays):
        (copy / name).write_bytes((run / "checkpoint" / name).read_bytes())
    with pytest.raises(UserError, match="of other weights"):
        Localizer(copy, "cpu")
    again = carpet.write_posenet(tmp_path / "again", dataset)
    (again / FILES.yaml).write_bytes((run / "checkpoint" / FILES.yaml).read_bytes())
    arrays = load_file(run / "checkpoint" / FILES.arrays)
    save_file({**arrays, "gate.limit": np.array(np.nan)}, again / FILES.arrays)
    with pytest.raises(UserError, match="not of one calibration"):
        Localizer(again, "cpu")


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("format_version", 2, "format_version is 2"),
        ("crops", 4, "crops is 4"),
        ("gate.limit", np.array(np.nan), "gate.limit is not finite"),
        ("covariance.scatter", np.full((6, 6), np.inf), "covariance.scatter is not finite"),
    ],
)
def test_a_calibration_that_says_the_impossible_is_refused(
    place: tuple[Path, Path], tmp_path: Path, key: str, value: object, word: str
):
    """Files that belong together, of values that cannot be."""
    copy = carpet.write_posenet(tmp_path / "copy", place[1])
    values = yaml.safe_load((place[0] / "checkpoint" / FILES.yaml).read_text())
    arrays = load_file(place[0] / "checkpoint" / FILES.arrays)
    (arrays if key in arrays else values)[key] = value
    save_file(arrays, copy / FILES.arrays)
    values["arrays_sha256"] = hashlib.sha256((copy / FILES.arrays).read_bytes()).hexdigest()
    (copy / FILES.yaml).write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=word):
        Localizer(copy, "cpu")


def test_a_calibration_comes_back_as_it_was_and_with_its_crops(place: tuple[Path, Path], tmp_path: Path):
    dataset = place[1]
    checkpoint, data = carpet.write_posenet(tmp_path / "checkpoint", dataset), Dataset(dataset)
    made = calibrate_localizer(checkpoint, dataset, LocalizerGoal(crops=5)).calibration
    read = Localizer(checkpoint, "cpu").calibration
    assert (read.crops, read.true_accept, read.figures["judged"]) == (5, 0.95, made.figures["judged"])
    for part in ("covariance", "gate", "features", "memory"):
        for name, value in vars(getattr(made, part)).items():
            assert np.array_equal(getattr(getattr(read, part), name), value), (part, name)
    loaded = load_checkpoint(checkpoint)
    (seen,) = predictions(loaded, 5, data, [6])
    found = Localizer(checkpoint, "cpu").find(data.rgb(6), data.camera)
    assert np.allclose(found.T_map_cam, seen.T_map_cam, atol=1e-4)
    figures = novelty_cues(seen, made.features, made.memory)
    assert found.score == pytest.approx(made.gate.score(figures), rel=1e-3)
    assert found.limit == made.gate.limit
    assert np.allclose(found.covariance, made.covariance.covariance_map(figures, seen.T_map_cam), rtol=1e-3)


def test_what_the_network_sees_is_that_of_the_centre_crop(place: tuple[Path, Path]):
    loaded, data = load_checkpoint(place[0] / "checkpoint"), Dataset(place[1])
    one, five = (predictions(loaded, crops, data, [6, 40]) for crops in (1, 5))
    features = [[seen.features for seen in each] for each in (one, five)]
    assert np.allclose(*features, atol=1e-4)
    assert not np.allclose(features[0][0], features[0][1], atol=1e-2)
    assert all(seen.spread.min() > 0 for seen in five)


def test_another_recording_needs_the_dataset_trained_on(place: tuple[Path, Path], tmp_path: Path):
    run, dataset = place
    T = carpet.poses(np.linspace(-12, 12, 24), np.full(24, 3.0))
    other = carpet.write_flight(tmp_path / "other", carpet.carpet(0), T, begin_ns=2 * 10**18)
    with pytest.raises(UserError, match="--training-dataset"):
        learn.calibrate_main([str(run), str(other), "--device", "cpu", "--out", str(tmp_path)])
    checkpoint = carpet.write_posenet(tmp_path / "checkpoint", dataset)
    found = calibrate_localizer(checkpoint, other, LocalizerGoal(crops=1), training_dataset=dataset)
    assert found.held_out.notes == ("another recording than the training's",)
    assert Localizer(checkpoint, "cpu").calibration.crops == 1
    with pytest.raises(UserError, match="true_accept"):
        calibrate_localizer(checkpoint, other, LocalizerGoal(true_accept=0.2), training_dataset=dataset)


def test_locate_prints_answers_and_writes_them(
    place: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, dataset = place
    table, track = tmp_path / "poses.csv", tmp_path / "poses.txt"
    assert locate.main([str(run), str(dataset), "--every", "9", "--out", str(table), "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "images accepted; median error" in told
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == -(-FRAMES // 9)
    files = [str(path) for path in sorted((dataset / "rgb").iterdir())[::9]]
    locate.main([str(run), *files, "--out", str(track), "--device", "cpu"])
    lines = np.loadtxt(track, ndmin=2)
    accepted = [row for row in rows if row["accepted"] == "1"]
    assert np.allclose(lines[:, 1:4], [[float(row[f"{axis}_m"]) for axis in "xyz"] for row in accepted], atol=1e-5)
    assert np.allclose(lines[:, 0], [float(row["stamp"]) for row in accepted])


def test_locate_rejects_what_it_cannot_use(
    place: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, dataset = place
    frame = str(sorted((dataset / "rgb").iterdir())[0])
    assert locate.main([str(run), frame, "--fov-deg", "50", "--device", "cpu"]) == 1
    assert "of the view that was trained" in capsys.readouterr().out
    relief = small_relief.write_small_relief(tmp_path / "relief")
    with pytest.raises(UserError, match="'relief' finds no poses"):
        locate.main([str(relief), frame, "--device", "cpu"])
    with pytest.raises(UserError, match="written as"):
        locate.main([str(run), frame, "--out", str(tmp_path / "poses.json"), "--device", "cpu"])
    with pytest.raises(UserError, match="existing folder"):
        locate.main(["nowhere", frame, "--out", str(tmp_path / "missing" / "poses.csv")])


def test_an_image_that_cannot_be_read_does_not_stop_locate(
    place: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, dataset = place
    first, second = (str(path) for path in sorted((dataset / "rgb").iterdir())[:2])
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    table = tmp_path / "poses.csv"
    words = [str(run), first, str(tmp_path / "bad.jpg"), str(tmp_path / "absent.jpg"), second]
    locate.main([*words, "--out", str(table), "--device", "cpu"])
    rows = list(csv.DictReader(table.open()))
    assert [bool(row["x_m"]) for row in rows] == [True, False, False, True]
    assert "not a readable image" in rows[1]["reason"]
    assert "No such file" in capsys.readouterr().out


def test_locate_keeps_what_it_found_when_it_is_interrupted(
    place: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, dataset = place
    find, table, left = Localizer.find, tmp_path / "poses.csv", iter(range(3))

    def find_thrice(self: Localizer, rgb: np.ndarray, camera: Camera) -> Estimate:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return find(self, rgb, camera)

    monkeypatch.setattr(Localizer, "find", find_thrice)
    with pytest.raises(KeyboardInterrupt):
        locate.main([str(run), str(dataset), "--out", str(table), "--device", "cpu"])
    assert len(list(csv.DictReader(table.open()))) == 3


def as_trained(folder: Path, dataset: Path, camera: Camera, fit: str) -> Path:
    """A checkpoint as of frames of `camera` that became square by `fit`, in a margin of an eighth of the network's
    side.
    """
    loaded = load_checkpoint(carpet.write_posenet(folder, dataset))
    size, margin = loaded.camera.width, loaded.camera.width // 8
    if fit == "crop":
        side = min(camera.width, camera.height)
        camera = camera.cropped((camera.width - side) // 2, (camera.height - side) // 2, side, side)
    square = camera.resized(size + 2 * margin, size + 2 * margin).cropped(margin, margin, size, size)
    told = {**loaded.provenance, "fit": fit, "margin": margin}
    save_checkpoint(folder, replace(loaded, camera=square, provenance=told))
    return folder


@pytest.mark.parametrize("fit", ["square", "crop"])
@pytest.mark.parametrize(("width", "height"), [(288, 288), (320, 180), (180, 320)])
def test_an_image_file_is_of_the_recordings_camera_unless_told(
    place: tuple[Path, Path], tmp_path: Path, fit: str, width: int, height: int
):
    """Wide ones lost their sides, high ones top and bottom, or all were squeezed: the camera is that of before."""
    recorded = Camera(width, height, 200.0, 210.0, width / 2 - 7.0, height / 2 + 4.0)
    localizer = Localizer(as_trained(tmp_path, place[1], recorded, fit), "cpu")
    for times in (1, 2):
        wanted = recorded.resized(times * width, times * height)
        found = localizer.recording_camera(wanted.width, wanted.height)
        assert (found.width, found.height) == (wanted.width, wanted.height)
        assert np.allclose([*found.K[0], *found.K[1]], [*wanted.K[0], *wanted.K[1]])


@pytest.mark.parametrize("fit", ["square", "crop"])
def test_of_an_uncalibrated_camera_what_training_left_out_is_left_out(
    place: tuple[Path, Path], tmp_path: Path, fit: str
):
    """A crop's sides, and the margin around what the network sees, change no pose; all else does."""
    camera = Camera(320, 160, 0.0, 0.0, 0.0, 0.0)
    localizer = Localizer(as_trained(tmp_path, place[1], camera, fit), "cpu")
    rgb = carpet.carpet(2)[:160, :320]
    seen = np.zeros((160, 320), bool)
    side = slice(80, 240) if fit == "crop" else slice(None)
    seen[:, side] = True
    rim = np.zeros_like(seen)  # an eighth of the side within a margin: a tenth of the whole, less what enlarging blurs
    rim[:12] = rim[-12:] = True
    across = 12 if fit == "crop" else 28
    rim[:, side][:, :across] = rim[:, side][:, -across:] = True
    before = localizer.find(rgb, camera).T_map_cam
    for where, changes in ((~seen, False), (rim & seen, False), (seen & ~rim, True)):
        other = np.where(where[..., None], 255 - rgb, rgb)
        assert np.allclose(localizer.find(other, camera).T_map_cam, before, atol=1e-6) is not changes


def test_headings_are_clockwise_from_north():
    east = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    assert heading_deg(east) == pytest.approx(90.0)
    assert heading_deg(carpet.poses(np.zeros(1), np.zeros(1))[0]) == pytest.approx(0.0, abs=1e-6)

"""A trained model of video at work: depth and track as files, and depth for datasets that have none."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support import toy_video
from support.photographs import write_photographs

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.depth_from_images.snippets import prepared, rectified
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import resample_map
from pose2rgbd_ros.models import video_depth
from pose2rgbd_ros.models.video_depth import TrainedDepth, add_trained_depth, infer
from pose2rgbd_ros.training.families import train_config, video_config
from pose2rgbd_ros.training.trainer import train
from pose2rgbd_ros.training.video import VideoData

FRAMES = 60


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with toy_video.registered(tmp_path_factory.mktemp("families")):
        yield


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("data") / "flight", frames=FRAMES, depth_kind=None)


def trained(flight: Path, out: Path, **settings: object) -> Path:
    values = {"image_width": 48, "image_height": 32, "device": "cpu", "epochs": 1, "tensorboard": False}
    train([flight], out, video_config("toyvideo", **{**values, **settings}))  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="module")
def run(flight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(flight, tmp_path_factory.mktemp("runs") / "run")


def test_every_frame_gets_depth_and_the_camera_a_track(
    flight: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["depth", "infer", str(run), str(flight), "--out", str(out), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert f"depth of {FRAMES} frames" in said
    assert f"track of {FRAMES} poses" in said
    dataset = Dataset(flight)
    names = [str(stamp) for stamp in dataset.stamps_ns]
    assert sorted(file.stem for file in (out / "depth_relative").iterdir()) == sorted(names)
    assert sorted(file.stem for file in (out / "colour").iterdir()) == sorted(names)
    depth = np.load(out / "depth_relative" / f"{names[7]}.npy")
    method = TrainedDepth.of_run(run, "cpu")
    image = torch.from_numpy(prepared(dataset.rgb(7), (32, 48), None)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        np.testing.assert_allclose(depth, method.model.depth(image)[0].numpy(), rtol=1e-5)
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet.shape == (4 * 130, 6 * (192 + 2), 3), "images in their shape"
    lines = [line for line in (out / "trajectory.txt").read_text().splitlines() if not line.startswith("#")]
    assert [layout.parse_stamp(line.split()[0]) for line in lines] == list(dataset.stamps_ns)
    # The track is chained from what the network says of each snippet.
    data = VideoData(video_data(flight), [flight]).snippets
    batch = data.batch(np.array([9]))
    with torch.no_grad():
        T_tgt = method.model.motions(batch.images, batch.K)[0].double().numpy()
    poses = np.array([layout.parse_pose(line) for line in lines])
    T = se3.make(poses[:, :3], poses[:, 3:])
    np.testing.assert_allclose(se3.inverse(T[9]) @ T[10], T_tgt[2], atol=1e-6)
    assert np.linalg.norm(T_tgt[2][:3, 3]) > 1e-4, "it moves"


def video_data(flight: Path) -> Any:
    from pose2rgbd_ros.depth_from_images.snippets import SnippetData
    from pose2rgbd_ros.formats.sequences import open_sequences

    return SnippetData.of(open_sequences(flight), (32, 48))


def test_interrupted_it_goes_on(flight: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = TrainedDepth.of_run(run, "cpu")
    list(infer(method, flight, tmp_path / "whole", progress=False))
    write = layout.atomic_write
    left = iter(range(31))

    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".png" and next(left, None) is None:
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(video_depth.layout, "atomic_write", full)
        with pytest.raises(KeyboardInterrupt):
            list(infer(method, flight, tmp_path / "parts", progress=False))
    track = tmp_path / "parts" / "trajectory.txt"
    track.write_bytes(track.read_bytes()[:-20])  # the last line was cut
    done = {file: file.stat().st_mtime_ns for file in (tmp_path / "parts" / "colour").iterdir()}
    assert 20 < len(done) < FRAMES
    (result,) = infer(method, flight, tmp_path / "parts", progress=False)
    assert (result.frames, result.poses) == (FRAMES, FRAMES)
    assert {file: file.stat().st_mtime_ns for file in done} == done, "what was done is not done again"
    whole, parts = (np.loadtxt(tmp_path / name / "trajectory.txt", usecols=range(8)) for name in ("whole", "parts"))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    with pytest.raises(UserError, match="holds depth of another stride; remove it"):
        list(infer(method, flight, tmp_path / "parts", stride=2, progress=False))
    with pytest.raises(UserError, match="exists and is not empty"):
        list(infer(method, flight, flight, progress=False))


def test_the_track_takes_every_so_many_frames(flight: Path, run: Path, tmp_path: Path) -> None:
    (result,) = infer(TrainedDepth.of_run(run, "cpu"), flight, tmp_path / "out", stride=7, progress=False)
    assert (result.frames, result.poses) == (FRAMES, len(range(0, FRAMES, 7)))
    stamps = np.loadtxt(tmp_path / "out" / "trajectory.txt", usecols=0)
    np.testing.assert_allclose(stamps, Dataset(flight).stamps_ns[::7] / 1e9)
    with pytest.raises(UserError, match="needs 61; take a smaller --stride"):
        list(infer(TrainedDepth.of_run(run, "cpu"), flight, tmp_path / "far", stride=30, progress=False))


def test_a_damaged_frame_is_left_out_and_said(flight: Path, run: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "flight"
    shutil.copytree(flight, damaged, ignore=shutil.ignore_patterns(".cache"))
    record = Dataset(damaged).records[20]
    (damaged / record.rgb).write_bytes(b"no picture")
    (result,) = infer(TrainedDepth.of_run(run, "cpu"), damaged, tmp_path / "out", progress=False)
    assert (result.frames, result.poses) == (FRAMES - 1, FRAMES)
    assert "1 frame could not be read" in result.summary()


def test_a_dataset_gets_depth_in_the_metres_of_its_poses(flight: Path, run: Path) -> None:
    assert main(["depth", "add", str(flight), "--method", str(run)]) == 0
    try:
        dataset = Dataset(flight)
        made = dataset.meta.depth
        assert made is not None
        assert made.made is not None
        assert (made.kind, made.made.method, made.made.split) == ("metric", "toyvideo", "written")
        assert made.made.settings["weights"] == TrainedDepth.of_run(run, "cpu").identity[:16]
        assert dataset.depth(3).shape == (32, 48)
        assert 15 < np.median(dataset.depth(3)) < 30, "the city lies 22 m from the camera"
        again = add_trained_depth(flight, run, "cpu", progress=False)
        assert asdict(again.meta) == asdict(dataset.meta)
    finally:
        assert main(["depth", "remove", str(flight)]) == 0
    assert not Dataset(flight).has_depth


def test_depth_stays_relative_where_poses_do_not_show_the_unit(
    flight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shuffled = tmp_path / "flight"
    shutil.copytree(flight, shuffled, ignore=shutil.ignore_patterns(".cache"))
    head, *lines = (shuffled / layout.GROUNDTRUTH).read_text().splitlines()
    poses = np.random.default_rng(0).permutation([line.split(maxsplit=1)[1] for line in lines])
    moved = [f"{line.split(maxsplit=1)[0]} {pose}" for line, pose in zip(lines, poses, strict=True)]
    (shuffled / layout.GROUNDTRUTH).write_text("\n".join([head, *moved, ""]))
    run = trained(shuffled, tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        made = add_trained_depth(shuffled, run, "cpu", progress=False)
    assert "depth stays without a unit" in caplog.text
    assert made.depth_kind == "relative"
    assert made.meta.depth is not None
    assert made.meta.depth.made is not None
    assert made.meta.depth.made.settings["relative_because"]


class Knows(torch.nn.Module):
    """A network that says true depth of a flight, in a unit of its own."""

    image_size = (40, 48)

    def __init__(self, truth: Dataset, images: Dataset, unit_m: float) -> None:
        super().__init__()
        self.known = {
            prepared(images.rgb(i), (40, 48), None).tobytes(): truth.depth(i) / unit_m for i in range(len(images))
        }

    def depth(self, images: torch.Tensor) -> torch.Tensor:
        pictures = np.rint(255 * images.permute(0, 2, 3, 1).numpy()).astype(np.uint8)
        return torch.from_numpy(np.stack([self.known[picture.tobytes()] for picture in pictures]))


def test_poses_give_depth_its_metres(
    flight_dataset: Callable[..., Path], tmp_path: Path, flight: Path, run: Path
) -> None:
    truth, bare = (
        Dataset(flight_dataset(tmp_path / kind, frames=FRAMES, depth_kind=depth))
        for kind, depth in (("truth", "metric"), ("flight", None))
    )
    method = TrainedDepth.of_run(run, "cpu")
    knows = TrainedDepth(Knows(truth, bare, 31.0), "knows", "x", 3, 1, "cpu", method.checkpoint)  # type: ignore[arg-type]
    assert video_depth._unit(knows, bare)[0] == pytest.approx(31.0, rel=0.03)


def test_depth_of_a_model_that_saw_held_out_frames_is_refused(flight: Path, run: Path, tmp_path: Path) -> None:
    other = trained(flight, tmp_path / "other", seed=3)
    with pytest.raises(UserError, match=r"learnt from \d+ frames that .* holds out"):
        add_trained_depth(flight, other, "cpu", progress=False)
    assert not Dataset(flight).has_depth


def test_depth_lies_where_a_distorted_lens_sees_it(run: Path) -> None:
    """The network sees undistorted images; the dataset's depth belongs to the images as they were taken."""
    from pose2rgbd_ros.geometry.camera import Camera

    camera = Camera(96, 64, 60.0, 60.0, 47.5, 31.5, "plumb_bob", (-0.25, 0.05, 0.0, 0.0))
    method = TrainedDepth.of_run(run, "cpu")

    class Columns(torch.nn.Module):
        image_size = (32, 48)

        def depth(self, images: torch.Tensor) -> torch.Tensor:
            return torch.arange(48.0).expand(len(images), 32, 48)

    knows = TrainedDepth(Columns(), "columns", "x", 3, 1, "cpu", method.checkpoint)  # type: ignore[arg-type]
    images = np.zeros((1, 64, 96, 3), np.uint8)
    (found,) = knows.estimate(images, camera, None, np.array([0]))
    small, ideal = camera.resized(48, 32), rectified(camera).resized(48, 32)
    u, v = 40, 6
    seen_at = float(ideal.project(small.unproject(np.array([float(u), float(v)])))[0])
    assert abs(seen_at - u) > 1.5
    assert found.depth[v, u] == pytest.approx(seen_at, abs=0.51)
    assert found.unit_m is None
    assert resample_map(camera, rectified(camera)) is not None


@pytest.mark.slow
def test_a_place_is_learnt_from_such_depth(flight: Path, run: Path, tmp_path: Path) -> None:
    deep = tmp_path / "flight"
    shutil.copytree(flight, deep, ignore=shutil.ignore_patterns(".cache"))
    add_trained_depth(deep, run, "cpu", progress=False)
    config = train_config("base", size=32, width=0.125, device="cpu", epochs=2, tensorboard=False)
    assert "depth_mae" in train(deep, tmp_path / "place", config).scores


def test_photographs_get_depth_as_they_are_converted(flight: Path, run: Path, tmp_path: Path) -> None:
    write_photographs(Dataset(flight), tmp_path / "photos", range(8))
    convert = ["convert", str(tmp_path / "photos"), str(tmp_path / "dataset"), "--depth"]
    assert main([*convert, str(tmp_path / "nowhere")]) == 2
    assert not (tmp_path / "dataset").exists(), "refused before the work"
    assert main([*convert, str(run)]) == 0
    depth = Dataset(tmp_path / "dataset").meta.depth
    assert depth is not None
    assert depth.made is not None
    assert depth.made.method == "toyvideo"

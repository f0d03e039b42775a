"""`pose2rgbd depth add|remove`: depth of a simulated flight's pictures, in the dataset like recorded depth."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.photographs import SIZE

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.cli.run import give_depth
from pose2rgbd_ros.dataset import layout, made_depth
from pose2rgbd_ros.dataset.inspect import inspect
from pose2rgbd_ros.dataset.meta import DatasetMeta, MadeDepth, PosesMeta, read_meta, write_meta
from pose2rgbd_ros.dataset.reader import Dataset, frame_cache
from pose2rgbd_ros.dataset.splits import default_split
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthEstimate, resize_nearest
from pose2rgbd_ros.sfm.align import POINTS, recorded_dataset
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.families import train_config

SMALL = ("--size", "96", "--views", "3", "--threads", "2")
LISTS = ("groundtruth.txt", "associations.txt", "meta.yaml", "transforms.json")


def write_colour(truth: Dataset, out: Path) -> Path:
    """The flight without its depth; its poses are exact, and their scale is known to 0.3 %."""
    poses = PosesMeta(position="sfm, placed by gps", accuracy={"scale_sigma": 0.003})
    with DatasetWriter(out, DatasetMeta(camera=truth.camera, poses=poses)) as writer:
        for i, stamp_ns in enumerate(truth.stamps_ns.tolist()):
            writer.add(stamp_ns, truth.T_map_cam[i], truth.rgb(i))
    return out


@pytest.fixture(scope="module")
def colour(truth: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour(truth, tmp_path_factory.mktemp("colour") / "flight")


@pytest.fixture(scope="module")
def deep(colour: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep") / "flight"
    shutil.copytree(colour, folder)
    assert main(["depth", "add", str(folder), *SMALL]) == 0
    return folder


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "flight"))


def contents(folder: Path) -> dict[str, bytes]:
    """All files but those of the cache and the lock."""
    found = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.name != layout.LOCK}


def test_every_frame_has_depth_that_says_how_it_was_made(deep: Path, truth: Dataset) -> None:
    found = Dataset(deep)
    error, known = [], []
    for i in range(len(found)):
        depth = found.depth(i)
        exact = resize_nearest(truth.depth(i), depth.shape[1], depth.shape[0])
        error.append((np.abs(depth - exact) / exact)[np.isfinite(depth) & np.isfinite(exact)])
        known.append(np.isfinite(depth).mean())
        sure = made_depth.confidence(found, i)
        assert sure is not None
        assert sure.shape == depth.shape
        assert not sure[np.isnan(depth)].any()
    assert np.mean(known) > 0.3  # few of these pictures are seen from three places
    assert np.median(np.concatenate(error)) < 0.01
    stored = yaml.safe_load((deep / layout.META).read_text())["depth"]
    assert stored["kind"] == "metric"
    assert stored["made"]["method"] == "multi-view stereo"
    assert (stored["made"]["scale_sigma"], stored["made"]["split"]) == (0.003, "written")
    assert frame_cache(found, 32).depth is not None
    text = inspect(found).text
    assert "made by multi-view stereo, scale within 0.3 %" in text
    assert "depth_file_path" in (deep / layout.TRANSFORMS).read_text()


def test_the_split_that_depth_was_made_for_stays_the_datasets(deep: Path, colour: Path) -> None:
    before, after = Dataset(colour), Dataset(deep)
    splits = [default_split(each.path, each.stamps_ns, each.T_map_cam[:, :3, 3]) for each in (before, after)]
    assert splits[1].name == "dataset"
    for name in ("train", "choose", "judge"):
        assert np.array_equal(getattr(splits[0], name), getattr(splits[1], name))
    rank, whose = made_depth.pictures_allowed(before)
    assert whose == "written"
    assert (rank[splits[0].train] == 0).all()
    assert (rank[splits[0].judge] == 2).all()


def test_a_training_that_holds_out_other_frames_is_warned(deep: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split, warned in (("auto", False), ("random", True)):
        open_training_data(deep, train_config("base", size=32, split=split))
        assert ("so figures flatter" in caplog.text) == warned


def test_removed_it_is_as_before(deep: Path, colour: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied(deep, tmp_path)
    shutil.rmtree(folder / "inspect", ignore_errors=True)
    assert main(["depth", "remove", str(folder)]) == 0
    assert contents(folder) == contents(colour)
    assert main(["depth", "remove", str(folder)]) == 2
    assert "has no depth" in capsys.readouterr().err


def test_again_with_the_same_settings_nothing_is_done_and_with_others_it_is_made_anew(
    deep: Path, tmp_path: Path
) -> None:
    folder = copied(deep, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "depth").iterdir()}
    assert main(["depth", "add", str(folder), *SMALL]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "depth").iterdir()} == before
    assert main(["depth", "add", str(folder), "--size", "64", "--views", "2"]) == 0
    assert Dataset(folder).depth(0).shape[1] == 64


def test_interrupted_it_goes_on(colour: Path, deep: Path, tmp_path: Path) -> None:
    folder = copied(colour, tmp_path)
    job = subprocess.Popen([sys.executable, "-m", "pose2rgbd_ros.cli.main", "depth", "add", str(folder), *SMALL])
    limit = time.monotonic() + 120
    while not any((folder / "depth").glob("*.*")) and time.monotonic() < limit:
        time.sleep(0.02)
    job.send_signal(signal.SIGINT)
    assert job.wait(60) == 130
    done = {path: path.stat().st_mtime_ns for path in (folder / "depth").iterdir()}
    assert done
    assert not Dataset(folder).has_depth  # valid at every moment, and as before until all of it is there
    assert main(["depth", "add", str(folder), *SMALL]) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    assert np.array_equal(Dataset(folder).depth(3), Dataset(deep).depth(3), equal_nan=True)


def test_recorded_depth_stays(truth: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied(truth.path, tmp_path)
    for what in (["add", str(folder)], ["remove", str(folder)]):
        assert main(["depth", *what]) == 2
        assert "has recorded depth, which stays" in capsys.readouterr().err


def test_pictures_that_show_no_depth_leave_the_dataset_as_it_was(tmp_path: Path) -> None:
    folder, rng = tmp_path / "noise", np.random.default_rng(0)
    with DatasetWriter(folder, DatasetMeta(camera=Camera.from_fov(96, 96, 60))) as writer:
        for i in range(6):
            T_map_cam = np.diag([1.0, -1.0, -1.0, 1.0])
            T_map_cam[:3, 3] = [5.0 * i, 0, 50]
            writer.add((i + 1) * 10**9, T_map_cam, rng.integers(0, 256, (96, 96, 3), dtype=np.uint8))
    before = contents(folder)
    assert main(["depth", "add", str(folder)]) == 2

    def nothing(dataset: Dataset, rank: np.ndarray, frames: np.ndarray) -> Iterator[DepthEstimate]:
        unknown = np.full((96, 96), np.nan, np.float32)
        return (DepthEstimate(int(i), unknown, np.zeros_like(unknown), 1.0) for i in frames)

    with pytest.raises(UserError, match="is as before: neighbouring pictures do not show the depth"):
        made_depth.add(folder, MadeDepth("nothing"), nothing)
    assert contents(folder) == before
    assert not (folder / layout.CONFIDENCE).exists()


def test_depth_without_a_unit_is_kept_apart_from_metres(colour: Path, tmp_path: Path) -> None:
    folder = copied(colour, tmp_path)

    def relative(dataset: Dataset, rank: np.ndarray, frames: np.ndarray) -> Iterator[DepthEstimate]:
        return (DepthEstimate(int(i), np.full((32, 32), 0.5, np.float32), np.ones((32, 32), np.float32), None)
                for i in frames)  # fmt: skip

    found = made_depth.add(folder, MadeDepth("relative"), relative)
    assert found.depth_kind == "relative"
    assert not (folder / "depth").exists()
    assert (found.depth(3) == 0.5).all()
    assert "depth_file_path" not in (folder / layout.TRANSFORMS).read_text()
    made_depth.remove(folder)
    assert contents(folder) == contents(colour)


def test_depth_goes_with_the_poses_it_was_made_for(deep: Path, colour: Path, tmp_path: Path) -> None:
    folder = copied(deep, tmp_path)
    assert not recorded_dataset(folder).has_depth
    (folder / layout.RECORDED).mkdir()
    for name in LISTS:
        shutil.copy(colour / name, folder / layout.RECORDED)
    assert main(["align", str(folder), "--restore"]) == 0
    shutil.rmtree(folder / "inspect", ignore_errors=True)
    assert contents(folder) == contents(colour)


def test_run_takes_depth_of_a_source_by_name(colour: Path, tmp_path: Path) -> None:
    """Also of poses that did not come from the pictures."""
    folder = copied(colour, tmp_path)
    write_meta(folder, replace(read_meta(folder), poses=PosesMeta(position="gps")))
    give_depth(lambda name, inputs, job: job(False), folder, "plane-sweep", size=96, views=3, threads=2)
    assert Dataset(folder).has_depth


def test_run_gives_depth_where_the_pictures_show_it(
    colour: Path, truth: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[str] = []

    def run_step(name: str, inputs: object, job: Callable[[bool], object]) -> None:
        steps.append(name)
        job(False)

    folder = copied(colour, tmp_path)
    give_depth(run_step, truth.path)  # it has depth
    meta = read_meta(folder)
    write_meta(folder, replace(meta, poses=PosesMeta(position="gps")))
    give_depth(run_step, folder)  # rough poses
    assert steps == []
    write_meta(folder, meta)
    give_depth(run_step, folder, size=96, views=3, threads=2)
    assert steps == ["depth"]
    assert "depth of 24 images: about 1 min" in capsys.readouterr().out
    assert Dataset(folder).has_depth
    dark = tmp_path / "dark"
    with DatasetWriter(dark, meta) as writer:
        for i, stamp_ns in enumerate(truth.stamps_ns[:6].tolist()):
            writer.add(stamp_ns, truth.T_map_cam[i], np.zeros((SIZE, SIZE, 3), np.uint8))
    give_depth(run_step, dark, size=96)
    said = capsys.readouterr().out
    assert "neighbours show the depth of 0% of the pixels only" in said
    assert f"left out: {dark} has no points of an alignment" in said
    assert not Dataset(dark).has_depth
    write_points(dark, truth)
    give_depth(run_step, dark, size=96)
    made = Dataset(dark)
    assert made.meta.depth is not None
    assert made.meta.depth.made is not None
    assert made.meta.depth.made.method == "sparse points"
    off = []
    for i in range(len(made)):
        depth = made.depth(i)
        exact = resize_nearest(truth.depth(i), depth.shape[1], depth.shape[0])
        off.append(np.abs(depth - exact) / exact)
    assert np.isfinite(off).mean() > 0.25  # points that one frame of a rank sees alone do not count
    assert np.nanmedian(off) < 0.01


def write_points(folder: Path, truth: Dataset) -> None:
    """The points that an alignment would have found: some of each frame of the folder, which its neighbour sees too."""
    frames, points = range(len(Dataset(folder))), []
    for i in frames:
        depth = truth.depth(i)[8::16, 8::16].astype(np.float64)
        rays = truth.camera.rays()[8::16, 8::16]
        known = np.isfinite(depth)
        points.append(se3.transform_points(truth.T_map_cam[i], (rays * depth[..., None])[known]))
    owner = np.repeat(frames, [len(each) for each in points])
    other = np.where(owner == frames[-1], owner - 1, owner + 1)
    np.savez_compressed(
        folder / POINTS, points=np.concatenate(points).astype(np.float32),
        seen_stamp_ns=truth.stamps_ns[np.concatenate([owner, other])], seen_point=np.tile(np.arange(len(owner)), 2),
        colors=np.zeros((len(owner), 3), np.uint8), seen_px=np.zeros((2 * len(owner), 2)),
    )  # fmt: skip


@pytest.mark.slow
def test_an_alignment_takes_out_the_depth_of_rough_poses(deep: Path, tmp_path: Path) -> None:
    folder = copied(deep, tmp_path)
    meta = read_meta(folder)
    meta.poses = PosesMeta(position="gps")
    write_meta(folder, meta)
    assert main(["align", str(folder), "--image-size", str(SIZE), "--features", "1500"]) == 0
    assert not Dataset(folder).has_depth
    assert not (folder / "depth").exists()
    assert main(["depth", "add", str(folder), "--size", "64", "--views", "2"]) == 0
    assert main(["align", str(folder), "--restore"]) == 0
    assert not Dataset(folder).has_depth


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_said(colour: Path, tmp_path: Path) -> None:
    folder = copied(colour, tmp_path)
    folder.chmod(0o500)
    with pytest.raises(UserError, match="cannot write"):
        made_depth.add(folder, MadeDepth("none"), lambda *_: iter(()))

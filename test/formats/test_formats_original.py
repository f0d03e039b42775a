"""Datasets in the original layout of each format, written by hand: what the importers make of them."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from support import foreign_datasets as foreign

from pose2rgbd_ros.dataset.layout import read_split
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats.importing import import_datasets
from pose2rgbd_ros.formats.registry import recognise
from pose2rgbd_ros.formats.scene import turned_up
from pose2rgbd_ros.formats.settings import NAMES, ImportConfig, World
from pose2rgbd_ros.geometry.camera import Camera

DISTORTION = (0.1, -0.05, 0.001, 0.002)
# Pixel centres are at half integers in COLMAP and nerfstudio, at integers in the others (and in ours).
CAMERAS = {
    "nerfstudio": Camera(16, 12, 20, 20.5, 7.5, 5.5, "plumb_bob", (*DISTORTION, 0.0)),
    "kitti": Camera(16, 12, 20, 20, 7.5, 5.5),
    "euroc": Camera(16, 12, 20, 20.5, 7.5, 5.5, "plumb_bob", DISTORTION),
    "7scenes": Camera(16, 12, 20, 20.5, 7.5, 5.5),
    "colmap": Camera(16, 12, 20, 20.5, 7.5, 5.5, "plumb_bob", DISTORTION),
}
DEPTH_UNITS_M = {"tum": 0.0002, "7scenes": 0.001, "nerfstudio": 0.001}
SPLITS = {
    "nerfstudio": ["train", "train", "test", "unused"],
    "7scenes": ["train", "train", "test", "test"],
    "cambridge": ["train", "train", "test", "test"],
}
STAMPS = {
    "nerfstudio": [33_333_333, 66_666_667, 100_000_000, 133_333_333],
    "tum": [1305031102_175304000, 1305031102_208637000, 1305031102_241971000, 1305031102_275304000],
    "kitti": [0, 103_735_900, 207_471_800, 311_207_700],
    "euroc": [1403636579763555584 + i * 50_000_000 for i in range(4)],
    # Each sequence counts from 0; the second begins at the first whole second 10 s after the first one's end.
    "7scenes": [0, 33_333_333, 11_000_000_000, 11_033_333_333],
    "cambridge": [33_333_333, 66_666_667, 11_033_333_333, 11_066_666_667],
    "colmap": [33_333_333, 66_666_667, 100_000_000, 133_333_333],
}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(tmp_path: Path, name: str) -> Path:
    root = tmp_path / "source"
    foreign.WRITERS[name](root)
    return root


def imported(source: Path, **options: object) -> Dataset:
    out = source.with_name("out")
    import_datasets([source], out, ImportConfig(**options))
    return Dataset(out)


def test_everything_a_format_carries_arrives(source: Path, name: str) -> None:
    assert recognise(source)[0] == name
    dataset = imported(source)
    assert len(dataset) == foreign.FRAMES
    assert dataset.stamps_ns.tolist() == STAMPS[name]
    if name in CAMERAS:
        assert dataset.camera == CAMERAS[name]
    else:
        assert not dataset.camera.is_calibrated
    assert dataset.has_depth == (name in DEPTH_UNITS_M)
    for i in range(foreign.FRAMES):
        np.testing.assert_array_equal(dataset.rgb(i), foreign.rgb(i))
        if name in DEPTH_UNITS_M:
            expected = foreign.counts(i)
            if name == "7scenes":
                expected[expected == 65535] = 0
            stored = cv2.imread(str(dataset.path / str(dataset.records[i].depth)), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(stored, expected)
            if name == "nerfstudio":  # the file itself, for nothing in it had to change
                original = source / f"depth/frame_{i + 1:05d}.png"
                assert (dataset.path / str(dataset.records[i].depth)).read_bytes() == original.read_bytes()
            assert dataset.meta.depth is not None
            assert dataset.meta.depth.unit_m == DEPTH_UNITS_M[name]
    split = dataset.path / "split.txt"
    assert split.is_file() == (name in SPLITS)
    if name in SPLITS:
        assert read_split(split, dataset.stamps_ns).tolist() == SPLITS[name]
    (provenance,) = dataset.meta.sources
    assert (provenance.name, provenance.frames) == (
        "04 (kitti)" if name == "kitti" else f"source ({name})",
        foreign.FRAMES,
    )


def test_cameras_stand_and_look_where_the_lists_say(source: Path, name: str) -> None:
    dataset = imported(source)
    for i in range(foreign.FRAMES):
        T = dataset.T_map_cam[i]
        if name == "kitti":  # the first grey camera is the world: its forward is x, its right is -y
            centre, forward, up = [0, 0.06 - i, 0], [1, 0, 0], [0, 0, 1]
        else:
            centre, forward, up = [10 + i, 20, 3], [0, 1, 0], [0, 0, 1]
        np.testing.assert_allclose(T[:3, 3], centre, atol=3e-5)
        np.testing.assert_allclose(T[:3, 2], forward, atol=1e-7)
        np.testing.assert_allclose(-T[:3, 1], up, atol=1e-7)


def test_byte_order_marks_and_windows_line_ends_change_nothing(source: Path, name: str) -> None:
    plain = imported(source)
    for file in source.rglob("*"):
        if file.suffix in (".txt", ".csv", ".json", ".yaml"):
            file.write_bytes(codecs.BOM_UTF8 + file.read_bytes().replace(b"\n", b"\r\n"))
    import_datasets([source], source.with_name("again"))
    again = Dataset(source.with_name("again"))
    assert again.records == plain.records
    assert again.camera == plain.camera
    np.testing.assert_array_equal(again.T_map_cam, plain.T_map_cam)


def test_kitti_grey_camera_is_taken_where_there_is_no_colour(tmp_path: Path) -> None:
    foreign.kitti(tmp_path / "source")
    for file in (tmp_path / "source/sequences/04/image_2").iterdir():
        file.unlink()
    (tmp_path / "source/sequences/04/image_2").rmdir()
    dataset = imported(tmp_path / "source/sequences/04")
    np.testing.assert_array_equal(dataset.rgb(1), foreign.rgb(51))
    np.testing.assert_allclose(dataset.T_map_cam[2, :3, 3], [0, -2, 0], atol=1e-9)


def test_kitti_with_several_sequences_asks_which(tmp_path: Path) -> None:
    foreign.kitti(tmp_path / "source")
    foreign.kitti(tmp_path / "other")
    (tmp_path / "other/sequences/04").rename(tmp_path / "source/sequences/05")
    (tmp_path / "other/poses/04.txt").rename(tmp_path / "source/poses/05.txt")
    with pytest.raises(UserError, match=r"2 sequences.*sequences/04, .*sequences/05"):
        imported(tmp_path / "source")
    assert len(imported(tmp_path / "source/sequences/05")) == foreign.FRAMES


def test_blender_files_with_a_field_of_view(tmp_path: Path) -> None:
    """The synthetic NeRF scenes: a file for each set, names without ending, one angle for the camera."""
    for word, i in (("train", 0), ("test", 1)):
        foreign.write_image(tmp_path / f"source/{word}/r_0.png", i)
        matrix = [[1, 0, 0, 0], [0, 1, 0, i], [0, 0, 1, 0], [0, 0, 0, 1]]
        frames = [{"file_path": f"./{word}/r_0", "transform_matrix": matrix}]
        foreign.write(
            tmp_path / f"source/transforms_{word}.json",
            json.dumps({"camera_angle_x": float(2 * np.arctan(0.5)), "frames": frames}),
        )
    dataset = imported(tmp_path / "source")
    assert dataset.camera == Camera.from_dict({**dataset.camera.to_dict(), "fx": dataset.camera.fy})
    np.testing.assert_allclose([dataset.camera.fx, dataset.camera.cx, dataset.camera.cy], [16, 7.5, 5.5])
    assert set(read_split(dataset.path / "split.txt", dataset.stamps_ns)) == {"train", "test"}


@pytest.mark.parametrize(
    ("line", "camera"),
    [
        ("SIMPLE_PINHOLE 16 12 20 8 6", Camera(16, 12, 20, 20, 7.5, 5.5)),
        ("PINHOLE 16 12 20 21 8 6", Camera(16, 12, 20, 21, 7.5, 5.5)),
        ("SIMPLE_RADIAL 16 12 20 8 6 .1", Camera(16, 12, 20, 20, 7.5, 5.5, "plumb_bob", (0.1, 0, 0, 0))),
        ("RADIAL 16 12 20 8 6 .1 .2", Camera(16, 12, 20, 20, 7.5, 5.5, "plumb_bob", (0.1, 0.2, 0, 0))),
        (
            "FULL_OPENCV 16 12 20 21 8 6 .1 .2 .3 .4 .5 .6 .7 .8",
            Camera(16, 12, 20, 21, 7.5, 5.5, "rational_polynomial", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
        ),
        (
            "OPENCV_FISHEYE 16 12 20 21 8 6 .1 .2 .3 .4",
            Camera(16, 12, 20, 21, 7.5, 5.5, "equidistant", (0.1, 0.2, 0.3, 0.4)),
        ),
        ("RADIAL_FISHEYE 16 12 20 8 6 .1 .2", Camera(16, 12, 20, 20, 7.5, 5.5, "equidistant", (0.1, 0.2, 0, 0))),
    ],
)
def test_camera_models_of_colmap(tmp_path: Path, line: str, camera: Camera) -> None:
    foreign.colmap(tmp_path / "source")
    (tmp_path / "source/sparse/0/cameras.txt").write_text(f"1 {line}\n")
    assert imported(tmp_path / "source").camera == camera


def test_settings_take_the_place_of_what_a_source_does_not_know(tmp_path: Path) -> None:
    foreign.cambridge(tmp_path / "source")
    dataset = imported(
        tmp_path / "source", camera="20 21 7 5 .1 .2 0 0", rate_hz=2.0, start_s=5.0, scale=0.5, world="y-up"
    )
    assert dataset.camera == Camera(16, 12, 20, 21, 7, 5, "plumb_bob", (0.1, 0.2, 0, 0))
    assert dataset.stamps_ns[:2].tolist() == [5_500_000_000, 6_000_000_000]
    np.testing.assert_allclose(dataset.T_map_cam[0, 2, 3], 10)  # y, 20 units of half a metre, is up now
    np.testing.assert_allclose(dataset.T_map_cam[0, :3, 2], [0, 0, 1], atol=1e-7)


@pytest.mark.parametrize("world", [world for world in get_args(World) if world != "auto"])
def test_worlds_are_turned_so_that_z_is_up(world: str) -> None:
    R = turned_up(world)[:3, :3]
    up = np.eye(3)["xyz".index(world[0])] * (1 if world.endswith("up") else -1)
    np.testing.assert_allclose(R @ up, [0, 0, 1])
    np.testing.assert_allclose(R @ R.T, np.eye(3))
    assert np.linalg.det(R) > 0


def test_float_depth_of_nerfstudio(tmp_path: Path) -> None:
    foreign.nerfstudio(tmp_path / "source")
    content = json.loads((tmp_path / "source/transforms.json").read_text())
    content["depth_unit_scale_factor"] = 1.0
    for i, frame in enumerate(content["frames"]):
        frame["depth_file_path"] = f"depth/{i}.npy"
        np.save(tmp_path / f"source/depth/{i}.npy", np.full((12, 16), 70.5 + i))
    (tmp_path / "source/transforms.json").write_text(json.dumps(content))
    dataset = imported(tmp_path / "source")
    np.testing.assert_allclose(dataset.depth(3), 73.5, rtol=1e-6)


def test_two_sources_follow_each_other_in_time(tmp_path: Path) -> None:
    foreign.cambridge(tmp_path / "a")
    foreign.cambridge(tmp_path / "b")
    report = import_datasets([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert report.frames_written == 8
    dataset = Dataset(tmp_path / "out")
    assert [len(segment) for segment in dataset.segments()] == [2, 2, 2, 2]
    assert [source.name for source in dataset.meta.sources] == ["a (cambridge)", "b (cambridge)"]
    assert any("share one world" in note for note in report.sources[1].notes)

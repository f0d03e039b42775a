"""Dataset to format and back: what a format carries comes back as it was."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.dataset.layout import read_split
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.formats.exporting import export_dataset
from pose2rgbd_ros.formats.importing import import_datasets
from pose2rgbd_ros.formats.registry import FORMATS, recognise
from pose2rgbd_ros.formats.settings import NAMES, ExportConfig, ImportConfig
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera

LABELS = ["train", "train", "unused", "test", "test", "unused", "train", "train"]
LEAVES_OUT_UNUSED = ("cambridge", "colmap")
STAMPS_LOST = ("kitti", "7scenes")  # KITTI keeps times since the first frame, 7-Scenes their order
FASTER = settings(max_examples=5, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


def there_and_back(path: Path, name: str, folder: Path, **options: object) -> Dataset:
    export_dataset(path, folder / "there", ExportConfig(format=name, **options))
    assert recognise(folder / "there")[0] == name
    import_datasets([folder / "there"], folder / "back", ImportConfig(depth_tolerance_s=0, max_pose_gap_s=0))
    return Dataset(folder / "back")


def assert_same_poses(back: np.ndarray, there: np.ndarray, name: str) -> None:
    """To a micrometre; relative to the first pose in KITTI, whose world is the first camera."""
    if name == "kitti":
        np.testing.assert_allclose(back[0], se3.T_BODY_OPTICAL, atol=1e-9)
        back, there = (se3.inverse(poses[0]) @ poses for poses in (back, there))
    np.testing.assert_allclose(back, there, rtol=0, atol=1e-6)


@pytest.mark.parametrize("jpeg", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_frames_come_back(name: str, jpeg: bool, make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight = Dataset(make_flight(jpeg=jpeg, split=LABELS))
    back = there_and_back(flight.path, name, tmp_path, depth_unit_m=0.001)
    kept = [i for i, label in enumerate(LABELS) if name not in LEAVES_OUT_UNUSED or label != "unused"]
    assert len(back) == len(kept)
    if name not in STAMPS_LOST:
        np.testing.assert_array_equal(back.stamps_ns, flight.stamps_ns[kept])
    elif name == "kitti":
        np.testing.assert_array_equal(back.stamps_ns, flight.stamps_ns - flight.stamps_ns[0])
    assert_same_poses(back.T_map_cam, flight.T_map_cam[kept], name)
    assert back.camera == flight.camera
    assert back.has_depth == FORMATS[name].has_depth
    for i, j in enumerate(kept):
        source, copy = flight.path / flight.records[j].rgb, back.path / back.records[i].rgb
        np.testing.assert_array_equal(back.rgb(i), flight.rgb(j))
        assert copy.read_bytes() == source.read_bytes() or (jpeg and FORMATS[name].png_only)
        if back.has_depth:
            pair = [(d.path / str(d.records[k].depth)) for d, k in ((flight, j), (back, i))]
            assert pair[0].read_bytes() == pair[1].read_bytes()
            np.testing.assert_array_equal(*(cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in pair))
    if FORMATS[name].has_split:
        words = read_split(back.path / "split.txt", back.stamps_ns)
        assert words.tolist() == [LABELS[i] for i in kept]


@pytest.mark.parametrize("name", ["tum", "7scenes"])
def test_depth_in_the_formats_own_unit(name: str, make_flight: Callable[..., Path], tmp_path: Path) -> None:
    """Millimetres fit both exactly; float depth is rounded to their unit, and what is too far for it is told."""
    flight = Dataset(make_flight())
    back = there_and_back(flight.path, name, tmp_path)
    np.testing.assert_allclose(back.depth(3), flight.depth(3), rtol=0, atol=1e-6)
    far = Dataset(make_flight("far", depth="float"))
    report = export_dataset(far.path, tmp_path / "far_there", ExportConfig(format=name))
    unit_m = FORMATS[name].depth_unit_m or 0
    lost = sum(int((far.depth(i) > 65535.5 * unit_m).sum()) for i in range(len(far)))
    assert any(note.startswith(f"{lost} depth pixels beyond") for note in report.notes)
    import_datasets([tmp_path / "far_there"], tmp_path / "far_back")
    near = far.depth(2) <= 65535 * unit_m
    again = Dataset(tmp_path / "far_back").depth(2)
    np.testing.assert_allclose(again[near], far.depth(2)[near], rtol=0, atol=unit_m * 0.51)
    assert np.isnan(again[~near]).all()


def test_float_depth_stays_float_in_nerfstudio(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight = Dataset(make_flight(depth="float"))
    back = there_and_back(flight.path, "nerfstudio", tmp_path)
    np.testing.assert_array_equal(back.depth(1), flight.depth(1))


@pytest.mark.parametrize("name", NAMES)
def test_relative_depth_is_not_passed_off_as_metres(
    name: str, make_flight: Callable[..., Path], tmp_path: Path
) -> None:
    flight = make_flight(depth="relative")
    report = export_dataset(flight, tmp_path / "there", ExportConfig(format=name))
    assert any("relative" in note for note in report.notes)
    assert not list((tmp_path / "there").rglob("*depth*"))
    import_datasets([tmp_path / "there"], tmp_path / "back")
    assert not Dataset(tmp_path / "back").has_depth


@pytest.mark.parametrize("name", NAMES)
def test_without_depth_no_list_speaks_of_it(name: str, make_flight: Callable[..., Path], tmp_path: Path) -> None:
    back = there_and_back(make_flight(), name, tmp_path, with_depth=False, points=0)
    assert not back.has_depth


pixels = st.floats(-0.2, 0.2, allow_subnormal=False).map(lambda value: round(value, 6))
LENSES = {
    "none": st.just(()),
    "plumb_bob": st.tuples(*[pixels] * 5),
    "rational_polynomial": st.tuples(*[pixels] * 8),
    "equidistant": st.tuples(*[pixels] * 4),
}
KNOWN_LENSES = {
    "nerfstudio": ("none", "plumb_bob", "equidistant"),
    "tum": tuple(LENSES),
    "kitti": ("none",),
    "euroc": ("none", "equidistant"),
    "7scenes": ("none",),
    "cambridge": tuple(LENSES),
    "colmap": tuple(LENSES),
}


@st.composite
def flights(draw: st.DrawFn, name: str) -> tuple[Camera, np.ndarray]:
    lens = draw(st.sampled_from(KNOWN_LENSES[name]))
    numbers = [draw(st.floats(5, 40)), draw(st.floats(5, 40)), draw(st.floats(2, 10)), draw(st.floats(2, 7))]
    camera = Camera(12, 8, *numbers, lens, draw(LENSES[lens]))
    seed = draw(st.integers(0, 2**32 - 1))
    scale_m = draw(st.sampled_from([0.0, 1.0, 1e3, 1e5]))
    rng = np.random.default_rng(seed)
    quats = Rotation.random(3, random_state=seed).as_quat()
    half_turn = draw(st.booleans())
    if half_turn:  # rotations by 180 degrees, where a quaternion's w is 0
        quats[0] = [1, 0, 0, 0]
    return camera, se3.make(rng.uniform(-scale_m, scale_m, (3, 3)), quats)


@pytest.mark.parametrize("name", NAMES)
def test_any_pose_and_camera_comes_back(name: str, make_flight: Callable[..., Path]) -> None:
    @FASTER
    @given(flights(name))
    def check(flight: tuple[Camera, np.ndarray]) -> None:
        camera, poses = flight
        with tempfile.TemporaryDirectory() as folder:
            path = make_flight(camera=camera, poses=poses, depth=None, folder=Path(folder))
            back = there_and_back(path, name, Path(folder))
            assert_same_poses(back.T_map_cam, Dataset(path).T_map_cam, name)
            values = [(c.fx, c.fy, c.cx, c.cy, *_padded(c)) for c in (back.camera, camera)]
            np.testing.assert_allclose(*values, rtol=0, atol=1e-9)
            if camera.is_distorted and camera.distortion_model == "equidistant":
                assert back.camera.distortion_model == "equidistant"

    check()


def _padded(camera: Camera) -> tuple[float, ...]:
    """OpenCV reads the shorter polynomial models as the longest with zeros."""
    return (*camera.distortion, *[0.0] * 8)[:8]

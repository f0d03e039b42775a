"""Depth that lies beside its colour: how the two cameras stand, and depth laid over colour."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.blockworld import BlockWorld
from support.orbit_flight import OrbitFlight

from pose2rgbd_ros.alignment.depth_camera import DepthCamera, find_depth_camera, over_colour, register
from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.encode import read_image
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.settings import read_yaml

DEPTH = Camera(160, 120, 150.0, 150.0, 79.5, 59.5)
COLOUR = Camera(160, 120, 137.0, 137.0, 82.0, 58.0)
# The depth camera seen from the colour camera: 0.4 m of 20 m beside it, a little turned.
T_COLOUR_DEPTH = se3.exponential([-0.4, 0.1, 0.0, 0.004, -0.006, 0.003])
WORLD = BlockWorld(seed=1)
FRAMES = 48


def flight(folder: Path, owner: str) -> Dataset:
    """Depth of one camera and colour of the other, said to be one: the intrinsics and poses are those of `owner`."""
    meta = DatasetMeta(DEPTH if owner == "depth" else COLOUR, depth=DepthMeta("metric"))
    with DatasetWriter(folder, meta, depth_format="float") as writer:
        for number, T_map_depth in enumerate(OrbitFlight(seed=1, loops=0.6).T_map_cam(np.linspace(0, 90, FRAMES))):
            T_map_colour = T_map_depth @ se3.inverse(T_COLOUR_DEPTH)
            rgb, _ = WORLD.render(T_map_colour, COLOUR, supersample=2)
            _, depth = WORLD.render(T_map_depth, DEPTH)
            writer.add(10**8 * number, T_map_depth if owner == "depth" else T_map_colour, rgb, depth)
    return Dataset(folder)


@pytest.fixture(scope="module")
def unregistered(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return flight(tmp_path_factory.mktemp("flight") / "unregistered", "depth")


@pytest.fixture(scope="module")
def found(unregistered: Dataset) -> DepthCamera:
    return find_depth_camera(unregistered)


def errors_px(found: DepthCamera, dataset: Dataset) -> np.ndarray:
    """How far the found cameras lay points of the depth beside where they are in the colour image, in pixels."""
    pixels = np.stack(np.meshgrid(np.arange(10, 150, 10), np.arange(10, 110, 10)), -1).reshape(-1, 2)
    depth = dataset.depth(0)[pixels[:, 1], pixels[:, 0]].astype(float)[:, None]
    mine = found.colour.project(se3.transform_points(found.T_colour_depth, found.depth.unproject(pixels) * depth))
    true = COLOUR.project(se3.transform_points(T_COLOUR_DEPTH, DEPTH.unproject(pixels) * depth))
    return np.asarray(np.linalg.norm(mine - true, axis=1))


def test_the_colour_camera_is_found_beside_the_depth_camera(unregistered: Dataset, found: DepthCamera) -> None:
    assert found.owner == "depth"
    assert not found.agrees
    assert found.off_px > 4 * np.median(errors_px(found, unregistered))
    assert np.median(errors_px(found, unregistered)) < 1.0
    assert found.after < 0.7 * found.before


def test_the_depth_camera_is_found_beside_the_colour_camera(tmp_path: Path) -> None:
    dataset = flight(tmp_path / "unregistered", "colour")
    found = find_depth_camera(dataset)
    assert found.owner == "colour"
    assert found.colour == COLOUR
    assert np.median(errors_px(found, dataset)) < 1.0


def test_registered_depth_is_what_the_colour_camera_would_see(
    unregistered: Dataset, found: DepthCamera, tmp_path: Path
) -> None:
    made = register(unregistered, found, tmp_path / "registered", progress=False)
    assert len(made) == FRAMES
    assert made.camera == found.colour
    drawn = read_image(made.path / "depth_registration.png", cv2.IMREAD_COLOR)
    assert drawn.shape == (28 + 4 * 240, 3 * 320, 3)
    for frame in (0, 20, 40):
        assert (made.rgb(frame) == unregistered.rgb(frame)).all(), "pictures stay as they were"
        T_map_colour = unregistered.T_map_cam[frame] @ se3.inverse(T_COLOUR_DEPTH)
        _, true = WORLD.render(T_map_colour, COLOUR)
        off = np.abs(made.depth(frame) - true)
        before = np.abs(unregistered.depth(frame) - true)
        assert np.isfinite(off).mean() > 0.8, "the depth camera sees 83 % of what the colour camera does"
        assert np.nanmedian(off) < 0.1, "of 27 m"
        assert np.nanmean(off) < 0.5 * np.nanmean(before)
    assert find_depth_camera(made).agrees


def test_an_interrupted_registration_goes_on(unregistered: Dataset, found: DepthCamera, tmp_path: Path) -> None:
    class Interrupted(Dataset):
        def depth(self, index: int) -> np.ndarray:  # type: ignore[override]
            if index == 5:
                raise KeyboardInterrupt
            return super().depth(index)

    with pytest.raises(KeyboardInterrupt):
        register(Interrupted(unregistered.path), found, tmp_path / "made", progress=False)
    assert len(Dataset(tmp_path / "made")) == 5
    assert len(register(unregistered, found, tmp_path / "made", resume=True, progress=False)) == FRAMES


@given(st.tuples(*[st.floats(-0.05, 0.05)] * 3), st.floats(0.7, 2.5), st.tuples(*[st.floats(-0.3, 0.3)] * 2))
def test_a_wall_is_laid_where_it_is(offset: tuple[float, ...], finer: float, slope: tuple[float, float]) -> None:
    colour = Camera(48, 36, 40.0 * finer, 40.0 * finer, 23.5, 17.5)
    depth = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
    T = se3.exponential([*offset, 0.0, 0.0, 0.0])
    # The wall z = 2 + slope . (x, y) of the depth camera, met by the ray of a pixel of either camera.
    rays = depth.rays()
    seen = 2.0 / (1 - rays[..., :2] @ slope)
    made = over_colour(seen.astype(np.float32), DepthCamera("depth", colour, depth, T, 0, 0, 0, 0, 0))
    rays = colour.rays()
    normal = np.array([-slope[0], -slope[1], 1.0])
    true = (2.0 + normal @ T[:3, 3]) / (rays @ normal)
    known = np.isfinite(made)
    # Half a pixel beside its ray the wall is nearer or farther by its slope.
    assert np.abs(made - true)[known].max() < 1.5 * true.max() * (abs(slope[0]) + abs(slope[1])) / colour.fx + 1e-4
    at = depth.project(se3.transform_points(se3.inverse(T), rays * true[..., None]))
    well_inside = ((at > 1) & (at < np.array([62, 46]))).all(-1)
    assert known[well_inside].all(), "no hole where the depth camera sees the wall"


def test_what_cannot_be_registered_is_said(tmp_path: Path) -> None:
    for name, meta in (("colour", DatasetMeta(DEPTH)), ("relative", DatasetMeta(DEPTH, depth=DepthMeta("relative")))):
        with DatasetWriter(tmp_path / name, meta) as writer:
            depth = None if meta.depth is None else np.ones((120, 160), np.float32)
            writer.add(0, np.eye(4), np.zeros((120, 160, 3), np.uint8), depth)
        with pytest.raises(UserError, match="has no metric depth, so there is nothing to register"):
            find_depth_camera(Dataset(tmp_path / name))
    with DatasetWriter(tmp_path / "apart", DatasetMeta(DEPTH, depth=DepthMeta("metric"))) as writer:
        for number in range(12):
            T = np.eye(4)
            T[0, 3] = 100.0 * number
            writer.add(number, T, np.zeros((120, 160, 3), np.uint8), np.ones((120, 160), np.float32))
    with pytest.raises(UserError, match="0 points in 0 pairs of frames see the same surface"):
        find_depth_camera(Dataset(tmp_path / "apart"))


def test_the_command_says_what_it_finds_and_writes_where_it_is_told(
    unregistered: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "registered"
    assert main(["depth", "register", str(unregistered.path), str(out), "--json"]) == 0
    told = capsys.readouterr()
    said = json.loads(told.out)["result"]
    assert said["owner_of_poses"] == "depth"
    assert said["agrees"] is False
    assert "the recorded intrinsics and poses are the depth camera's" in told.err
    assert said["registered"] == str(out)
    assert read_yaml(out / "depth_registration.yaml")["off_px"] == said["off_px"]

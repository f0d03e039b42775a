"""Motion and the way of a camera by exact flow of rendered scenes, by classical flow of their images, by real ones."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.blockworld import BlockWorld

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.depth_from_images import odometry as module
from pose2rgbd_ros.depth_from_images.odometry import ClassicalFlow, Flow, Motion, OdometrySettings, odometry
from pose2rgbd_ros.depth_from_images.odometry import relative_motion as between
from pose2rgbd_ros.depth_from_images.triangulation import rigid_flow
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats.trajectories import read_pose_list
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera

CAMERA = Camera.from_fov(128, 96, 70.0)
USED = OdometrySettings(matches=2000)
START = se3.look_at([2.0, -11.0, 13.0], [0.0, 2.0, 0.0])


@functools.cache
def world() -> BlockWorld:
    return BlockWorld(seed=2)


def seen(T_map_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return world().render(T_map_cam, CAMERA, supersample=2)


def flow_of(depths: tuple[np.ndarray, np.ndarray], T_first_second: np.ndarray, noise_px: float = 0.05) -> Flow:
    """Of two views with known depth, as a good network would find it."""
    K, rng = torch.from_numpy(CAMERA.K), np.random.default_rng(0)
    directions = [
        rigid_flow(torch.from_numpy(depth.astype(np.float64))[None], K, torch.from_numpy(T)[None])[0][0]
        for depth, T in zip(depths, (se3.inverse(T_first_second), T_first_second), strict=True)
    ]
    noisy = [flow.movedim(0, -1).numpy() + rng.normal(0, noise_px, (*depths[0].shape, 2)) for flow in directions]
    return Flow(
        *(np.where(np.isfinite(depths[i])[..., None], flow, np.nan).astype(np.float32) for i, flow in enumerate(noisy))
    )


def errors(found: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Of the rotation and of the translation's direction in degrees, and the ratio of the lengths."""
    a, b = found[:3, 3], truth[:3, 3]
    direction = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b))
    return float(np.degrees(se3.apart(found, truth)[1])), float(direction), float(np.linalg.norm(a) / np.linalg.norm(b))


STEP = se3.exponential([0.9, 0.2, 0.5, 0.02, -0.04, 0.03])


@functools.cache
def town() -> tuple[Flow, np.ndarray, np.ndarray]:
    """Flow between two views, and their depth."""
    first, second = (seen(T)[1] for T in (START, START @ STEP))
    return flow_of((first, second), STEP), first, second


@settings(max_examples=8)
@given(
    st.tuples(*[st.floats(-1.0, 1.0)] * 3).filter(lambda t: np.linalg.norm(t) > 0.6),
    st.tuples(*[st.floats(-0.05, 0.05)] * 3),
)
def test_random_motions_are_found_with_their_length(step: tuple[float, ...], turn: tuple[float, ...]) -> None:
    T = se3.exponential([*step, *turn])
    depths = seen(START)[1], seen(START @ T)[1]
    found = between(flow_of(depths, T), CAMERA.K, USED, *depths)
    rotation_deg, direction_deg, ratio = errors(found.T_first_second, T)
    assert found.has_scale
    assert rotation_deg < 0.25
    assert direction_deg < 3
    assert ratio == pytest.approx(1, abs=0.05)


def test_without_depth_the_length_is_not_known() -> None:
    flow, first, second = town()
    found = between(flow, CAMERA.K, USED)
    assert (found.kind, found.by, found.has_direction, found.has_scale) == ("general", "essential", True, False)
    assert np.linalg.norm(found.T_first_second[:3, 3]) == pytest.approx(1)
    assert found.parallax_px > 1
    assert "unknown length" in str(found)
    for unit in (1.0, 40.0):  # whatever the unit of depth is
        for known in ((unit * first, None), (None, unit * second)):
            scaled = between(flow, CAMERA.K, USED, *known)
            assert scaled.has_scale
            assert errors(scaled.T_first_second, STEP)[2] == pytest.approx(unit, rel=0.03)


def test_the_authors_estimator_finds_the_motion_too() -> None:
    found = between(town()[0], CAMERA.K, OdometrySettings(estimator="ransac", repeats=10))
    rotation_deg, direction_deg, _ = errors(found.T_first_second, STEP)
    assert rotation_deg < 0.3
    assert direction_deg < 3


def test_a_rotation_is_called_one_and_no_way_is_claimed() -> None:
    T = se3.exponential([0, 0, 0, 0.03, 0.05, -0.04])
    depths = seen(START)[1], seen(START @ T)[1]
    found = between(flow_of(depths, T, 0.1), CAMERA.K, USED)
    assert (found.kind, found.by, found.has_direction, found.has_scale) == ("rotation", "rotation", False, False)
    assert np.degrees(se3.apart(found.T_first_second, T)[1]) < 0.05
    assert not found.T_first_second[:3, 3].any()
    assert "neither direction nor length" in str(found)
    assert found.parallax_px < 0.3
    by_depth = between(flow_of(depths, T, 0.1), CAMERA.K, USED, *depths)
    assert by_depth.by == "pnp"
    assert np.linalg.norm(by_depth.T_first_second[:3, 3]) < 0.05, "depth says that there was none"


def test_small_flow_is_left_to_depth() -> None:
    T = se3.exponential([0.05, 0.02, 0.03, 0.001, 0.002, 0.0])
    depths = seen(START)[1], seen(START @ T)[1]
    flow = flow_of(depths, T, 0.03)
    assert np.nanmean(np.linalg.norm(flow.forward, axis=-1)) < USED.least_flow_share * 128
    found = between(flow, CAMERA.K, USED, *depths)
    assert found.by == "pnp"
    assert errors(found.T_first_second, T)[2] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("tilt", [0.0, 0.4])
def test_over_a_plane_two_motions_fit_and_depth_or_the_motion_before_says_which(tilt: float) -> None:
    normal = np.array([tilt, 0.1, 1.0])
    T = se3.exponential([0.8, 0.3, 0.1, 0.02, -0.01, 0.03])
    first = 10 / (CAMERA.rays() @ normal)
    turned = T[:3, :3].T @ normal
    second = (10 - normal @ T[:3, 3]) / (CAMERA.rays() @ turned)
    flow = flow_of((first, second), T)
    for guess in ({"depth_first": first.astype(np.float32)}, {"before": T}):
        found = between(flow, CAMERA.K, USED, **guess)  # type: ignore[arg-type]
        rotation_deg, direction_deg, _ = errors(found.T_first_second, T)
        assert (found.kind, found.by) == ("plane", "plane")
        assert rotation_deg < 0.3
        assert direction_deg < 3
        assert found.has_scale == ("depth_first" in guess)
    assert "two motions fit" in str(found)


@functools.cache
def two_planes() -> tuple[Flow, list[tuple[np.ndarray, np.ndarray]]]:
    """Flow over a plane, and both motions (4, 4) that explain it with the depth (H, W) of their planes, in front of all
    pixels."""
    normal, T = np.array([0.4, 0.2, 0.9]), se3.exponential([-0.3, 0.2, 1.2, 0.02, -0.03, 0.02])
    depth = 10 / (CAMERA.rays() @ normal)
    T_second_first = se3.inverse(T)
    H = CAMERA.K @ (T_second_first[:3, :3] + np.outer(T_second_first[:3, 3], normal) / 10) @ np.linalg.inv(CAMERA.K)
    found = []
    for R, t, n in zip(*cv2.decomposeHomographyMat(H, CAMERA.K)[1:], strict=True):
        along = CAMERA.rays() @ n[:, 0]
        if (along > 0).all():
            moved = np.eye(4)
            moved[:3, :3], moved[:3, 3] = R, 10 * t[:, 0]
            found.append((se3.inverse(moved), (10 / along).astype(np.float32)))
    second = (10 - normal @ T[:3, 3]) / (CAMERA.rays() @ (T[:3, :3].T @ normal))
    return flow_of((depth, second), T), found


@pytest.mark.parametrize("which", [0, 1])
def test_of_both_motions_over_a_plane_each_is_found_by_its_depth_or_the_motion_before(which: int) -> None:
    flow, both = two_planes()
    assert len(both) == 2
    assert errors(both[0][0], both[1][0])[1] > 15, "they differ"
    T, depth = both[which]
    for guess in ({"depth_first": depth}, {"before": T}, {"depth_first": depth, "before": both[1 - which][0]}):
        found = between(flow, CAMERA.K, USED, **guess)  # type: ignore[arg-type]
        rotation_deg, direction_deg, _ = errors(found.T_first_second, T)
        assert found.by == "plane"
        assert (rotation_deg < 0.5, direction_deg < 5) == (True, True)


def test_a_mover_is_left_out_of_the_motion() -> None:
    flow, first, second = town()
    forward, backward = flow.forward.copy(), flow.backward.copy()
    forward[30:60, 40:80] += (-3.0, 4.0)
    v, u = np.mgrid[30:60, 40:80]
    there = np.rint(np.stack([u, v], axis=-1) + forward[30:60, 40:80]).astype(int).reshape(-1, 2)
    inside = ((there >= 0) & (there < (128, 96))).all(axis=1)
    backward[there[inside][:, 1], there[inside][:, 0]] = -forward[30:60, 40:80].reshape(-1, 2)[inside]
    drawn = module._matches(Flow(forward, backward), USED)
    assert drawn is not None
    moves = ((drawn[0].first >= (40, 30)) & (drawn[0].first < (80, 60))).all(axis=1)
    assert moves.mean() < 0.02, "of 10 % of the pixels"
    found = between(Flow(forward, backward), CAMERA.K, USED, first, second)
    rotation_deg, direction_deg, ratio = errors(found.T_first_second, STEP)
    assert rotation_deg < 0.2
    assert direction_deg < 2
    assert ratio == pytest.approx(1, abs=0.04)


def test_nothing_is_claimed_of_darkness_a_cut_or_a_still_camera() -> None:
    flow, first, _ = town()
    unknown = Flow(np.full_like(flow.forward, np.nan), flow.backward)
    masked = Flow(flow.forward, flow.backward, np.zeros(first.shape, bool))
    for nothing in (unknown, masked):
        found = between(nothing, CAMERA.K, USED)
        assert (found.kind, found.has_direction) == ("lost", False)
        assert "too few matches" in str(found)
    classical = ClassicalFlow()
    dark = np.full((96, 128, 3), 7, np.uint8)
    assert between(classical(dark, dark), CAMERA.K, USED).kind == "lost", "flow of 0 where nothing is to be seen"
    image = seen(START)[0]
    still = between(classical(image, image), CAMERA.K, USED)
    assert still.kind == "still"
    assert np.array_equal(still.T_first_second, np.eye(4))
    for turn in (0.9, 1.2, 1.8):
        elsewhere = seen(START @ se3.exponential([8, 3, 0, 0.4, 0.3, turn]))[0]
        assert between(classical(image, elsewhere), CAMERA.K, USED).kind == "lost", "a cut"


@settings(max_examples=20)
@given(st.floats(0.01, 100.0), st.integers(0, 99), st.floats(0.0, 0.35))
def test_a_scale_bears_depth_that_is_wrong(true: float, seed: int, wrong: float) -> None:
    rng = np.random.default_rng(seed)
    triangulated = rng.uniform(2, 50, 600)
    depth = true * triangulated * rng.normal(1, 0.02, 600)
    spoilt = rng.random(600) < wrong
    depth[spoilt] *= rng.uniform(1.5, 5, spoilt.sum())
    depth[:20], triangulated[20:40] = np.nan, -1.0
    found = module._scale(triangulated, depth, USED, rng)
    assert found == pytest.approx(true, rel=0.02)
    assert module._scale(triangulated[:60], depth[:60], USED, rng) is None


# Sequences.


@functools.cache
def flight() -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """T_map_cam (N, 4, 4) of a bend over the town, images and depths."""
    poses = [START]
    for i in range(9):
        poses.append(poses[-1] @ se3.exponential([1.1, 0.25, 0.35, 0.01, -0.05 + 0.01 * i, 0.015]))
    views = [seen(T) for T in poses]
    return np.stack(poses), [view[0] for view in views], [view[1] for view in views]


def relative(T_map_cam: np.ndarray) -> np.ndarray:
    return se3.inverse(T_map_cam[0]) @ T_map_cam


def test_the_shape_of_a_flight_is_followed_without_a_network() -> None:
    T_map_cam, images, _ = flight()
    track = odometry(images, CAMERA, ClassicalFlow(), settings=USED)
    truth = relative(T_map_cam)
    assert len(track.T_start_cam) == 10
    assert np.array_equal(track.T_start_cam[0], np.eye(4))
    unit = np.linalg.norm(truth[1, :3, 3]) / np.linalg.norm(track.T_start_cam[1, :3, 3])
    length = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).sum()
    off = np.linalg.norm(unit * track.T_start_cam[:, :3, 3] - truth[:, :3, 3], axis=1)
    assert off.max() < 0.12 * length, "lengths are carried from step to step"
    assert np.degrees(se3.apart(track.T_start_cam, truth)[1]).max() < 2.5
    assert "step" in track.summary()


def test_steps_keep_their_lengths_and_after_a_lost_one_the_last_that_was_known() -> None:
    """Steps of 1, 1.8 and 0.7 times the first one, a frame of darkness, and a step whose length shows in nothing."""
    turn = (0.01, -0.03, 0.015)
    poses = [START]
    for length in (1.0, 1.8, 0.7, 1.0, 1.0, 1.0):
        poses.append(poses[-1] @ se3.exponential([0.9 * length, 0.2 * length, 0.35 * length, *turn]))
    views = [seen(T) for T in poses]
    number = {id(view[0]): i for i, view in enumerate(views)}

    def exact(first: np.ndarray, second: np.ndarray) -> Flow:
        i, j = number[id(first)], number[id(second)]
        flow = flow_of((views[i][1], views[j][1]), se3.inverse(poses[i]) @ poses[j])
        return flow if 4 not in (i, j) else Flow(np.full_like(flow.forward, np.nan), flow.backward)

    track = odometry([view[0] for view in views], CAMERA, exact, settings=USED)
    assert [motion.kind == "lost" for motion in track.motions] == [False] * 3 + [True] * 2 + [False]
    lengths = np.linalg.norm(np.diff(track.T_start_cam[:, :3, 3], axis=0), axis=1)
    np.testing.assert_allclose(lengths, [1.0, 1.8, 0.7, 0.7, 0.7, 0.7], rtol=0.06)


def test_with_depth_the_way_is_in_its_unit() -> None:
    T_map_cam, images, depths = flight()
    by_image = {id(image): depth for image, depth in zip(images, depths, strict=True)}
    track = odometry(images, CAMERA, ClassicalFlow(), lambda image: by_image[id(image)], USED)
    truth = relative(T_map_cam)
    off_m = np.linalg.norm(track.T_start_cam[:, :3, 3] - truth[:, :3, 3], axis=1)
    assert off_m.max() < 0.07 * np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).sum()
    assert all(motion.has_scale for motion in track.motions)


def test_a_step_that_is_lost_is_like_the_one_before() -> None:
    _, images, _ = flight()
    dark = [*images[:4], np.zeros_like(images[0]), *images[5:7]]
    track = odometry(dark, CAMERA, ClassicalFlow(), settings=USED)
    assert [motion.kind == "lost" for motion in track.motions] == [False] * 3 + [True] * 2 + [False]
    steps = se3.inverse(track.T_start_cam[:-1]) @ track.T_start_cam[1:]
    assert np.allclose(steps[4], steps[2])
    assert "2 steps: lost" in track.summary()


def test_steps_of_length_1_where_lengths_are_not_carried() -> None:
    _, images, _ = flight()
    track = odometry(images[:4], CAMERA, ClassicalFlow(), settings=OdometrySettings(matches=2000, carry_scale=False))
    assert np.allclose(np.linalg.norm(np.diff(track.T_start_cam[:, :3, 3], axis=0), axis=1), 1)


def test_distortion_is_undone_first() -> None:
    lens = Camera(128, 96, 91.0, 91.0, 63.5, 47.5, "plumb_bob", (-0.25, 0.05, 0.0, 0.0))
    ideal = Camera(128, 96, 91.0, 91.0, 63.5, 47.5)
    images = [world().render(T, lens, supersample=2)[0] for T in (START, START @ STEP)]
    shown: list[np.ndarray] = []

    def classical(first: np.ndarray, second: np.ndarray) -> Flow:
        shown.extend((first, second))
        return ClassicalFlow()(first, second)

    assert odometry(images, lens, classical, settings=USED).motions[0].has_direction
    for image, raw, T in zip(shown, images, (START, START @ STEP), strict=True):
        pinhole = world().render(T, ideal, supersample=2)[0].astype(np.float64)
        assert np.abs(image - pinhole).mean() < 0.6 * np.abs(raw - pinhole).mean()


def test_the_command_writes_a_track_that_is_measured_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    T_map_cam, images, _ = flight()
    with DatasetWriter(tmp_path / "flight", DatasetMeta(camera=CAMERA)) as writer:
        for i, (T, image) in enumerate(zip(T_map_cam, images, strict=True)):
            writer.add((i + 1) * 100_000_000, T, image, None)
    damaged = sorted((tmp_path / "flight" / "rgb").iterdir())[8]
    damaged.write_bytes(damaged.read_bytes()[:200])
    track, source = tmp_path / "found" / "track.txt", tmp_path / "flight"
    assert main(["depth", "odometry", str(source), "--out", str(track)]) == 0
    said = capsys.readouterr().out
    assert "9 poses in the first camera, in no unit" in said
    assert "steps: moved, by essential" in said
    assert "1 frame could not be read" in said
    assert len(read_pose_list(track)) == 9
    assert main(["depth", "evaluate", str(track), str(source), "--out", str(tmp_path / "report")]) == 0
    figures = json.loads((tmp_path / "report" / "metrics.json").read_text())["sequences"]["track"]["figures"]
    assert 0 < figures["7dof"]["ate_m"] < 1.0
    assert main(["depth", "odometry", str(source), "--out", str(track), "--stride", "0"]) == 2
    assert "--stride is 0" in capsys.readouterr().err


def test_what_cannot_be_followed_is_refused_in_a_line() -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    for images, camera, said in (
        ([], CAMERA, "0 images: motion takes at least two"),
        ([image], CAMERA, "1 image: motion takes at least two"),
        ([image, image[:50]], CAMERA, "image 1 has 128 x 50 pixels, the camera 128 x 96"),
        ([image, image], Camera(128, 96, 0.0, 0.0, 0.0, 0.0), "not calibrated"),
    ):
        with pytest.raises(UserError, match=said):
            odometry(images, camera, ClassicalFlow())


def test_a_road_is_driven_as_its_ground_truth_says(real_data: Path) -> None:
    """Six pairs of KITTI; bench/two_view.py has all of them."""
    folder = real_data / "kitti_sequence_1"
    K = np.array((folder / "calib.txt").read_text().split()[:12], np.float64).reshape(3, 4)[:, :3]
    truth = np.array((folder / "poses.txt").read_text().split(), np.float64).reshape(-1, 3, 4)
    files = sorted((folder / "image_l").glob("*.png"))
    classical, found = ClassicalFlow(), []
    for i in range(4, 50, 8):
        images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in files[i : i + 2]]
        motion: Motion = between(classical(*images), K, OdometrySettings())
        assert motion.kind == "general"
        T_start_cam = np.concatenate([truth[i : i + 2], np.tile([0.0, 0.0, 0.0, 1.0], (2, 1, 1))], axis=1)
        found.append(errors(motion.T_first_second, se3.inverse(T_start_cam[0]) @ T_start_cam[1])[:2])
    rotation_deg, direction_deg = np.median(found, axis=0)
    assert rotation_deg < 0.2
    assert direction_deg < 2

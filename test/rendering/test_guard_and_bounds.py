"""The guard, the bounds of depth, and the files of a calibration."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import support.small_relief as small_relief
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.depth_bounds import Pixels, bounds_of
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.rendering.bounds import (
    FEATURES,
    FILES,
    Calibration,
    IntervalTable,
    depth_spread,
    load_calibration,
    radius_px,
    save_calibration,
)
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.rendering.trust import Guard, PoseScore, hull_distance
from pose2rgbd_ros.training.checkpoint import load_checkpoint, save_checkpoint

DOWN = Rotation.from_euler("x", 180, degrees=True).as_matrix()


def table(seed: int = 0) -> IntervalTable:
    generator = np.random.default_rng(seed)
    edges = tuple(np.array(values, np.float32) for values in ([0.6, 0.8], [0.05, 0.2, 0.5], [9.0, 11.5], [1.0]))
    shape = tuple(len(edge) + 1 for edge in edges)
    lower = generator.uniform(0, 0.5, shape).astype(np.float32)
    lower[generator.random(shape) < 0.1] = np.nan
    return IntervalTable(edges, lower, np.where(np.isnan(lower), np.nan, lower / 2), 50.0, 32.0)


def calibration(weights_sha256: str, limit: float = 3.0) -> Calibration:
    return Calibration(weights_sha256, 0.9, 0.005, 2.0, limit, 12.0, table(), {"unit": "lines"})


def survey(lines: int = 7, apart_m: float = 20.0) -> np.ndarray:
    """(N, 4, 4): parallel lines of 200 m at 50 m, flown there and back, the camera turned with the vehicle."""
    poses = []
    for line in range(lines):
        along = np.linspace(-100, 100, 41) * (1 if line % 2 == 0 else -1)
        T = np.tile(np.eye(4), (len(along), 1, 1))
        T[:, :3, 3] = np.stack([along, np.full(41, line * apart_m), np.full(41, 50.0)], axis=-1)
        T[:, :3, :3] = Rotation.from_euler("z", 0 if line % 2 == 0 else 180, degrees=True).as_matrix() @ DOWN
        poses.append(T)
    return np.concatenate(poses)


def at(x: float, y: float, z: float, yaw_deg: float = 0.0, pitch_deg: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = x, y, z
    T[:3, :3] = Rotation.from_euler("zy", [yaw_deg, pitch_deg], degrees=True).as_matrix() @ DOWN
    return T


depths = arrays(np.float32, (9, 11), elements=st.floats(np.float32(0.5), np.float32(60.0), width=32))
holes = arrays(np.bool_, (9, 11))


@settings(max_examples=30)
@given(depths, holes, arrays(np.float32, (9, 11), elements=st.floats(0, 1, width=32)), st.floats(0, 5))
def test_bounds_enclose_depth_and_are_unknown_with_it(depth, hole, confidence, score):
    depth = np.where(hole, np.float32(np.nan), depth)
    before, lower, upper = depth.copy(), np.empty_like(depth), np.empty_like(depth)
    sure = confidence.copy()
    table().bound(depth, confidence, score, 32.0, lower, upper)
    known = np.isfinite(depth)
    assert (confidence[known] == sure[known]).all()
    assert (confidence[np.isfinite(before) & ~known] == 0).all(), "what is forgotten is not sure"
    assert (np.isnan(lower) == ~known).all()
    assert (np.isnan(upper) == ~known).all()
    assert not known[hole].any(), "what the model does not know stays unknown"
    assert (depth[known] == before[known]).all()
    assert ((lower[known] >= 0) & (lower[known] <= depth[known]) & (depth[known] <= upper[known])).all()
    assert not known[before > 50.0].any(), "farther than any calibrated depth"


@pytest.mark.parametrize("has_confidence", [True, False])
def test_compiled_and_array_way_agree(has_confidence: bool):
    generator = np.random.default_rng(1)
    depth = generator.uniform(5, 14, (20, 30)).astype(np.float32)
    confidence = generator.uniform(0.5, 1, (20, 30)).astype(np.float32) if has_confidence else None
    lower, upper, chosen = np.empty_like(depth), np.empty_like(depth), table()
    spread = depth_spread(depth, 2)
    score = np.full(depth.shape, 1.5, np.float32)
    told = np.zeros_like(depth) if confidence is None else confidence
    features = tuple(values.ravel() for values in (told, spread, depth, score))
    pixels = Pixels(features, depth.ravel().copy(), depth.ravel(), np.zeros(depth.size), np.zeros(depth.size))
    known, *expected = (values.reshape(depth.shape) for values in bounds_of(chosen, pixels))
    chosen.bound(depth, confidence, 1.5, 32.0, lower, upper)
    for found, wanted in zip((lower, upper), expected, strict=True):
        np.testing.assert_allclose(found, np.where(known, wanted, np.nan), rtol=1e-5)
    assert np.isnan(lower).mean() < 0.5
    assert np.isnan(lower).any() == has_confidence


def test_bounds_by_hand():
    edges = tuple(np.array(values, np.float32) for values in ([0.5], [0.1], [20.0], [1.0]))
    lower, upper = np.full((2, 2, 2, 2), 0.1, np.float32), np.full((2, 2, 2, 2), 0.3, np.float32)
    lower[..., 1], upper[..., 1] = 0.2, 0.6  # of a pose that scores 1 and more
    lower[:, :, 1, 0], lower[:, 1] = 0.15, 0.7  # of a depth of 20 m and more, and beside an edge
    lower[0], upper[0] = np.nan, np.nan  # of a confidence below 0.5
    chosen = IntervalTable(edges, lower, upper, 40.0, 32.0)

    def bounds(depth_m: float, confidence: float, score: float, forget: bool = True) -> list[float]:
        images = [np.full((1, 1), value, np.float32) for value in (depth_m, confidence, 9.0, 9.0)]
        depth, sure, near, far = images
        chosen.bound(depth, sure, score, 32.0, near, far, forget)
        return [float(image[0, 0]) for image in (depth, near, far, sure)]

    assert bounds(10.0, 0.9, 0.0) == pytest.approx([10.0, 9.0, 13.0, 0.9])
    assert bounds(10.0, 0.9, 1.0) == pytest.approx([10.0, 8.0, 16.0, 0.9])
    assert bounds(19.9, 0.9, 0.0)[1] == pytest.approx(0.9 * 19.9)
    assert bounds(20.0, 0.5, 0.0) == pytest.approx([20.0, 17.0, 26.0, 0.5]), "an edge belongs to the cell above"
    assert bounds(40.0, 0.9, 0.0) == pytest.approx([40.0, 34.0, 52.0, 0.9]), "as far as was calibrated"
    for unknown in ((10.0, 0.2, 0.0), (41.0, 0.9, 0.0)):
        assert bounds(*unknown) == pytest.approx([np.nan, np.nan, np.nan, 0.0], nan_ok=True)
        kept = unknown[0], 0.0, np.inf, pytest.approx(unknown[1])
        assert tuple(bounds(*unknown, forget=False)) == kept, "the widest bounds there are"


def test_the_neighbourhood_keeps_its_angle():
    for focal_px, radius in ((32.0, 2), (64.0, 4), (16.0, 1), (48.0, 3), (1e6, 32), (1.0, 1), (0.0, 2)):
        assert radius_px(focal_px, 32.0) == radius
    assert radius_px(64.0, 0.0) == 2, "a camera that is not calibrated"
    edges = tuple(np.array(values, np.float32) for values in ([0.5], [0.5], [100.0], [10.0]))
    lower = np.full((2, 2, 2, 2), 0.1, np.float32)
    lower[:, 1] = 0.6  # near an edge
    chosen = IntervalTable(edges, lower, lower, 1e3, 32.0)

    def rim(side: int, focal_px: float) -> float:
        """Share of the picture whose lower bound is that of an edge in its middle."""
        depth = np.full((side, side), 10.0, np.float32)
        depth[:, side // 2 :] = 30.0
        lower, upper = np.empty_like(depth), np.empty_like(depth)
        chosen.bound(depth, np.ones_like(depth), 0.0, focal_px, lower, upper)
        return float((lower < 0.5 * depth).mean())

    assert rim(64, 32.0) == 4 / 64
    assert rim(256, 128.0) == 16 / 256, "the same share of a picture of four times the size"


def test_spread_sees_an_edge_and_no_farther_than_its_radius():
    depth = np.full((9, 9), 10.0, np.float32)
    depth[:, 6:] = 30.0
    depth[0, 0] = np.nan
    spread = depth_spread(depth, 2)
    assert spread[4, 3] == 0.0
    assert spread[4, 4] == pytest.approx(2.0)
    assert np.isnan(spread[0, 0])
    assert spread[1, 1] == 0.0, "an unknown neighbour is no edge"


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_hull_distance_of_a_box(seed):
    generator = np.random.default_rng(seed)
    corners = np.array(np.meshgrid([0, 4], [0, 5], [0, 6])).reshape(3, -1).T.astype(float)
    point = generator.uniform(-5, 10, 3)
    expected = np.linalg.norm(np.maximum(np.maximum(-point, point - [4, 5, 6]), 0))
    assert hull_distance(corners - point, 2000, 1e-6) == pytest.approx(expected, abs=0.02)


def test_between_lines_is_inside_beyond_them_and_turned_is_not():
    score = PoseScore(survey(), 50.0)
    between = max(score(at(x, 30.0, 50.0)).score for x in np.linspace(-90, 90, 7))
    outside = [at(0, 140.0, 50), at(0, -20.0, 50), at(0, 60, 67), at(0, 60, 33), at(118, 60, 50)]
    turned = [at(0, 60, 50, yaw_deg=90), at(40, 30, 50, yaw_deg=-60), at(0, 60, 50, pitch_deg=60)]
    assert between < 8.0
    for T in (*outside, *turned):
        assert score(T).score > between + 4.0
    assert score(at(0, 60, 67)).beyond_m == pytest.approx(17.0, abs=0.5)
    assert np.isinf(score(np.full((4, 4), np.nan)).score)


def test_the_score_of_a_survey_by_hand():
    """Lines 20 m apart, headings in turn: at 50 m a pose 40 m off that looks the same way is 10 m turned, as is
    usual.
    """
    score = PoseScore(survey(), 50.0)
    assert score.usual_m == pytest.approx(10.0, abs=0.01)
    assert score.reach_m == pytest.approx(1.5 * 20.0, abs=0.01)
    across = score(at(0, 70, 50))  # 10 m off two lines, one of which looks this way
    assert across == pytest.approx((0.0, 2.5, 10.0), abs=0.02)
    assert across.score == pytest.approx(0.25, abs=0.01), "what is usual counts a tenth"
    turned = score(at(0, 70, 50, yaw_deg=30))
    chord_m = 2 * np.sin(np.radians(15)) * 50
    assert turned.turned_m == pytest.approx(2.5 + chord_m, abs=0.05)
    assert turned.score == pytest.approx(2.5 + chord_m - 10.0, abs=0.05), "what exceeds the usual counts whole"
    above = score(at(0, 60, 90))
    assert above.beyond_m == pytest.approx(40.0 + 10.0, abs=0.5), "10 m farther than the reach once more"
    assert above.score == pytest.approx(above.beyond_m + max(above.turned_m - 10.0, 0.1 * above.turned_m))


def test_a_few_odd_passes_do_not_make_what_is_usual():
    training = survey()
    for index in range(0, len(training), 20):  # one pose in twenty looks where no other does
        training[index, :3, :3] = at(0, 0, 0, yaw_deg=40.0 + index / 20)[:3, :3]
    score = PoseScore(training, 50.0)
    assert score.usual_m == pytest.approx(10.0, abs=1.0)


def test_a_pose_passes_up_to_the_limit_and_no_farther():
    training, T = survey(), at(0, 60, 70)
    score = PoseScore(training, 50.0)(T).score
    assert score > 15.0
    for limit, inside in ((score, True), (0.999 * score, False), (1.001 * score, True), (0.51 * score, False)):
        answer = Guard(training, 50.0, limit).check(T)
        assert (answer.inside, answer.score, answer.limit) == (inside, score, limit)
        assert (answer.reason == "") == inside
    assert not Guard(training, 50.0, 1e9).check(np.full((4, 4), np.nan)).inside
    words = Guard(training, 50.0, 3.0).check(T).reason
    assert words == f"20.0 m beyond the poses flown: score {score:.1f}, held-out frames vouch up to 3.0"
    words = Guard(training, 50.0, 3.0).check(at(0, 60, 50, yaw_deg=90)).reason
    assert words.startswith("looks 90 deg away from the training poses nearby: score ")


def test_without_a_calibration_the_margins_about_the_training_poses_decide():
    training = survey()
    for any_camera in (False, True):
        guard = Guard(training, 50.0, None, any_camera)
        near, far = guard.check(at(0, 61, 50)), guard.check(at(0, 60, 120))
        assert (near.inside, near.is_near, near.is_calibrated) == (True, True, False)
        assert (far.inside, far.is_near, far.reason == "") == (any_camera, False, any_camera)
        assert np.isnan(far.limit)
    assert not guard.check(np.full((4, 4), np.nan)).inside


def test_a_hole_in_the_flight_is_no_inside():
    ring = np.stack([at(150 * np.cos(a), 150 * np.sin(a), 50) for a in np.linspace(0, 6.2, 200)])
    score = PoseScore(ring, 50.0)
    assert score(at(0, 0, 50)).beyond_m > 45.0
    assert score(at(150, 0, 50)).beyond_m < 1.0


def test_the_training_poses_that_look_most_alike():
    near, turned, far = at(2, 0, 50), at(0, 0, 50, yaw_deg=90), at(60, 0, 50)
    score = PoseScore(np.stack([turned, far, near]), 50.0)
    assert np.allclose(score.most_alike(at(0, 0, 50), 2), [near, far])
    assert np.allclose(score.most_alike(at(0, 0, 50, yaw_deg=85), 9)[0], turned)
    assert len(score.most_alike(at(0, 0, 50), 9)) == 3


def test_a_single_training_pose_is_enough():
    score = PoseScore(at(0, 0, 50)[None], 50.0)
    assert score(at(0, 0, 50)).score < 0.01
    assert score(at(30, 0, 50)).score > 20.0


def test_files_come_back_as_they_went(tmp_path: Path):
    save_calibration(tmp_path, calibration("abc"))
    found = load_calibration(tmp_path, "abc")
    assert found is not None
    assert dataclasses.replace(found, table=None) == dataclasses.replace(calibration("abc"), table=None)
    np.testing.assert_array_equal(found.table.lower, table().lower)
    assert [len(edges) for edges in found.table.edges] == [2, 3, 2, 1]
    assert len(FEATURES) == 4
    assert load_calibration(tmp_path / "elsewhere", "abc") is None


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / FILES.arrays).unlink(), "cannot be read"),
        (lambda folder: (folder / FILES.yaml).unlink(), "does not exist"),
        (lambda folder: (folder / FILES.arrays).write_bytes(b"\x80\x04pickle"), "pickle"),
        (lambda folder: save_tables_of_another(folder), "not of one calibration"),
        (lambda folder: replace_text(folder, "guard_limit: 3.0", "guard_limit: .nan"), "damaged"),
        (lambda folder: replace_text(folder, "guard_limit: 3.0", "guard_limit: [1]"), "damaged"),
        (lambda folder: replace_text(folder, "level: 0.9\n", ""), "damaged"),
        (lambda folder: replace_text(folder, "format_version: 1", "format_version: 7"), "format_version is 7"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, damage, told: str):
    save_calibration(tmp_path, calibration("abc"))
    damage(tmp_path)
    with pytest.raises(UserError, match=told) as refused:
        load_calibration(tmp_path, "abc")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_a_bound_on_the_wrong_side_of_depth_is_refused(tmp_path: Path, side: str):
    wrong = dataclasses.replace(table(), **{side: np.full_like(table().lower, -0.1)})
    save_calibration(tmp_path, dataclasses.replace(calibration("abc"), table=wrong))
    with pytest.raises(UserError, match="a bound is on the wrong side of depth"):
        load_calibration(tmp_path, "abc")


def save_tables_of_another(folder: Path) -> None:
    text = (folder / FILES.yaml).read_text()
    save_calibration(folder, dataclasses.replace(calibration("abc"), table=table(1)))
    (folder / FILES.yaml).write_text(text)


def replace_text(folder: Path, old: str, new: str) -> None:
    text = (folder / FILES.yaml).read_text()
    assert old in text
    (folder / FILES.yaml).write_text(text.replace(old, new))


def test_the_renderer_fills_bounds_withholds_and_refuses(tmp_path: Path):
    path = small_relief.write_small_relief(tmp_path / "model")
    loaded = load_checkpoint(path)
    plain = Renderer(path, "cpu", threads=1)
    assert (plain.calibration, plain.render(loaded.training_T_map_cam[0]).depth_lower) == (None, None)
    save_calibration(path, calibration(loaded.weights_sha256))
    renderer = Renderer(path, "cpu", threads=1)
    for camera in (renderer.camera, Camera.from_fov(48, 40, 70.0)):
        images = renderer.render_for_camera(loaded.training_T_map_cam[:2], camera)
        known = np.isfinite(images.depth)
        assert known.mean() > 0.1
        for bound in (images.depth_lower, images.depth_upper):
            assert bound.dtype == np.float32
            assert (np.isfinite(bound) == known).all()
        assert (images.depth_lower[known] <= images.depth[known]).all()
        assert (images.depth_upper[known] >= images.depth[known]).all()
    far = loaded.training_T_map_cam[0].copy()
    far[0, 3] += 8.0
    answer = renderer.guard_score(far)
    assert (answer.inside, answer.limit) == (False, 3.0)
    assert "beyond the poses flown" in answer.reason
    images = renderer.render(far)
    for withheld in (images.depth, images.depth_lower, images.depth_upper):
        assert np.isnan(withheld).all()
    assert (images.confidence == 0).all()
    assert np.isfinite(Renderer(path, "cpu", threads=1, guard=False).render(far).depth).any()
    again = renderer.render(loaded.training_T_map_cam[0])
    assert np.isfinite(renderer.render(loaded.training_T_map_cam[1], out=again).depth).any(), "out is filled anew"


def test_weights_and_calibration_belong_together(tmp_path: Path):
    path = small_relief.write_small_relief(tmp_path / "model")
    save_calibration(path, calibration("of other weights"))
    with pytest.raises(UserError, match="of other weights than the checkpoint"):
        Renderer(path, "cpu")
    loaded = load_checkpoint(path)
    save_checkpoint(path, loaded)
    assert not (path / FILES.yaml).exists(), "a checkpoint written anew has no calibration"
    assert Renderer(path, "cpu", threads=1).calibration is None

"""Clearance profiles in a street of boxes whose true depth and distances are computed exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.clearance import SurfaceFinder, Surfaces, coarser
from pose2rgbd_ros.obstacles.paths import ProfileBuilder, ProfileSettings, Waypoints, faced, resampled

# Two rows of houses along the x axis, one across its end, and the ground: corners low and high, metres.
BOXES = np.array(
    [
        [[-50, 6, 0], [60, 12, 20]],
        [[-50, -12, 0], [20, -6, 20]],
        [[60, -20, 0], [70, 20, 30]],
        [[-99, -99, -1], [99, 99, 0]],
    ],
    float,
)
CAMERA = Camera.from_fov(96, 72, 90.0)
DOWN = se3.look_at(np.zeros(3), np.array([0.0, 0.0, -1.0]))
AHEAD = se3.T_BODY_OPTICAL
SETTINGS = ProfileSettings(radius_m=1.0, near_m=3.0)
EXACT = 1e-6


def depth_of(T_map_cam: np.ndarray, camera: Camera = CAMERA) -> np.ndarray:
    """True depth (H, W) of the boxes; NaN for the sky."""
    ways = camera.rays().reshape(-1, 3) @ T_map_cam[:3, :3].T
    with np.errstate(divide="ignore"):
        t = (BOXES[:, :, None] - T_map_cam[:3, 3]) / ways  # (boxes, 2, rays, 3)
    enter, leave = t.min(axis=1).max(axis=-1), t.max(axis=1).min(axis=-1)
    hit = np.where((enter <= leave) & (enter > 0), enter, np.inf).min(axis=0)
    return np.where(np.isfinite(hit), hit, np.nan).reshape(camera.height, camera.width).astype(np.float32)


def distance_of(place: np.ndarray) -> float:
    """True distance of a place to the nearest box."""
    return np.linalg.norm(np.maximum(np.maximum(BOXES[:, 0] - place, place - BOXES[:, 1]), 0), axis=1).min()


def room_of(place: np.ndarray, direction: np.ndarray, radius_m: float, most_m: float = 120.0) -> float:
    """How far a ball really goes before it touches a box."""
    gone = 0.0
    while gone < most_m:
        left = distance_of(place + gone * direction) - radius_m
        if left < 1e-4:
            return gone
        gone += left
    return most_m


def street(z: float = 8.0, spacing_m: float = 3.0, to_x: float = 50.0, y: float = 0.0):
    route = np.array([[0.0, y, z], [to_x, y, z]])
    blank = np.tile([0.0, 0.0, 0.0, 1.0], (2, 1))
    return resampled(faced(Waypoints(route, blank, np.full(2, np.nan)), "path"), spacing_m)


def views(path, T_body_cam, error=0.0):
    depth = np.stack([depth_of(T @ T_body_cam) for T in path.T_map_body])
    return depth * np.float32(1 - error), depth * np.float32(1 + error)


def build(path, T_body_cam, lower, upper, inside=None, settings=SETTINGS, parts=1):
    builder = ProfileBuilder(path, CAMERA, T_body_cam, settings)
    inside = np.ones(len(path), bool) if inside is None else inside
    for index in np.array_split(np.arange(len(path)), parts):
        builder.add(lower[index], upper[index], inside[index])
    return builder.profile()


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_looking_ahead_no_bound_exceeds_the_truth(error):
    path = street()
    lower, upper = views(path, AHEAD, error)
    lower, upper = (np.nan_to_num(lower, nan=500.0), np.nan_to_num(upper, nan=550.0))  # a sky that is known to be far
    profile = build(path, AHEAD, lower, upper)
    places = path.T_map_body[:, :3, 3]
    room = np.array([room_of(place, np.array([1.0, 0, 0]), 1.0) for place in places])
    assert np.isfinite(profile.ahead_m).all()
    assert (profile.ahead_m <= room + EXACT).all()
    assert (profile.ahead_m >= 0.6 * room - 1.0).all(), "and it says something"
    assert np.isnan(profile.below_m).all(), "nobody looked down"
    # Walls 6 m aside are out of the first view's near field, but later poses know them from earlier views.
    true = np.array([distance_of(place) for place in places])
    assert (profile.clearance_m[3:] <= true[3:] + 0.35).all()
    assert np.isnan(profile.first_unknown_m)
    assert np.isnan(profile.first_conflict_m)
    assert profile.message == ""


def test_looking_down_the_room_ahead_is_unknown():
    path = street(z=30.0, to_x=40.0)
    lower, upper = views(path, DOWN, 0.05)
    profile = build(path, DOWN, lower, upper)
    true = np.array([distance_of(place) for place in path.T_map_body[:, :3, 3]])
    assert (profile.clearance_m <= true + EXACT).all()
    assert (profile.below_m <= 30.0 + EXACT).all()
    assert (profile.below_m > 24.0).all()
    assert np.isnan(profile.ahead_m).all()
    assert "the camera does not see the way" in profile.message


def test_a_conflict_is_found_where_the_way_enters_a_wall():
    path = street(to_x=80.0)
    lower, upper = views(path, AHEAD, 0.02)
    profile = build(path, AHEAD, np.nan_to_num(lower, nan=500.0), np.nan_to_num(upper, nan=500.0))
    assert 55.0 < profile.first_conflict_m <= 59.0  # the wall at 60 m, less the radius
    assert np.nanmin(profile.ahead_m) == 0.0


def test_a_conflict_between_two_poses_is_seen():
    path = street(spacing_m=50.0, to_x=100.0)  # poses at 0, 50 and 100 m; the house across lies between two
    lower, upper = views(path, AHEAD)
    unknown = np.full_like(lower[1:], np.nan)
    profile = build(path, AHEAD, np.concatenate([lower[:1], unknown]), np.concatenate([upper[:1], unknown]),
                    settings=replace(SETTINGS, min_known=0.2))  # fmt: skip
    assert 57.0 < profile.first_conflict_m <= 59.0


def test_what_is_unknown_stays_unknown_whatever_the_neighbours_saw():
    path = street()
    lower, upper = views(path, AHEAD)
    lower[4], upper[4] = np.nan, np.nan
    inside = np.ones(len(path), bool)
    inside[8] = False
    profile = build(path, AHEAD, lower, upper, inside, replace(SETTINGS, min_known=0.2))
    assert np.isnan(profile.clearance_m[[4, 8]]).all()
    assert np.isnan(profile.ahead_m[[4, 8]]).all()
    assert np.isfinite(np.delete(profile.clearance_m, [4, 8])).all()
    assert profile.first_unknown_m == pytest.approx(12.0)
    assert "unknown at 1 of 18 poses, first at 24.0 m: unlike what the model was trained on" in profile.message
    assert "first at 12.0 m: less than 20% of the view is known" in profile.message


def test_a_view_known_too_little_says_nothing():
    path = street()
    lower, upper = views(path, AHEAD)  # a third of it is sky, unknown
    known = np.isfinite(lower).mean(axis=(1, 2))
    profile = build(path, AHEAD, lower, upper, settings=replace(SETTINGS, min_known=float(known.max()) + 0.01))
    assert np.isnan(profile.clearance_m).all()
    assert profile.first_unknown_m == 0.0
    np.testing.assert_allclose(profile.known, known)


@pytest.mark.parametrize("parts", [2, 5, 18])
def test_the_parts_it_is_rendered_in_make_no_difference(parts):
    path = street()
    lower, upper = views(path, AHEAD, 0.1)
    whole = build(path, AHEAD, lower, upper, settings=replace(SETTINGS, merged=3, min_known=0.2))
    again = build(path, AHEAD, lower, upper, settings=replace(SETTINGS, merged=3, min_known=0.2), parts=parts)
    for name in ("clearance_m", "ahead_m", "below_m", "known", "first_conflict_m"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


def test_a_profile_as_far_as_it_goes():
    path = street()
    lower, upper = views(path.part(0, 5), AHEAD)
    builder = ProfileBuilder(path, CAMERA, AHEAD, SETTINGS)
    assert len(builder.profile().clearance_m) == 0
    builder.add(lower, upper, np.ones(5, bool))
    assert len(builder.profile().clearance_m) == builder.done == 5
    with pytest.raises(ValueError, match="views of a path of 18 poses"):
        builder.add(np.tile(lower, (4, 1, 1)), np.tile(upper, (4, 1, 1)), np.ones(20, bool))
    with pytest.raises(UserError, match="clearances need a calibrated camera"):
        ProfileBuilder(path, Camera(96, 72, 0, 0, 0, 0), AHEAD, SETTINGS)


coordinates = st.floats(-20, 20, allow_nan=False, width=32)
places = arrays(np.float64, 3, elements=coordinates)


@settings(max_examples=40)
@given(arrays(np.float64, (4, 6), elements=coordinates), places, places, st.floats(0.1, 3), st.floats(0.0, 1.0))
def test_a_ball_touches_surfaces_when_it_is_said_to(spindles, place, towards, radius_m, reach_m):
    if np.linalg.norm(towards) < 0.1:
        return
    direction = towards / np.linalg.norm(towards)
    surfaces = Surfaces(spindles[:, :3], spindles[:, 3:] / 4, np.full(4, reach_m))

    def left(at_m: float) -> float:
        """How much room a ball there has left, by looking at many places of each spindle."""
        shares = np.linspace(0, 1, 401)[:, None, None]
        parts = spindles[:, :3] + shares * spindles[:, 3:] / 4
        return np.linalg.norm(parts - place - at_m * direction, axis=-1).min() - reach_m - radius_m

    near = surfaces.near(place)
    assert near.distance_m == pytest.approx(max(left(0.0) + radius_m, 0.0), abs=0.02)
    contact_m = near.contact_m(direction, radius_m)
    if np.isfinite(contact_m):
        assert left(contact_m) == pytest.approx(0.0, abs=0.02) or (contact_m == 0.0 and left(0.0) < 0.02)
    for at_m in np.linspace(0.0, min(contact_m, 60.0) - 0.1, 40) if contact_m > 0.1 else ():
        assert left(at_m) > -0.02


def test_surfaces_cover_all_pixels_of_their_blocks():
    """Every point between the bounds of any pixel lies within its block's spindle."""
    camera = Camera.from_fov(160, 128, 80.0)
    T = se3.make([1.0, 2.0, 3.0], [0.1, 0.2, 0.3, 0.9])
    random = np.random.default_rng(0)
    lower = random.uniform(5, 6, (128, 160)).astype(np.float32)
    lower[:7, :9] = np.nan
    upper = lower + random.uniform(0, 2, lower.shape).astype(np.float32)
    surfaces = SurfaceFinder(camera).surfaces(lower, upper, T)
    rays = camera.rays()
    for v, u in ((40, 51), (127, 159), (8, 8), (64, 80)):
        for depth in (lower[v, u], upper[v, u]):
            point = se3.transform_points(T, rays[v, u] * depth)
            assert surfaces.near(point).distance_m < 1e-6


def test_larger_images_are_pooled_to_their_least_bounds():
    camera = Camera.from_fov(250, 130, 70.0)
    lower = np.random.default_rng(1).uniform(5, 6, (130, 250)).astype(np.float32)
    lower[40, 41] = np.nan
    pooled, scaled = coarser(lower, camera, 64)
    assert pooled.shape == (scaled.height, scaled.width) == (33, 63)
    assert pooled[5, 7] == lower[20:24, 28:32].min()
    assert np.isnan(pooled[10, 10])
    assert np.isfinite(pooled).sum() == pooled.size - 1
    middles = camera.rays()[1:128:4, 1:248:4]  # one of the four pixels in the middle of each block
    assert np.abs(scaled.rays()[:32, :62] - middles).max() < 1 / camera.fx

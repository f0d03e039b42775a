"""Motion from matches and flow, against scenes that are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.two_views import CAMERA, TwoViews, motion, steps, turns, two_views

from pose2rgbd_ros.depth_from_images import epipolar
from pose2rgbd_ros.depth_from_images.epipolar import EpipolarSettings, Matches
from pose2rgbd_ros.depth_from_images.triangulation import pixel_grid, rigid_flow
from pose2rgbd_ros.geometry import se3

K = torch.from_numpy(CAMERA.K)[None]


def matches_of(*views: TwoViews, dtype: torch.dtype = torch.float64) -> Matches:
    first, second = (
        torch.from_numpy(np.stack([getattr(view, name) for view in views])) for name in ("first", "second")
    )
    return Matches(first.to(dtype), second.to(dtype), torch.ones(len(views), dtype=torch.bool))


def errors_deg(found: torch.Tensor, truth: np.ndarray) -> tuple[float, float]:
    """Of the rotation and of the direction of the translation."""
    T = found.double().numpy()
    a, b = T[:3, 3], truth[:3, 3]
    return float(np.degrees(se3.apart(T, truth)[1])), float(
        np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b))
    )


def true_matrix(T_second_first: np.ndarray) -> torch.Tensor:
    t = T_second_first[:3, 3]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    inverse = np.linalg.inv(CAMERA.K)
    F = inverse.T @ cross @ T_second_first[:3, :3] @ inverse
    return torch.from_numpy(F / np.linalg.norm(F))[None]


@settings(max_examples=20)
@given(steps, turns, st.integers(0, 99))
def test_random_motions_are_found_from_exact_matches(
    step: tuple[float, ...], turn: tuple[float, ...], seed: int
) -> None:
    views = two_views(motion(step, turn), 300, seed)
    found = epipolar.relative_pose(matches_of(views), K, EpipolarSettings(), torch.Generator().manual_seed(seed))
    assert found.found.all()
    rotation_deg, direction_deg = errors_deg(found.T_second_first[0], views.T_second_first)
    assert rotation_deg < 0.05
    assert direction_deg < 0.5
    assert found.in_front[0] > 0.95
    distance = epipolar.epipolar_distance(found.F, *matches_of(views)[:2])
    assert distance.median() < 1e-2


@settings(max_examples=20)
@given(steps, turns)
def test_one_of_four_poses_is_the_true_one_whatever_the_sign_of_the_matrix(
    step: tuple[float, ...], turn: tuple[float, ...]
) -> None:
    T = motion(step, turn)
    E = epipolar.essential_matrix(true_matrix(T), K)
    for sign in (1, -1):
        four = epipolar.poses_of_essential(sign * E)[0]
        assert torch.allclose(torch.linalg.det(four[:, :3, :3]), torch.ones(4, dtype=torch.float64))
        errors = [errors_deg(candidate, T) for candidate in four]
        assert min(sum(error) for error in errors) < 1e-3
        assert sorted(sum(error) for error in errors)[1] > 10
    views = two_views(T, 30)
    exact = epipolar.epipolar_distance(true_matrix(T), *matches_of(views)[:2])
    assert exact.max() < 1e-6
    in_single = epipolar.epipolar_distance(true_matrix(T).float(), *matches_of(views, dtype=torch.float32)[:2])
    assert in_single.median() < 1e-2


def test_a_distance_is_that_of_the_offset_across_the_line_and_has_a_gradient() -> None:
    views = two_views(motion((1.0, 0.1, 0.2), (0.0, 0.02, 0.0)), 6)
    F = true_matrix(views.T_second_first)
    first, second, _ = matches_of(views)
    line = torch.cat([first, torch.ones_like(first[..., :1])], dim=-1) @ F.mT
    normal = line[..., :2] / line[..., :2].norm(dim=-1, keepdim=True)
    off = second + 1.5 * normal + 4.0 * normal.flip(-1) * torch.tensor([-1.0, 1.0])
    assert torch.allclose(epipolar.epipolar_distance(F, first, off), torch.full((1, 6), 1.5, dtype=torch.float64))
    off = off.detach().requires_grad_()
    first = first.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: epipolar.epipolar_distance(F, a, b), (first, off))


@pytest.mark.parametrize("estimator", ["ransac", "lmeds", "magsac"])
def test_outliers_and_noise_are_borne(estimator: str) -> None:
    """Noise as good flow has it, and a third of the matches anywhere."""
    views = two_views(motion((0.6, 0.1, 0.8), (0.03, -0.05, 0.02)), 1500, noise_px=0.1)
    rng = np.random.default_rng(1)
    views.second[:500] = rng.uniform((0, 0), (319, 239), (500, 2))
    used = EpipolarSettings(estimator=estimator)  # type: ignore[arg-type]
    found = epipolar.relative_pose(matches_of(views, views), K.expand(2, 3, 3), used)
    for T in found.T_second_first:
        rotation_deg, direction_deg = errors_deg(T, views.T_second_first)
        assert rotation_deg < 0.5
        assert direction_deg < 4
    distance = epipolar.epipolar_distance(found.F, *matches_of(views, views)[:2])
    rigid = epipolar.rigid_score(distance[0]) > 0
    assert rigid[500:].double().mean() > 0.85
    assert rigid[:500].double().mean() < 0.1


def test_where_there_is_nothing_to_match_no_pose_is_claimed() -> None:
    views = two_views(motion((1.0, 0.1, 0.2), (0.0, 0.02, 0.0)), 200)
    first, second, _ = matches_of(views, views, views)
    first[1], second[1] = (pixels[1, :10].repeat(20, 1) for pixels in (first, second))  # ten matches over and over
    enough = torch.tensor([True, True, False])
    found = epipolar.relative_pose(Matches(first, second, enough), K.expand(3, 3, 3), EpipolarSettings())
    assert found.found.tolist() == [True, False, False]
    assert torch.equal(found.T_second_first[1], torch.eye(4, dtype=torch.float64))
    distance = epipolar.epipolar_distance(found.F, first, second)
    assert (distance[1:] > 1e3).all()
    assert torch.isfinite(distance).all()
    assert epipolar.geometric_loss(distance[1:]) == 0
    assert (epipolar.rigid_score(distance[1:]) == 0).all()


# From flow.


def flows(T: np.ndarray, distance_m: float = 8.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact flow there and back over two walls across the view, at `distance_m` and at half of that."""
    rays = torch.from_numpy(CAMERA.rays())
    depth = torch.where(torch.arange(320) < 160, distance_m, distance_m / 2) + torch.zeros_like(rays[..., 0])
    forward, _ = rigid_flow(depth[None], K, torch.from_numpy(T)[None])
    back = torch.zeros_like(forward)
    # Of pixels that are hit: the way they were come by (nearest, so that it is off by its change over half a pixel).
    there = (pixel_grid(forward) + forward.movedim(1, -1)).round().long()[0]
    inside = ((there >= 0) & (there < torch.tensor([320, 240]))).all(dim=-1)
    back[0, :, there[inside][:, 1], there[inside][:, 0]] = -forward[0][:, inside]
    return forward, back


def test_scores_are_of_what_returns_and_the_best_are_drawn_at_random() -> None:
    forward, back = flows(motion((1.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
    forward[:, 0, :60] += 3.0  # a false flow
    forward[:, :, 100:120] = torch.nan
    score = epipolar.match_score(forward, back)
    assert score.shape == (1, 240, 320)
    assert (score[:, 100:120] == 0).all()
    assert (score[:, :60] < 0.7).all(), "1 / (0.1 + 3 / 2) of a flow that is off by 3 px in one of two directions"
    assert score.max() == pytest.approx(10, rel=1e-6)
    assert (score[..., -5:] == 0).all(), "what leaves the image has no match"
    used = EpipolarSettings(matches=2000)
    drawn = epipolar.sample_matches(score, forward, used, torch.Generator().manual_seed(3))
    again = epipolar.sample_matches(score, forward, used, torch.Generator().manual_seed(3))
    other = epipolar.sample_matches(score, forward, used, torch.Generator().manual_seed(4))
    assert torch.equal(drawn.first, again.first)
    assert not torch.equal(drawn.first, other.first)
    u, v = drawn.first[0].long().T
    threshold = score.flatten().sort(descending=True).values[int(0.2 * 240 * 320)]
    assert (score[0, v, u] >= threshold).all()
    assert torch.allclose(drawn.second - drawn.first, forward[0, :, v, u].T)
    assert drawn.first.unique(dim=1).shape[1] > 1500, "from everywhere, not the first ones"


def test_a_mask_and_the_lack_of_good_pixels_are_respected() -> None:
    forward, back = flows(motion((1.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
    valid = torch.zeros(1, 240, 320)
    valid[:, 50:60, 30:60] = 1
    score = epipolar.match_score(forward, back, valid)
    drawn = epipolar.sample_matches(score, forward, EpipolarSettings(), torch.Generator().manual_seed(0))
    assert drawn.enough.all()
    assert (drawn.first[0, :, 1] >= 50).all()
    assert (drawn.first[0, :, 0] < 60).all()
    none = epipolar.sample_matches(torch.zeros_like(score), forward, EpipolarSettings())
    assert not none.enough.any()
    assert torch.isfinite(none.second).all()


def test_the_gradient_of_a_match_goes_to_the_flow_and_none_to_the_pose() -> None:
    forward, back = flows(motion((1.0, 0.1, 0.1), (0.0, 0.01, 0.0)))
    forward.requires_grad_()
    score = epipolar.match_score(forward, back)
    assert not score.requires_grad
    drawn = epipolar.sample_matches(score, forward, EpipolarSettings(matches=500), torch.Generator().manual_seed(0))
    assert not epipolar.relative_pose(drawn, K, EpipolarSettings()).F.requires_grad
    drawn.second.sum().backward()
    assert forward.grad is not None
    assert forward.grad.sum() == 1000


def test_a_mover_is_masked_by_its_distance_from_the_epipolar_lines() -> None:
    T = motion((0.9, 0.1, 0.2), (0.0, 0.01, 0.02))
    forward, back = flows(T)
    clean = forward.clone()
    forward[:, 1, 90:130, 60:110] += 4.0  # it moves across the lines, and its flow back agrees
    back = torch.where((forward != clean).any(dim=1, keepdim=True), -forward, back)
    used = EpipolarSettings(top_share=0.6)
    drawn = epipolar.sample_matches(
        epipolar.match_score(forward, back), forward, used, torch.Generator().manual_seed(0)
    )
    found = epipolar.relative_pose(drawn, K, used)
    rotation_deg, direction_deg = errors_deg(found.T_second_first[0], T)
    assert rotation_deg < 0.1
    assert direction_deg < 1
    score = epipolar.rigid_score(epipolar.epipolar_map(found.F, forward))[0]
    assert (score[92:128, 62:108] == 0).all()
    mover = torch.zeros(240, 320, dtype=torch.bool)
    mover[90:130, 60:110] = True
    assert (score[~mover] > 0.9).double().mean() > 0.98


def test_settings_are_those_of_the_paper() -> None:
    assert dataclasses.astuple(EpipolarSettings()) == (0.2, 6000, "ransac", 0.1, 0.99, 1000, 0.5, 200)
    d = torch.tensor([0.05, 0.1, 0.2, 0.49, 0.5, 3.0])
    assert torch.allclose(epipolar.rigid_score(d), torch.tensor([1 / 1.05, 1 / 1.1, 1 / 1.2, 1 / 1.49, 0, 0]))
    assert epipolar.geometric_loss(d) == pytest.approx((0.1 + 0.2 + 0.49) / 3)

"""Two views of a scene by the optical flow between them: which matches to trust, the fundamental matrix, the pose.

Zhao et al., "Towards Better Generalization: Joint Depth-Pose Learning without PoseNet", 2020, Section 3 and supplement
E. Flow is (B, 2, H, W), right and down in pixels from the first image to the second; a pixel whose flow is not finite
has no match. Matrices and poses carry no gradient, distances do, to the matches.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from pose2rgbd_ros.depth_from_images.inverse_warp import is_inside, look_up
from pose2rgbd_ros.depth_from_images.triangulation import masked_mean, pixel_grid, triangulate
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.settings import setting

Estimator = Literal["ransac", "lmeds", "magsac"]
# Where no matrix was found: it has no epipolar lines, and all distances are beyond any threshold.
NO_MATRIX = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
_NO_LINE = 1e-24  # its normal, squared: those of unit matrices are far longer
FEWEST_MATCHES = 15  # that differ: with fewer, some matrix fits them all


@dataclass(frozen=True)
class EpipolarSettings:
    """How the motion between two images is found from their flow."""

    top_share: float = setting(0.2, "share of the pixels, the best by score, of which matches are drawn", ge=1e-4, le=1)
    matches: int = setting(6000, "matches that are drawn", ge=FEWEST_MATCHES)
    estimator: Estimator = setting("ransac", "of the fundamental matrix; the paper: ransac, and lmeds indoors")
    threshold_px: float = setting(0.1, "distance from its epipolar line that a match may have", ge=1e-3)
    confidence: float = setting(0.99, "with which the estimator has seen a sample without outliers", ge=0.5, le=0.9999)
    iterations: int = setting(1000, "samples that the estimator tries at most", ge=10)
    rigid_px: float = setting(0.5, "distance beyond which a pixel moves by itself; the authors' code indoors: 1", ge=0)
    voters: int = setting(200, "matches that choose among the four poses of an essential matrix", ge=1)


# Which matches to trust.


def return_difference(forward: Tensor, backward: Tensor) -> tuple[Tensor, Tensor]:
    """How far from where it began a pixel comes out that goes there and back.

    Returns:
        (B, 2, H, W) in pixels, and bool (B, H, W), whether the way there ends within the image and is finite.
    """
    known = torch.isfinite(forward).all(dim=1)
    there = pixel_grid(forward) + torch.where(known[:, None], forward, 0.0).movedim(1, -1)
    back = look_up(backward, there)
    known &= is_inside(there, *forward.shape[-2:]) & torch.isfinite(back).all(dim=1)
    return torch.where(known[:, None], forward + back, 0.0), known


def match_score(forward: Tensor, backward: Tensor, valid: Tensor | None = None) -> Tensor:
    """M_s, (B, H, W) without a gradient: 1 / (0.1 + mean |forward-backward difference|), 0 where there is no match.

    valid: (B, H, W), further masks, such as that of occlusions (M_o), as factors.
    """
    with torch.no_grad():
        difference, known = return_difference(forward, backward)
        score = known / (0.1 + difference.abs().mean(dim=1))
        return score if valid is None else score * valid


class Matches(NamedTuple):
    """Pixels (B, M, 2) of the first and the second image; enough: (B,) bool, False where those mean nothing."""

    first: Tensor
    second: Tensor
    enough: Tensor


def sample_matches(
    score: Tensor, flow: Tensor, settings: EpipolarSettings, generator: torch.Generator | None = None
) -> Matches:
    """Random ones, with repetition, of the pixels with the best scores: good ones, yet not all from one place.

    Args:
        score: (B, H, W); pixels of score 0 are never drawn.
        flow: (B, 2, H, W), to which the gradient of `second` goes.
        generator: on any device; None: torch's own.
    """
    flat = score.detach().flatten(1)
    kept = max(1, int(settings.top_share * flat.shape[1]))
    best, place = flat.topk(kept, dim=1)
    good = (best > 0).sum(dim=1, keepdim=True)
    device = generator.device if generator is not None else flat.device
    drawn = torch.rand((len(flat), settings.matches), generator=generator, device=device).to(flat.device)
    chosen = place.gather(1, (drawn * good).long().clamp(max=kept - 1))
    width = score.shape[-1]
    first = torch.stack([chosen % width, chosen // width], dim=-1).to(flow.dtype)
    moved = flow.flatten(2).gather(2, chosen[:, None].expand(-1, 2, -1)).movedim(1, 2)
    enough = good[:, 0] >= FEWEST_MATCHES
    moved = torch.where(enough[:, None, None], moved, 0.0)
    return Matches(first, first + moved, enough)


# The fundamental matrix: x2^T F x1 = 0.


def fundamental_matrix(matches: Matches, settings: EpipolarSettings) -> tuple[Tensor, Tensor]:
    """F, (B, 3, 3), and bool (B,), whether one was found; where not, F is NO_MATRIX. The same every time."""
    first, second = (pixels.detach().cpu().double().numpy() for pixels in (matches.first, matches.second))
    found, matrices = [], []
    for x1, x2, enough in zip(first, second, matches.enough.tolist(), strict=True):
        F = _fundamental(x1, x2, settings) if enough else None
        found.append(F is not None)
        matrices.append(np.array(NO_MATRIX) if F is None else F)
    like = matches.first
    return torch.from_numpy(np.stack(matrices)).to(like), torch.tensor(found, device=like.device)


def _fundamental(first: Float64, second: Float64, settings: EpipolarSettings) -> Float64 | None:
    """Of matches (M, 2); of norm 1. None where no matrix fits."""
    if len(np.unique(first, axis=0)) < FEWEST_MATCHES:
        return None
    F: AnyArray | None
    if settings.estimator == "magsac":
        F = _magsac(first, second, settings)
    else:
        method = {"ransac": cv2.FM_RANSAC, "lmeds": cv2.FM_LMEDS}[settings.estimator]
        limits = (settings.threshold_px, settings.confidence, settings.iterations)
        F, _ = cv2.findFundamentalMat(first, second, method, *limits)
    if F is None or F.shape[0] < 3 or not np.isfinite(F[:3]).all():
        return None
    return np.asarray(F[:3] / np.linalg.norm(F[:3]), np.float64)


_SEEDS = 5


def _magsac(first: Float64, second: Float64, settings: EpipolarSettings) -> Float64 | None:
    """Barath et al., "MAGSAC++", 2020. OpenCV's raises where its first sample gives no matrix: another seed helps."""
    params = cv2.UsacParams()
    params.threshold, params.confidence = settings.threshold_px, settings.confidence
    params.maxIterations, params.score = settings.iterations, cv2.SCORE_METHOD_MAGSAC
    params.loMethod, params.loIterations = cv2.LOCAL_OPTIM_SIGMA, 10
    for seed in range(_SEEDS):
        params.randomGeneratorState = seed
        with contextlib.suppress(cv2.error):
            F, _ = cv2.findFundamentalMat(first, second, params)
            return np.asarray(F, np.float64) if F is not None else None
    return None


def epipolar_distance(F: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """How many pixels (..., M) points (..., M, 2) of the second image are from the lines of their matches in the first.

    |x2^T F x1| / sqrt(a^2 + b^2) for lines (a, b, c) = F x1; very far where F is NO_MATRIX.
    """
    line = torch.cat([first, torch.ones_like(first[..., :1])], dim=-1) @ F.mT
    offset = (line[..., :2] * second).sum(dim=-1) + line[..., 2]
    length = line[..., :2].square().sum(dim=-1).clamp(min=_NO_LINE).sqrt()
    return offset.abs() / length


def epipolar_map(F: Tensor, flow: Tensor) -> Tensor:
    """D_epi, (B, H, W): how far each pixel's flow ends from its epipolar line, in pixels."""
    first = pixel_grid(flow).flatten(0, 1)
    second = first + flow.flatten(2).mT
    return epipolar_distance(F, first.expand_as(second), second).unflatten(1, flow.shape[-2:])


def rigid_score(distance: Tensor, rigid_px: float = 0.5) -> Tensor:
    """M_r = [d < 0.5] / (1 + d): 0 for what moves by itself and for bad matches."""
    return (distance < rigid_px) / (1 + distance)


def geometric_loss(distance: Tensor, inlier_px: float = 0.1, rigid_px: float = 0.5) -> Tensor:
    """The mean distance of the pixels that nearly obey the fundamental matrix; 0 where there are none."""
    return masked_mean(distance, (distance >= inlier_px) & (distance < rigid_px))


# The pose.


def essential_matrix(F: Tensor, K: Tensor) -> Tensor:
    """E = K^T F K of two images with the same intrinsics; (B, 3, 3)."""
    return K.mT @ F @ K


def poses_of_essential(E: Tensor) -> Tensor:
    """The four T_second_first, (..., 4, 4, 4), that an essential matrix (..., 3, 3) can mean; translations of length 1.

    Hartley and Zisserman, "Multiple View Geometry", 2004, result 9.19.
    """
    U, _, Vh = torch.linalg.svd(E.double())
    # Rotations: the sign of an essential matrix means nothing.
    U = U * torch.linalg.det(U)[..., None, None].sign()
    Vh = Vh * torch.linalg.det(Vh)[..., None, None].sign()
    W = E.new_tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    t = U[..., :, 2]
    T = torch.zeros((*E.shape[:-2], 4, 4, 4), dtype=torch.float64, device=E.device)
    for i, (turn, sign) in enumerate(((W, 1.0), (W, -1.0), (W.mT, 1.0), (W.mT, -1.0))):
        T[..., i, :3, :3] = U @ turn @ Vh
        T[..., i, :3, 3] = sign * t
    T[..., 3, 3] = 1.0
    return T.to(E.dtype)


class RelativePose(NamedTuple):
    """Of two views.

    T_second_first: (B, 4, 4) takes points of the first camera to the second, translation of length 1; the identity
    where none was found. F: (B, 3, 3). found: (B,) bool. in_front: (B,) share of the voting matches that lie in front
    of both cameras.
    """

    T_second_first: Tensor
    F: Tensor
    found: Tensor
    in_front: Tensor


def relative_pose(
    matches: Matches, K: Tensor, settings: EpipolarSettings, generator: torch.Generator | None = None
) -> RelativePose:
    """The pose by the fundamental matrix: of the four that it can mean, that with most points in front of both cameras.

    K: (B, 3, 3) of both images. Nothing has a gradient.
    """
    with torch.no_grad():
        F, found = fundamental_matrix(matches, settings)
        candidates = poses_of_essential(essential_matrix(F, K))
        device = generator.device if generator is not None else F.device
        voters = torch.randint(matches.first.shape[1], (settings.voters,), generator=generator, device=device)
        first, second = (pixels[:, None, voters.to(F.device)] for pixels in (matches.first, matches.second))
        depths = triangulate(first, second, K[:, None], candidates)
        votes = ((depths.depth_first > 0) & (depths.depth_second > 0)).double().mean(dim=-1)
        best = votes.argmax(dim=1)
        each = torch.arange(len(best), device=best.device)
        identity = torch.eye(4, dtype=F.dtype, device=F.device)
        T_second_first = torch.where(found[:, None, None], candidates[each, best], identity)
        return RelativePose(T_second_first, F, found, torch.where(found, votes[each, best], 0.0))

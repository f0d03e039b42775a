"""Visual odometry from optical flow, of any source, with depth, of any source or none.

Zhao et al., "Towards Better Generalization: Joint Depth-Pose Learning without PoseNet", 2020, Section 3.4: the motion
between two images up to scale from the essential matrix, its length from depth, and PnP where that fails. What two
images cannot say is said so: with a rotation alone neither direction nor length of the way, on a plane which of two
motions it was. Those are told apart by GRIC (Torr, "Geometric Motion Segmentation and Model Selection", 1998).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch

from pose2rgbd_ros.depth_from_images import epipolar
from pose2rgbd_ros.depth_from_images.epipolar import EpipolarSettings
from pose2rgbd_ros.depth_from_images.triangulation import ray_cosine, triangulate
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.settings import setting


class Flow(NamedTuple):
    """Between two images: forward, backward (H, W, 2) float32, right and down in pixels, not finite where unknown;
    valid (H, W) bool of the first image, where flow may be trusted; None: wherever it comes back.
    """

    forward: Float32
    backward: Float32
    valid: Bool | None = None


FlowSource = Callable[[UInt8, UInt8], Flow]  # of two RGB images (H, W, 3)
DepthSource = Callable[[UInt8], Float32]  # (H, W) of an RGB image, in the same unit for all images, NaN unknown
Kind = Literal["general", "plane", "rotation", "still", "lost"]


@dataclass(frozen=True)
class OdometrySettings:
    """How the motion between two images is found.

    As in the authors' code, but for the estimator, which is better than theirs (bench/results/two_view.md).
    """

    top_share: float = setting(0.3, "share of the pixels, the best by score, of which matches are drawn", ge=1e-4, le=1)
    matches: int = setting(5000, "matches that are drawn", ge=100)
    inlier_px: float = setting(0.1, "distance from its epipolar line that a match may have", ge=1e-3)
    estimator: Literal["ransac", "magsac"] = setting("magsac", "of both matrices; the authors' code: ransac")
    confidence: float = setting(0.99, "with which it has seen a sample without outliers", ge=0.5, le=0.9999)
    repeats: int = setting(3, "times that it is asked, for the matrix of most inliers; the authors' code: 10", ge=1)
    least_in_front: int = setting(50, "matches that lie in front of both cameras, with fewer there is no pose", ge=5)
    least_share: float = setting(
        0.08,
        "share of textured pixels whose flow returns, times that of matches that agree; below, all is lost",
        ge=0,
        le=1,
    )
    least_flow_share: float = setting(
        5 / 832,
        "mean flow as a share of the image's width; below, pose comes from depth (PnP) where there is any",
        ge=0,
    )
    noise_px: float = setting(0.2, "standard deviation of flow, by which models of the motion are chosen", ge=0.01)
    still_px: float = setting(0.1, "median flow below which the camera stands still", ge=0)
    least_scale_points: int = setting(100, "matches with depth that a scale takes", ge=3)
    scale_tolerance: float = setting(0.1, "relative deviation of a depth that agrees with a scale", ge=1e-4)
    pnp_px: float = setting(1.0, "reprojection error of a match that agrees with a pose from depth", ge=0.01)
    carry_scale: bool = setting(True, "without depth: lengths by the points of the images before; else each is 1")
    seed: int = setting(0, "of all that is drawn")


@dataclass(frozen=True, eq=False)
class Motion:
    """Between two images.

    Attributes:
        T_first_second: (4, 4) pose of the second camera in the first. Where the length is not known the translation has
            length 1; where not even its direction is, 0.
        kind: what the matches look like; "lost": nothing can be said, and T_first_second is the identity.
        has_direction, has_scale: whether the translation's direction and length mean something.
        by: what it was found by.
        inliers: share of the matches that agree.
        parallax_px: median displacement of the matches that no rotation explains; NaN unknown.
    """

    T_first_second: Float64
    kind: Kind
    has_direction: bool = False
    has_scale: bool = False
    by: Literal["essential", "plane", "pnp", "rotation", "nothing"] = "nothing"
    inliers: float = 0.0
    parallax_px: float = float("nan")

    def __str__(self) -> str:
        """In words, what is not known of it and why."""
        if self.kind == "lost":
            return "lost: too few matches agree on a motion (no texture, darkness, or too far a step between images)"
        if self.kind == "still":
            return "the camera stands still"
        if not self.has_direction:
            return "a rotation alone explains the matches: neither direction nor length of the way can be known"
        plane = "; the matches lie on a plane, and two motions fit" if self.by == "plane" else ""
        scale = "" if self.has_scale else ", of unknown length"
        return f"moved{scale}, by {self.by}{plane}"


# Matches.

RETURN_PX = 1.0  # mean of both directions by which flow may miss where it began


class _Pairs(NamedTuple):
    """Pixels (M, 2) of both images, float64."""

    first: Float64
    second: Float64

    def chosen(self, which: AnyArray) -> _Pairs:
        return _Pairs(self.first[which], self.second[which])


def _matches(flow: Flow, settings: OdometrySettings) -> tuple[_Pairs, float] | None:
    """Those that return and lie on their epipolar lines, and which share of the image returns; None: too few."""
    generator = torch.Generator().manual_seed(settings.seed)
    forward, backward = (torch.from_numpy(np.ascontiguousarray(part)).movedim(-1, 0)[None] for part in flow[:2])
    valid = None if flow.valid is None else torch.from_numpy(flow.valid)[None]
    score = epipolar.match_score(forward, backward, valid)
    first = EpipolarSettings(estimator=settings.estimator)
    drawn = epipolar.sample_matches(score, forward, first, generator)
    F, found = epipolar.fundamental_matrix(drawn, first)
    if not found.all():
        return None
    rigid = epipolar.epipolar_map(F, torch.nan_to_num(forward)) < settings.inlier_px
    chosen = EpipolarSettings(top_share=settings.top_share, matches=settings.matches)
    drawn = epipolar.sample_matches(score * rigid, forward, chosen, generator)
    if not drawn.enough.all():
        return None
    looked_at = torch.ones_like(rigid) if valid is None else valid
    returned = ((score > 1 / (0.1 + RETURN_PX)) & looked_at).sum() / looked_at.sum()
    return _Pairs(*(pixels[0].double().numpy() for pixels in drawn[:2])), float(returned)


# Models of the motion, and which explains the matches at the least cost.


def _gric(squared_px: Float64, noise_px: float, dimension: int, parameters: int) -> float:
    """Of squared residuals (M,); the matches of two views live in 4 dimensions, those of a model in fewer."""
    n = len(squared_px)
    fit = np.minimum(squared_px / noise_px**2, 2.0 * (4 - dimension)).sum()
    return float(fit + np.log(4) * dimension * n + np.log(4 * n) * parameters)


def _homogeneous(pixels: Float64) -> Float64:
    return np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)


def _transferred(pairs: _Pairs, H: Float64) -> Float64:
    """Squared distances (M,) of second pixels from where a homography takes the first ones."""
    moved = _homogeneous(pairs.first) @ H.T
    with np.errstate(divide="ignore", invalid="ignore"):
        off = moved[:, :2] / moved[:, 2:] - pairs.second
    return np.nan_to_num((off**2).sum(axis=1), nan=np.inf)


def _rotation(pairs: _Pairs, K: Float64, noise_px: float) -> tuple[Float64, Float64]:
    """The rotation (3, 3) that explains most, by reweighted least squares, and what it leaves, squared (M,)."""
    inverse = np.linalg.inv(K)
    rays_1, rays_2 = (_homogeneous(pixels) @ inverse.T for pixels in pairs)
    rays_1 /= np.linalg.norm(rays_1, axis=1, keepdims=True)
    rays_2 /= np.linalg.norm(rays_2, axis=1, keepdims=True)
    weights = np.ones(len(rays_1))
    for _ in range(20):
        U, _, Vh = np.linalg.svd((rays_2 * weights[:, None]).T @ rays_1)
        R = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vh)]) @ Vh
        left = _transferred(pairs, K @ R @ inverse)
        scale = max(noise_px**2, float(np.median(left)))
        weights = 1 / (1 + left / scale) ** 2
    return R, left


def fit_rotation(first: Float64, second: Float64, K: Float64, noise_px: float = 0.2) -> tuple[Float64, Float64]:
    """The rotation (3, 3) that explains most of where pixels `first` (M, 2) are `second` (M, 2), and the squared
    distances (M,) that it leaves."""
    return _rotation(_Pairs(first, second), np.ascontiguousarray(K, np.float64), noise_px)


def _essential(pairs: _Pairs, K: Float64, settings: OdometrySettings, rng: np.random.Generator) -> Float64 | None:
    """The matrix (3, 3) of most inliers, of several runs on the matches in another order each."""
    method = {"ransac": cv2.RANSAC, "magsac": cv2.USAC_MAGSAC}[settings.estimator]
    most, best = 0, None
    for _ in range(settings.repeats):
        some = pairs.chosen(rng.permutation(len(pairs.first)))
        try:
            E, inliers = cv2.findEssentialMat(*some, K, method, settings.confidence, settings.inlier_px)
        except cv2.error:  # OpenCV's MAGSAC raises where its first sample gives no matrix
            continue
        if E is not None and E.shape == (3, 3) and (count := int(np.count_nonzero(inliers))) > most:
            most, best = count, np.asarray(E, np.float64)
    return best


def _essential_of(T_second_first: Float64) -> Float64:
    """[t]x R."""
    x, y, z = T_second_first[:3, 3]
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ T_second_first[:3, :3]


def _line_distances(pairs: _Pairs, E: Float64, K: Float64) -> Float64:
    """Pixels (M,) from epipolar lines."""
    inverse = np.linalg.inv(K)
    F = torch.from_numpy(inverse.T @ E @ inverse)
    found = epipolar.epipolar_distance(F / F.norm(), *(torch.from_numpy(pixels) for pixels in pairs))
    return np.asarray(found.numpy(), np.float64)


def _plane_motions(pairs: _Pairs, H: Float64, K: Float64) -> list[tuple[Float64, Float64]]:
    """T_second_first (4, 4) with translations of length 1, and the depth (M,) that each gives to the first pixels."""
    _, rotations, translations, normals = cv2.decomposeHomographyMat(H, K)
    rays = _homogeneous(pairs.first) @ np.linalg.inv(K).T
    found = []
    for R, t, n in zip(rotations, translations, normals, strict=True):
        along, length = rays @ n[:, 0], float(np.linalg.norm(t))
        if np.mean(along > 0) < 0.9 or length == 0:
            continue  # the plane is behind the camera
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = R, t[:, 0] / length
        found.append((T, 1 / (length * np.where(along > 0, along, np.nan))))
    return found


# Depth: the length of the way, or all of the pose.


def _look_up(image: Float32, pixels: Float64) -> Float64:
    """Values (M,) at the pixels nearest to pixels (M, 2): depth is not blended across edges."""
    height, width = image.shape
    u, v = np.clip(np.rint(pixels), 0, (width - 1, height - 1)).astype(np.int64).T
    return np.asarray(image[v, u], np.float64)


def _scale(triangulated: Float64, depth: Float64, settings: OdometrySettings, rng: np.random.Generator) -> float | None:
    """Depth in one unit of triangulated depth (M,), by RANSAC through the origin; None: too few agree.

    The authors' code lets a depth deviate by 1 whatever its unit; here it may by a share.
    """
    known = np.isfinite(triangulated) & np.isfinite(depth) & (triangulated > 0) & (depth > 0)
    if known.sum() < settings.least_scale_points:
        return None
    ratio = depth[known] / triangulated[known]
    trials = np.median(rng.choice(ratio, (100, 3)), axis=1)
    agree = np.abs(1 - trials[:, None] / ratio) < settings.scale_tolerance
    inliers = agree[agree.sum(axis=1).argmax()]
    if inliers.sum() < settings.least_scale_points:
        return None
    return float(1 / np.mean(1 / ratio[inliers]))


_LEAST_OF_PNP = 0.5  # share of matches with depth: some pose fits a quarter of whatever there is


def _pnp(pairs: _Pairs, depth: Float64, K: Float64, settings: OdometrySettings) -> tuple[Float64, float] | None:
    """T_second_first (4, 4) from the depth of the first pixels (M,), and the share of matches that agree; or None."""
    known = np.isfinite(depth) & (depth > 0)
    if known.sum() < settings.least_scale_points:
        return None
    points = _homogeneous(pairs.first[known]) @ np.linalg.inv(K).T * depth[known, None]
    params = cv2.UsacParams()
    params.threshold, params.confidence, params.maxIterations = settings.pnp_px, settings.confidence, 1000
    params.randomGeneratorState, params.score = settings.seed, cv2.SCORE_METHOD_MSAC
    params.loMethod, params.loIterations = cv2.LOCAL_OPTIM_INNER_LO, 10
    try:
        answer = cv2.solvePnPRansac(points, pairs.second[known], K.copy(), np.zeros(4), params=params)
    except cv2.error:  # no three points that give a pose
        return None
    is_found, _, rotation, translation, inliers = answer
    least = max(settings.least_in_front, _LEAST_OF_PNP * known.sum())
    if not is_found or inliers is None or len(inliers) < least:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(rotation)[0], translation[:, 0]
    return T, len(inliers) / int(known.sum())


# Two images.

_COMPARED = 500  # matches by which a model is chosen: more are no more independent


def relative_motion(
    flow: Flow,
    K: Float64,
    settings: OdometrySettings,
    depth_first: Float32 | None = None,
    depth_second: Float32 | None = None,
    before: Float64 | None = None,
) -> Motion:
    """The motion between two images by their flow.

    Args:
        K: (3, 3) intrinsics of both; pinholes.
        depth_first, depth_second: (H, W), NaN unknown. Scale comes from the second's, or else from the first's; PnP and
            the choice between motions over a plane need the first's.
        before: (4, 4) the last T_first_second, by which a motion over a plane is chosen where there is no depth.
    """
    rng, K = np.random.default_rng(settings.seed), np.ascontiguousarray(K, np.float64)
    found_pairs = _matches(flow, settings)
    if found_pairs is None:
        return Motion(np.eye(4), "lost")
    pairs, returned = found_pairs
    moved = np.linalg.norm(pairs.second - pairs.first, axis=1)
    depth = None if depth_first is None else _look_up(depth_first, pairs.first)
    if np.median(moved) < settings.still_px:
        return Motion(np.eye(4), "still", has_scale=True, inliers=1.0, parallax_px=float(np.median(moved)))
    R, left = _rotation(pairs, K, settings.noise_px)
    parallax_px = float(np.median(np.sqrt(left)))
    E = _essential(pairs, K, settings, rng)
    kind, H = _kind(pairs, E, left, K, settings, rng)
    large = moved.mean() >= settings.least_flow_share * flow.forward.shape[1]
    if kind in ("general", "plane") and (large or depth is None):
        found = _up_to_scale(pairs, kind, E, H, K, settings, depth, before)
        if found is not None and found[2] * returned >= settings.least_share:
            T, by, inliers = found
            scale = _length(pairs, T, K, settings, rng, depth, depth_second)
            if scale is not None or depth is None:
                T = T.copy()
                T[:3, 3] *= 1.0 if scale is None else scale
                return Motion(se3.inverse(T), kind, True, scale is not None, by, inliers, parallax_px)
    if (
        depth is not None
        and (solved := _pnp(pairs, depth, K, settings)) is not None
        and solved[1] * returned >= settings.least_share
    ):
        return Motion(se3.inverse(solved[0]), kind, True, True, "pnp", solved[1], parallax_px)
    if kind == "rotation":
        T = np.eye(4)
        T[:3, :3] = R.T
        agree = float(np.mean(left < (3 * settings.noise_px) ** 2))
        if agree * returned < settings.least_share:
            return Motion(np.eye(4), "lost", parallax_px=parallax_px)
        return Motion(T, kind, by="rotation", inliers=agree, parallax_px=parallax_px)
    return Motion(np.eye(4), "lost", parallax_px=parallax_px)


def _kind(
    pairs: _Pairs, E: Float64 | None, left: Float64, K: Float64, settings: OdometrySettings, rng: np.random.Generator
) -> tuple[Kind, Float64 | None]:
    """The model of least cost, and the homography (3, 3) of the matches if there is one."""
    some = rng.choice(len(pairs.first), min(len(pairs.first), _COMPARED), replace=False)
    compared, noise_px = pairs.chosen(some), settings.noise_px
    costs: dict[Kind, float] = {"rotation": _gric(left[some], noise_px, 2, 3)}
    if E is not None:
        costs["general"] = _gric(_line_distances(compared, E, K) ** 2, noise_px, 3, 5)
    H, _ = cv2.findHomography(*pairs, cv2.USAC_MAGSAC, 3 * noise_px, maxIters=1000, confidence=settings.confidence)
    homography = None if H is None else np.asarray(H, np.float64)
    if homography is not None:
        costs["plane"] = _gric(_transferred(compared, homography), noise_px, 2, 8)
    return min(costs, key=lambda kind: costs[kind]), homography


def _up_to_scale(
    pairs: _Pairs,
    kind: Kind,
    E: Float64 | None,
    H: Float64 | None,
    K: Float64,
    settings: OdometrySettings,
    depth: Float64 | None,
    before: Float64 | None,
) -> tuple[Float64, Literal["essential", "plane"], float] | None:
    """T_second_first (4, 4) with a translation of length 1, by what, and the share of matches that agree; or None."""
    upright = None
    if E is not None:
        inliers = _line_distances(pairs, E, K) < settings.inlier_px
        mask = inliers.astype(np.uint8)[:, None]
        count, R, t, _ = cv2.recoverPose(E, *pairs, K, mask=mask)
        if count >= settings.least_in_front:
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = R, t[:, 0]
            upright = T, float(inliers.mean())
    if kind == "plane" and H is not None and (motions := _plane_motions(pairs, H, K)):
        agree = float(np.mean(_transferred(pairs, H) < (3 * settings.noise_px) ** 2))
        return _which(motions, upright, depth, before), "plane", agree
    return None if upright is None else (upright[0], "essential", upright[1])


def _which(
    motions: list[tuple[Float64, Float64]],
    upright: tuple[Float64, float] | None,
    depth: Float64 | None,
    before: Float64 | None,
) -> Float64:
    """Of the motions that a plane allows: the one whose plane is like the depth, or the likest to another guess."""
    if depth is not None:
        ratios = [np.log(depth / plane) for _, plane in motions]
        spread = [np.nanmedian(np.abs(ratio - np.nanmedian(ratio))) for ratio in ratios]
        if np.isfinite(spread).all():
            return motions[int(np.argmin(spread))][0]
    guess = se3.inverse(before) if before is not None else upright[0] if upright is not None else None
    if guess is None or not np.linalg.norm(guess[:3, 3]):
        return motions[0][0]
    direction = guess[:3, 3] / np.linalg.norm(guess[:3, 3])
    return max((T for T, _ in motions), key=lambda T: float(T[:3, 3] @ direction))


def _length(
    pairs: _Pairs,
    T_second_first: Float64,
    K: Float64,
    settings: OdometrySettings,
    rng: np.random.Generator,
    depth_first: Float64 | None,
    depth_second: Float32 | None,
) -> float | None:
    """Of the way, by depth at the matches; None without, or where it agrees with no length."""
    if depth_first is None and depth_second is None:
        return None
    points, usable = _points(pairs, T_second_first, K)
    if depth_second is not None:
        return _scale(points[1][usable], _look_up(depth_second, pairs.second[usable]), settings, rng)
    assert depth_first is not None
    return _scale(points[0][usable], depth_first[usable], settings, rng)


def _points(pairs: _Pairs, T_second_first: Float64, K: Float64) -> tuple[tuple[Float64, Float64], Bool]:
    """Triangulated depths (M,) in both cameras, and which of them mean something."""
    arguments = [torch.from_numpy(np.ascontiguousarray(value)) for value in (*pairs, K, T_second_first)]
    found, cosine = triangulate(*arguments), ray_cosine(*arguments)
    usable = (found.depth_first > 0) & (found.depth_second > 0) & (cosine > 0.001)
    return (found.depth_first.numpy(), found.depth_second.numpy()), usable.numpy()


# A sequence of images.


@dataclass(frozen=True, eq=False)
class Track:
    """The way of a camera through N images.

    Attributes:
        T_start_cam: (N, 4, 4) poses in the first camera. Its unit is that of the depth; without depth, the length of
            the first step. A step that is lost is taken to be like the one before.
        motions: the N - 1 steps, as they were found.
    """

    T_start_cam: Float64
    motions: list[Motion]

    def summary(self) -> str:
        """How many steps were found how, and what is not known, in a few lines."""
        found = Counter(str(motion) for motion in self.motions)
        return "\n".join(f"{counted(count, 'step')}: {text}" for text, count in found.most_common())


def odometry(
    images: Iterable[UInt8],
    camera: Camera,
    flow: FlowSource,
    depth: DepthSource | None = None,
    settings: OdometrySettings | None = None,
) -> Track:
    """Follow a camera from image to image.

    Args:
        images: RGB (H, W, 3) in time order; they stream through.
        camera: of the images; distortion is undone first.
        depth: in one unit for all images. None: the way's shape alone, in a unit that drifts.

    Raises:
        UserError: no calibration, an image of another size than the camera's, fewer than two images.
    """
    settings = settings or OdometrySettings()
    rays = camera.unproject([[camera.cx, camera.cy]])  # a UserError without calibration
    assert rays.shape == (1, 3)
    ideal = replace(camera, distortion_model="none", distortion=())
    undo = resample_map(camera, ideal) if camera.is_distorted else None
    poses, motions, length = [np.eye(4)], list[Motion](), 1.0
    last: UInt8 | None = None
    last_depth: Float32 | None = None
    for number, image in enumerate(images):
        if image.shape[:2] != (camera.height, camera.width):
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise UserError(f"image {number} has {size} pixels, the camera {camera.width} x {camera.height}")
        image = image if undo is None else np.asarray(resample(image, undo, nearest=False), np.uint8)
        now_depth = None if depth is None else depth(image)
        if last is not None:
            between = flow(last, image)
            before = motions[-1].T_first_second if motions and motions[-1].has_direction else None
            motion = relative_motion(between, camera.K, settings, last_depth, now_depth, before)
            step = motion.T_first_second.copy()
            if motion.kind == "lost" and motions:
                step = se3.inverse(poses[-2]) @ poses[-1]
            elif motion.has_direction and not motion.has_scale:
                step[:3, 3] *= length
                motion = replace(motion, T_first_second=step)
            if motion.has_direction and settings.carry_scale:
                length = float(np.linalg.norm(step[:3, 3]))
            motions.append(motion)
            poses.append(poses[-1] @ step)
            if depth is None and settings.carry_scale and motion.has_direction:
                now_depth = _depth_of(between, motion.T_first_second, camera.K, settings)
        last, last_depth = image, now_depth
    if not motions:
        raise UserError(f"{counted(len(poses) if last is not None else 0, 'image')}: motion takes at least two")
    return Track(np.stack(poses), motions)


def _depth_of(flow: Flow, T_first_second: Float64, K: Float64, settings: OdometrySettings) -> Float32:
    """Depth (H, W) of the second image by triangulation, NaN where pixels do not come back or move by themselves."""
    back, there = (torch.from_numpy(np.ascontiguousarray(part)).movedim(-1, 0)[None] for part in flow[1::-1])
    score = epipolar.match_score(back, there)[0]
    first = epipolar.pixel_grid(score).flatten(0, 1).double()
    second = first + torch.nan_to_num(back[0]).flatten(1).mT
    pairs = _Pairs(first.numpy(), second.numpy())
    (depth, _), usable = _points(pairs, T_first_second, K)
    usable &= _line_distances(pairs, _essential_of(T_first_second), K) < settings.inlier_px
    usable &= (score > 1 / (0.1 + RETURN_PX)).flatten().numpy()
    return np.where(usable, depth, np.nan).reshape(score.shape).astype(np.float32)


# Flow without a network.

FlowMethod = Literal["dis", "farneback"]
_LEAST_TEXTURE = 4.0  # squared grey levels a pixel: below, there is nothing that could be seen to move
_FINE_WIDTH = 640  # pixels: narrower images are searched at their full resolution


class ClassicalFlow:
    """Dense flow by OpenCV, known where the image has texture.

    dis: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", 2016. farneback: Farneback, "Two-Frame Motion
    Estimation Based on Polynomial Expansion", 2003.
    """

    def __init__(self, method: FlowMethod = "dis") -> None:
        self.method = method
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, first: UInt8, second: UInt8) -> Flow:
        """Of RGB images (H, W, 3)."""
        a, b = (np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8) for image in (first, second))
        forward, (here, there) = self._between(a, b), (_has_texture(image) for image in (a, b))
        grid = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in a.shape[::-1])), axis=-1)
        arrived = cv2.remap(there, grid + forward, np.empty(0), cv2.INTER_NEAREST)
        return Flow(forward, self._between(b, a), np.asarray(here.astype(bool) & arrived.astype(bool)))

    def _between(self, a: UInt8, b: UInt8) -> Float32:
        if self.method == "farneback":
            nothing = np.zeros((*a.shape, 2), np.float32)
            found: AnyArray = cv2.calcOpticalFlowFarneback(a, b, nothing, 0.5, 5, 15, 5, 7, 1.5, 0)
            return np.asarray(found, np.float32)
        self._dis.setFinestScale(0 if a.shape[1] < _FINE_WIDTH else 1)
        return np.asarray(self._dis.calc(a, b, np.empty(0, np.float32)), np.float32)


def _has_texture(grey: UInt8) -> UInt8:
    """1 where motion can be seen, (H, W): by the smaller eigenvalue of the mean outer product of gradients."""
    return np.asarray(cv2.cornerMinEigenVal(grey, 5, ksize=3) * 255.0**2 >= _LEAST_TEXTURE, np.uint8)

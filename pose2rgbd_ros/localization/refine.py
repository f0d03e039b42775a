"""A rough pose made exact, or refused, by comparing the camera's image with renderings of the learned place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization import match
from pose2rgbd_ros.localization.align import Alignment, align
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.localization.views import Picture, Views, similarity
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.settings import check, setting

SAMPLES_A_HYPOTHESIS = 8  # of a network without geometry, whose small renderings cost little
SEARCHES = 3  # so many of them are aligned
SMALL_PX, SMALLEST_PX = 32, 16
NEAR_PARTS, FAR_PARTS = (2, 1), (8, 4, 2, 1)  # of the picture's side, in which direct alignment goes


@dataclass
class RefineSettings:
    """How a pose is refined by rendering."""

    side_px: int = setting(128, "longer side of the pictures that are compared, in pixels", ge=32, le=1024)
    least_likeness: float = setting(
        0.6, "likeness of image and rendering from which a pose is accepted", ge=-1.0, le=1.0
    )
    hypotheses: int = setting(9, "poses tried about the rough one, itself included", ge=1, le=100)
    spread_m: float = setting(20.0, "how far those lie apart when the rough pose has no covariance", ge=0.0, le=1e4)
    spread_deg: float = setting(8.0, "and how far they are turned", ge=0.0, le=90.0)
    farthest_m: float = setting(60.0, "a refined pose this far from the rough one is refused", ge=0.0, le=1e6)
    match_px: float = setting(3.0, "matches within this many pixels agree with a pose", ge=0.5, le=20.0)
    iterations: int = setting(15, "steps of direct alignment at each size", ge=1, le=100)
    sigma_scale: float = setting(
        3.8, "the pose's standard deviation over that of the pixels' noise alone", ge=0.1, le=100.0
    )
    seed: int = setting(0, "of the matching and of the hypotheses", ge=0)


class Refiner:
    """Refines poses with one renderer of a place; not to be shared between threads.

    The image is matched with a rendering at the rough pose (features and optical flow, then a pose from points of known
    depth), then aligned directly, coarse to fine; where that does not look like the image, from other poses about it.
    """

    def __init__(self, renderer: Renderer, settings: RefineSettings | None = None) -> None:
        """UserError for a renderer without colour, metric depth or a calibrated camera, and for bad settings."""
        self.settings = settings or RefineSettings()
        check(self.settings)
        self._views = Views(renderer, self.settings.side_px)

    def refine(self, rgb: UInt8, camera: Camera, estimate: Estimate) -> Estimate:
        """The estimate with a refined pose, its covariance and verification; rejected, with a reason, if nothing fits.

        Args:
            rgb: (H, W, 3) uint8 taken with `camera`.
            estimate: where the camera roughly is. Its own rejection does not stop the attempt: what the rendering shows
                counts more than what a network makes of the image.

        Raises:
            UserError: an image of another shape than its camera's, or an uncalibrated camera.
        """
        if estimate.T_map_cam is None:
            return replace(estimate, accepted=False, reason=estimate.reason or "there is no pose to refine")
        query = self._picture(rgb, camera)
        reason = _unfit(query)
        if reason:
            return replace(estimate, accepted=False, reason=reason)
        best: tuple[float, Alignment] | None = None
        for found in self._found(query, estimate):
            likely = self._likeness(query, found.T_map_cam)
            if best is None or likely > best[0] or np.isnan(best[0]):
                best = likely, found
            if best[0] >= self.settings.least_likeness:
                break
        if best is None:
            reason = "no rendering near the rough pose overlaps enough with the image"
            return replace(
                estimate, accepted=False, reason=reason, verification=self._likeness(query, estimate.T_map_cam)
            )
        return self._judged(estimate, *best)

    def verify(self, rgb: UInt8, camera: Camera, T_map_cam: Float64) -> float:
        """Likeness of an image and the rendering at a pose (4, 4), -1..1; NaN where nothing can be compared."""
        return self._likeness(self._picture(rgb, camera), np.asarray(T_map_cam, np.float64))

    def rendered(self, T_map_cam: Float64, camera: Camera) -> UInt8:
        """What is compared with an image of `camera` at a pose (4, 4): (h, w, 3) uint8."""
        blank = np.zeros((camera.height, camera.width, 3), np.uint8)
        return self._views.memory(np.asarray(T_map_cam, np.float64), self._picture(blank, camera).camera).rgb

    def _picture(self, rgb: UInt8, camera: Camera) -> Picture:
        if not camera.is_calibrated:
            raise UserError("the image's camera is not calibrated (K[0] = 0); refinement needs its field of view")
        if rgb.shape != (camera.height, camera.width, 3) or rgb.dtype != np.uint8:
            raise UserError(
                f"an image of {rgb.dtype} and shape {rgb.shape}; expected uint8 ({camera.height}, {camera.width}, 3)"
            )
        return self._views.picture(rgb, camera)

    def _found(self, query: Picture, estimate: Estimate) -> Iterator[Alignment]:
        """Poses worth verifying, most promising first."""
        if self._views.renderer.any_camera:
            for index, start in enumerate(self._starts(estimate, self.settings.hypotheses)):
                yield from self._matched(query, start, directly=index == 0)
            return
        # Without geometry: from the rough pose, then from those training poses about it whose renderings look most
        # alike.
        found = self._aligned(query, np.asarray(estimate.T_map_cam), FAR_PARTS)
        if found is not None:
            yield found
        small = query.shrunk(SMALL_PX)
        score = self._views.renderer.guard.score
        starts = self._starts(estimate, SAMPLES_A_HYPOTHESIS * self.settings.hypotheses)
        about = np.unique([score.most_alike(start, 1)[0] for start in starts], axis=0)
        likely = [similarity(small, self._views.memory(T, small.camera)) for T in about]
        for index in np.argsort(np.nan_to_num(likely, nan=-1.0))[::-1][:SEARCHES]:
            found = self._aligned(query, about[index], FAR_PARTS)
            if found is not None:
                yield found

    def _starts(self, estimate: Estimate, count: int) -> Iterator[Float64]:
        """The rough pose, then others about it: by its covariance, or by the settings' spread."""
        T = estimate.T_map_cam
        assert T is not None
        yield T
        rng = np.random.default_rng(self.settings.seed)
        for twist in rng.normal(size=(count - 1, 6)) @ self._spread(estimate).T:
            moved = T.copy()
            moved[:3, :3] = se3.exponential(np.r_[0.0, 0.0, 0.0, twist[3:]])[:3, :3] @ T[:3, :3]
            moved[:3, 3] += twist[:3]
            yield moved

    def _spread(self, estimate: Estimate) -> Float64:
        """A root (6, 6) of the rough pose's covariance."""
        if estimate.covariance is None:
            s = self.settings
            return np.diag([s.spread_m] * 3 + [np.radians(s.spread_deg)] * 3) / np.sqrt(3)
        values, vectors = np.linalg.eigh(estimate.covariance)
        root: Float64 = vectors * np.sqrt(values.clip(min=0.0))
        return root

    def _matched(self, query: Picture, start: Float64, directly: bool) -> Iterator[Alignment]:
        """By features and flow; where there are too few features, by flow alone or, if asked, from small pictures."""
        s = self.settings
        memory = self._views.memory(start, query.camera)
        matched = match.match_by_features(query, memory, s.match_px, s.seed)
        if matched is None and not directly:
            return
        if matched is not None:
            memory = self._views.memory(matched, query.camera)
        flown = match.match_by_flow(query, memory, s.match_px, s.seed)
        near = matched if flown is None else flown
        for T, parts in ((near, NEAR_PARTS), (start if directly else None, FAR_PARTS)):
            found = None if T is None else self._aligned(query, T, parts)
            if found is not None:
                yield found

    def _aligned(self, query: Picture, T_map_cam: Float64, parts: tuple[int, ...]) -> Alignment | None:
        """Directly, from small pictures (a part of the side) to large ones."""
        found, side_px = None, max(query.camera.width, query.camera.height)
        for part in parts:
            if side_px // part < SMALLEST_PX and part > 1:
                continue
            small = query.shrunk(side_px // part)
            memories = self._views.memories(T_map_cam, small.camera)
            found = align(small, memories, T_map_cam, self.settings.iterations)
            if found is None:
                return None
            T_map_cam = found.T_map_cam
        return found

    def _likeness(self, query: Picture, T_map_cam: Float64) -> float:
        memories = self._views.memories(T_map_cam, query.camera)
        likely = [similarity(query.seen_from(memory, T_map_cam), memory) for memory in memories]
        known = [value for value in likely if not np.isnan(value)]
        return float(np.mean(known)) if known else float("nan")

    def _judged(self, rough: Estimate, likely: float, found: Alignment) -> Estimate:
        s = self.settings
        assert rough.T_map_cam is not None
        moved_m = float(np.linalg.norm(found.T_map_cam[:3, 3] - rough.T_map_cam[:3, 3]))
        reason = ""
        if not likely >= s.least_likeness:
            reason = f"the likeness of image and rendering is {likely:.2f}, {s.least_likeness:.2f} is needed"
        elif moved_m > s.farthest_m:
            reason = f"the refined pose lies {moved_m:.1f} m from the rough one, {s.farthest_m:.1f} m are allowed"
        if reason:
            return replace(rough, accepted=False, reason=reason, verification=likely)
        covariance = s.sigma_scale**2 * found.covariance
        return replace(
            rough, T_map_cam=found.T_map_cam, covariance=covariance, accepted=True, reason="", verification=likely,
            refined=True,
        )  # fmt: skip


def _unfit(query: Picture) -> str:
    """Why an image cannot be compared with anything; empty when it can."""
    if not query.seen.any():
        return "the image shows nothing of what the trained camera sees"
    values = query.rgb[query.seen]
    if float(values.mean()) < 4.0:
        return "the image is black"
    if float(values.std(axis=0).max()) < 4.0:
        return "the image is of one colour"
    return ""

"""What a model shows along a recorded flight, as a video that browsers play, beside the frames recorded on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.dataset.reader import Dataset, FrameCache, frame_cache
from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.evaluation.sheets import DEPTH_COLOURS, UNKNOWN_GREY, depth_limits
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.flight import Flight, FlightSettings, plan_flight
from pose2rgbd_ros.models.backends import RenderedImages
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.streams.video_write import panels, write_video
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.metrics import spread

# The flight: which stretch of it, the pictures along it, and the frames as they are passed.


RATE_HZ = 10.0  # of a flight at its recorded times
BIT_RATE = 1_000_000  # 2.5 MB for 20 s
_SCALE_FRAMES = 12  # whose depth gives the colours their ends
_FADE_S, _FADED = 0.5, 0.45


def film(
    run: Path,
    dataset: Dataset,
    judged_ns: Int64,
    path: Path,
    seconds: float,
    settings: FlightSettings | None = None,
    device: str = "auto",
    size: int | None = None,
) -> str:
    """Write an mp4 of the stretch that passes most of the frames `judged_ns`; what it shows, in a sentence.

    Args:
        run: checkpoint, or the run folder around it. Where it is calibrated, depth that nothing vouches for is grey.
        size: side of the pictures, for a model that renders any camera; None: as trained.

    Raises:
        UserError: a bad checkpoint, or the video cannot be written.
    """
    checkpoint, renderer = load_checkpoint(run), Renderer(run, device)
    made = checkpoint.provenance
    cache = frame_cache(dataset, size or checkpoint.camera.width, made.get("fit", "square"), made.get("margin", 0))
    flight = plan_flight(dataset.stamps_ns, dataset.T_map_cam, settings)
    judged = np.isin(dataset.stamps_ns, judged_ns)
    times_ns = _stretch(flight, judged, seconds)
    is_trained = checkpoint.trained_on(dataset.stamps_ns, dataset.T_map_cam[:, :3, 3])
    reel = _Reel(renderer, cache, flight, is_trained, times_ns, "m" if checkpoint.depth_kind == "metric" else "")
    pictures = tqdm(reel.pictures(), "video", len(times_ns), unit="picture", leave=False, disable=None)
    write_video(path, pictures, 1e9 / _period_ns(flight), BIT_RATE)
    passed = np.isin(flight.passed_ns, times_ns)
    shown_s = len(times_ns) * _period_ns(flight) / 1e9
    fading = "; each is bright where it was taken, and fades on the way to the next" if flight.line else ""
    return (
        f"{shown_s:.0f} s along the track: {flight.line or 'as fast as it was flown'}. "
        f"{counted(int(passed.sum()), 'recorded frame')} are passed, {int((passed & judged).sum())} of them measured "
        f"above{fading}"
    )


def _period_ns(flight: Flight) -> int:
    return flight.period_ns or int(1e9 / RATE_HZ)


def _stretch(flight: Flight, judged: Bool, seconds: float) -> Int64:
    """Times of the pictures, in flight: frames judged (N,) are passed as often as a stretch of that length allows."""
    period_ns = _period_ns(flight)
    times_ns = np.concatenate([np.arange(first, last + 1, period_ns) for first, last in flight.spans_ns])
    times_ns = times_ns[flight.poses(times_ns).valid]
    # At a frame rather than between two, where one is near: there pictures can be compared.
    near = flight.passed_ns[_nearest(flight.passed_ns, times_ns)]
    times_ns = np.unique(np.where(np.abs(near - times_ns) <= period_ns // 2, near, times_ns))
    count = max(1, round(seconds * 1e9 / period_ns))
    if len(times_ns) <= count:
        return times_ns
    of_time = np.bincount(_nearest(times_ns, flight.passed_ns[judged]), minlength=len(times_ns))
    within = np.convolve(of_time, np.ones(count, dtype=np.int64), "valid")
    best = np.flatnonzero(within == within.max())
    start = int(best[len(best) // 2])
    return times_ns[start : start + count]


def _nearest(known: Int64, asked: Int64) -> Int64:
    """Indices (M,) of the nearest among increasing times (N,)."""
    after = np.clip(np.searchsorted(known, asked), 1, max(len(known) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(known) - 1)
    return np.where(asked - known[before] <= known[after] - asked, before, after).astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Reel:
    """The pictures of a video, one at a time."""

    renderer: Renderer
    cache: FrameCache
    flight: Flight
    is_trained: Bool  # (N,) frames
    times_ns: Int64
    unit: str

    def pictures(self) -> Iterator[UInt8]:
        """This model's colour and depth at each time, and the frame passed last."""
        T_map_cam = self.flight.poses(self.times_ns).T
        scale = [self._render(T).depth for T in spread(T_map_cam, _SCALE_FRAMES)]
        limits = depth_limits([None if depth is None else depth[0] for depth in scale])
        for time_ns, T in zip(self.times_ns.tolist(), T_map_cam, strict=True):
            shown, panes = self._render(T), {}
            if shown.rgb is not None:
                panes["this model"] = shown.rgb[0]
            if shown.depth is not None:
                near, far = (f"{limit:.3g} {self.unit}".rstrip() for limit in limits)
                panes[f"depth: {near} red, {far} blue"] = _coloured(shown.depth[0], limits)
            last = int(np.searchsorted(self.flight.passed_ns, time_ns, side="right")) - 1
            kind = "trained on" if self.is_trained[last] else "held out"
            frame = _faded(np.asarray(self.cache.rgb[last]), (time_ns - int(self.flight.passed_ns[last])) / 1e9)
            height, width = next(iter(panes.values())).shape[:2]
            panes[f"frame {last + 1}, {kind}"] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            yield panels(panes.values(), panes)

    def _render(self, T_map_cam: Float64) -> RenderedImages:
        camera = self.cache.camera if self.renderer.any_camera else self.renderer.camera
        return self.renderer.render_for_camera(T_map_cam, camera)


def _coloured(depth: AnyArray, limits: tuple[float, float]) -> UInt8:
    """Colours (H, W, 3) of depth (H, W); grey where it is unknown."""
    share = np.clip((depth - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)
    colours: UInt8 = matplotlib.colormaps[DEPTH_COLOURS](share, bytes=True)[..., :3].copy()
    colours[~np.isfinite(depth)] = int(255 * float(UNKNOWN_GREY))
    return colours


def _faded(rgb: UInt8, age_s: float) -> UInt8:
    return cv2.convertScaleAbs(rgb, alpha=max(_FADED, 1.0 - (1.0 - _FADED) * age_s / _FADE_S)).astype(np.uint8)

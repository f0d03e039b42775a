"""Which frames are worth keeping: filters by height, speed, distance and sharpness, the same live and offline."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.depth import decode_file
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.streams.samples import ImageSample, undecodable

# The part of a recorded flight between take-off and landing, by its heights.


# A recording that never leaves this band is no flight with a take-off in it.
_LEAST_CLIMB_M = 3.0
_STEP_NS = 200_000_000
# Longer silences between poses count as this long: a stamp of 1970 must not make a grid of fifty years.
_LONGEST_GAP_NS = 5_000_000_000
# One pose in a thousand may be an outlier, below the ground or above the flight.
_OUTLIERS = 0.001
# A climb begins to count at this part of the top, and ends where it has slowed to this part of its speed.
_LOW, _SLOWED = 1 / 3, 1 / 3


def ground_z_m(z_m: Float64, height_above: str) -> float:
    """The height in the map that heights are measured from: of the "lowest" pose, of the "first", or of the "map"."""
    if height_above == "map":
        return 0.0
    return float(z_m[0] if height_above == "first" else np.quantile(z_m, _OUTLIERS))


def flight_phase(stamps_ns: Int64, z_m: Float64) -> tuple[int, int] | None:
    """First and last stamp of the flight proper: from the end of the climb to the beginning of the descent.

    An end of the recording that is up in the air is not cut. None when nothing climbs by three metres.
    """
    low, top = (float(value) for value in np.quantile(z_m, [_OUTLIERS, 1 - _OUTLIERS]))
    if top - low < _LEAST_CLIMB_M:
        return None
    since_first_ns = stamps_ns - stamps_ns[0]
    short_ns = np.concatenate([[0], np.cumsum(np.minimum(np.diff(stamps_ns), _LONGEST_GAP_NS))])
    count = max(2, int(short_ns[-1]) // _STEP_NS + 1)
    t_ns = np.linspace(0.0, short_ns[-1], count)
    z = np.interp(t_ns, short_ns, z_m)
    first = _end_of_climb(z, low + _LOW * (top - low))
    last = count - 1 - _end_of_climb(z[::-1], low + _LOW * (top - low))
    if first >= last:
        return None
    begin, end = (round(float(np.interp(t_ns[i], short_ns, since_first_ns))) for i in (first, last))
    return int(stamps_ns[0]) + begin, int(stamps_ns[0]) + end


def _phase_note(stamps_ns: Int64, phase: tuple[int, int] | None) -> str:
    """What was cut, in words."""
    if phase is None:
        return "no take-off or landing is seen in the heights: nothing is cut"
    cut_s = [(phase[0] - int(stamps_ns[0])) / 1e9, (int(stamps_ns[-1]) - phase[1]) / 1e9]
    return f"take-off and landing: the first {cut_s[0]:.1f} s and the last {cut_s[1]:.1f} s are cut"


def _end_of_climb(z: Float64, threshold_m: float) -> int:
    """The index where the climb through the threshold has slowed down; 0 when `z` begins above it."""
    crossing = int(np.argmax(z >= threshold_m))
    if crossing == 0:
        return 0
    speed = np.gradient(np.convolve(np.pad(z, 2, mode="edge"), np.full(5, 0.2), mode="valid"))
    slowed = np.flatnonzero(speed[crossing:] < _SLOWED * speed[crossing])
    return crossing + int(slowed[0]) if len(slowed) else crossing


# How sharp an image is among the ones before it: motion blur shows, the exposure and the scene do not.


# Blur that matters at training size shows at this width, and a reduced JPEG decodes in a third of the time.
_WIDTH_PX = 640
_WINDOW, _FEWEST = 31, 5
# Variance of sensor noise and JPEG in an image without any structure.
_NOISE = 4.0


class SharpnessRecord:
    """Compares each image with the median of the last 31, itself among them."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_WINDOW)

    def judge(self, image: ImageSample) -> float:
        """The sharpness as a part of the usual one; 1 for the first images. UserError when it cannot be read."""
        value = sharpness(grey(image))
        self._last.append(value)
        usual = float(np.median(self._last))
        return 1.0 if len(self._last) < _FEWEST or usual <= 0 else value / usual


def sharpness(image: UInt8) -> float:
    """Variance of the Laplacian of a grey image (H, W), as a part of its contrast: free of gain and brightness."""
    laplacian = cv2.Laplacian(image, cv2.CV_16S, ksize=1)
    _, detail = cv2.meanStdDev(laplacian)
    _, contrast = cv2.meanStdDev(image)
    return float(detail[0, 0] ** 2 / (contrast[0, 0] ** 2 + _NOISE))


def grey(image: ImageSample) -> UInt8:
    """The image in grey, (H, W) uint8, reduced by 2, 4 or 8 to no less than 640 columns where it is wider.

    UserError when it cannot be read.
    """
    factor = next((n for n in (8, 4, 2) if image.width >= n * _WIDTH_PX), 1)
    data = image.compressed_bytes
    if data is not None:
        flags = {
            1: cv2.IMREAD_GRAYSCALE,
            2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
            4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
            8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
        }[factor]
        found: AnyArray | None = decode_file(data, flags)
        if found is None:
            raise UserError(undecodable(data))
        return np.asarray(found, dtype=np.uint8)
    full = cv2.cvtColor(image.rgb(), cv2.COLOR_RGB2GRAY)
    size = (max(1, full.shape[1] // factor), max(1, full.shape[0] // factor))
    return np.asarray(cv2.resize(full, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


SKIPPED, GROUND_PHASE, ALTITUDE, STATIC, NEAR_DUPLICATE, BLURRED = (
    *("skipped", "ground_phase", "altitude", "static", "near_duplicate", "blurred"),
)
NOT_WANTED = (SKIPPED, GROUND_PHASE, ALTITUDE, STATIC, NEAR_DUPLICATE, BLURRED)
# Speed is measured over this time: between two frames of a fast camera it would be the noise of the poses.
_SPEED_WINDOW_NS = 1_000_000_000
_LOWEST_M, _HIGHEST_M = -10_000.0, 100_000.0


@dataclass(frozen=True)
class FilterConfig:
    """What is left out of a dataset; by default nothing."""

    every: int = setting(1, "take every n-th image that has a pose", ge=1)
    min_height_m: float = setting(_LOWEST_M, "images taken lower are left out")
    max_height_m: float = setting(_HIGHEST_M, "images taken higher are left out")
    height_above: Literal["lowest", "first", "map"] = setting(
        "lowest",
        "what heights are measured from: the recording's lowest pose (live: so far), its first, or the map's origin",
    )
    min_speed_mps: float = setting(0.0, "images taken while the camera moves slower are left out", ge=0)
    min_move_m: float = setting(
        0.0,
        "an image is left out when the camera has moved less than this since the last image kept (and turned less "
        "than min_turn_deg, where that is given); 0: not asked",
        ge=0,
    )
    min_turn_deg: float = setting(0.0, "the same for turning; 0: not asked", ge=0, le=180)
    min_sharpness: float = setting(
        0.0,
        "an image is left out as blurred when its sharpness is less than this part of what the images around it "
        "have; 0.5 finds motion blur, 0: not asked",
        ge=0,
        le=1,
    )


class FrameFilter:
    """Decides frame by frame, in the order they come, knowing which ones it let through before.

    `ground_z_m` is the height in the map that heights are measured from, `airborne_ns` first and last stamp between
    take-off and landing; both where the whole recording is known. Without, the ground is the first or lowest frame yet.
    """

    def __init__(
        self, config: FilterConfig, ground_z_m: float | None = None, airborne_ns: tuple[int, int] | None = None
    ) -> None:
        self._config = config
        self._airborne_ns = airborne_ns
        self._ground_is_known = config.height_above == "map" or ground_z_m is not None
        self._ground_z_m = 0.0 if config.height_above == "map" else ground_z_m
        self._seen = 0
        self._way: deque[tuple[int, Float64]] = deque()
        self._kept: Float64 | None = None
        self._sharpness = SharpnessRecord()

    def reason(self, stamp_ns: int, T_map_cam: Float64, image: ImageSample) -> tuple[str, str] | None:
        """Why this frame is left out, as a word and in figures; None lets it through."""
        self._seen += 1
        height_m, speed_mps = self._height_m(T_map_cam), self._speed_mps(stamp_ns, T_map_cam)
        refused = (
            self._by_turn()
            or self._by_phase(stamp_ns)
            or self._by_height(height_m)
            or self._by_speed(speed_mps)
            or self._by_distance(T_map_cam)
            or self._by_sharpness(image)
        )
        if refused is None:
            self._kept = T_map_cam
        return refused

    def _by_turn(self) -> tuple[str, str] | None:
        return (SKIPPED, "") if (self._seen - 1) % self._config.every else None

    def _by_phase(self, stamp_ns: int) -> tuple[str, str] | None:
        if self._airborne_ns is None or self._airborne_ns[0] <= stamp_ns <= self._airborne_ns[1]:
            return None
        return GROUND_PHASE, "before take-off" if stamp_ns < self._airborne_ns[0] else "after landing"

    def _by_height(self, height_m: float) -> tuple[str, str] | None:
        if self._config.min_height_m <= height_m <= self._config.max_height_m:
            return None
        return ALTITUDE, f"{height_m:.2f} m"

    def _by_speed(self, speed_mps: float | None) -> tuple[str, str] | None:
        if speed_mps is None or speed_mps >= self._config.min_speed_mps:
            return None
        return STATIC, f"{speed_mps:.2f} m/s"

    def _by_distance(self, T_map_cam: Float64) -> tuple[str, str] | None:
        least_m, least_deg = self._config.min_move_m, self._config.min_turn_deg
        if self._kept is None or not (least_m or least_deg):
            return None
        moved_m, turned_rad = (float(value) for value in se3.apart(self._kept, T_map_cam))
        turned_deg = math.degrees(turned_rad)
        if (least_m and moved_m >= least_m) or (least_deg and turned_deg >= least_deg):
            return None
        return NEAR_DUPLICATE, f"{moved_m:.3f} m and {turned_deg:.2f} degrees from the last frame kept"

    def _by_sharpness(self, image: ImageSample) -> tuple[str, str] | None:
        if not self._config.min_sharpness:
            return None
        try:
            part = self._sharpness.judge(image)
        except UserError:
            return None  # an unreadable image is refused as such when it is stored
        return (BLURRED, f"{part:.2f} of the usual sharpness") if part < self._config.min_sharpness else None

    def _height_m(self, T_map_cam: Float64) -> float:
        z_m = float(T_map_cam[2, 3])
        if not self._ground_is_known:
            lower = self._config.height_above == "lowest" and self._ground_z_m is not None and z_m < self._ground_z_m
            if self._ground_z_m is None or lower:
                self._ground_z_m = z_m
        assert self._ground_z_m is not None
        return z_m - self._ground_z_m

    def _speed_mps(self, stamp_ns: int, T_map_cam: Float64) -> float | None:
        """Over the last second; None for the first frame, or where time went back."""
        position_m = T_map_cam[:3, 3]
        way = self._way
        way.append((stamp_ns, position_m))
        while len(way) > 2 and stamp_ns - way[1][0] >= _SPEED_WINDOW_NS:
            way.popleft()
        then_ns, then_m = way[0]
        if stamp_ns <= then_ns:
            way.clear()
            way.append((stamp_ns, position_m))
            return None
        return float(np.linalg.norm(position_m - then_m)) * 1e9 / (stamp_ns - then_ns)


def flight_filter(config: FilterConfig, trim_ground: bool, stamps_ns: Int64, z_m: Float64) -> tuple[FrameFilter, str]:
    """The filter of a flight that is known as a whole by its heights, and a note on what it cuts ("" for nothing)."""
    phase = flight_phase(stamps_ns, z_m) if trim_ground else None
    note = _phase_note(stamps_ns, phase) if trim_ground else ""
    return FrameFilter(config, ground_z_m(z_m, config.height_above), phase), note

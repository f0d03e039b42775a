"""How far off a way of finding the camera is, on frames it was not built from.

Errors are the paper's: metres between the positions, and degrees of the rotation between the orientations. A frame whose
pose is rejected has no error; it counts in the shares of all frames (nobody gains by refusing the hard ones).
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.estimate import Estimate, Finder
from pose2rgbd_ros.reports.table import Column, Table

# (m, deg): usual for 7-Scenes; the three of the long-term localization benchmark (Sattler et al. 2018); for coarse ways.
THRESHOLDS = ((0.05, 5.0), (0.25, 2.0), (0.5, 5.0), (5.0, 10.0), (20.0, 20.0))
QUANTILES = (0.25, 0.75, 0.9, 0.95)
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as OpenCV and Pillow turn images grey
_QUIET_FRAMES = 100


@dataclass
class Localized:
    """What a finder said of N frames.

    T_true, T_found: (N, 4, 4) camera to map; NaN where nothing was found. accepted: (N,). reasons: why not, "" elsewhere.
    milliseconds: wall time a frame took, its reading left out. covariance: (N, 6, 6), NaN without one.
    """

    name: str
    stamps_ns: Int64
    T_true: Float64
    T_found: Float64
    accepted: Bool
    reasons: list[str]
    milliseconds: Float64
    covariance: Float64

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def position_m(self) -> Float64:
        """(N,) error of every pose found, rejected or not; NaN where there is none."""
        return self._errors[0]

    @property
    def rotation_deg(self) -> Float64:
        """(N,) likewise: the angle of the turn between the orientations, 2 acos |q1 . q2|."""
        return np.rad2deg(self._errors[1])

    @functools.cached_property
    def _errors(self) -> tuple[Float64, Float64]:
        """Metres and radians (N,)."""
        metres, radians = np.full((2, len(self)), np.nan)
        found = np.isfinite(self.T_found).all(axis=(1, 2))
        metres[found], radians[found] = se3.apart(self.T_found[found], self.T_true[found])
        return metres, radians

    def scores(self) -> dict[str, Any]:
        """Plain numbers for files: see :func:`scores`."""
        return scores(self.position_m, self.rotation_deg, self.accepted, self.milliseconds)

    def part(self, inside: Bool) -> Localized:
        """Of some of the frames."""
        return Localized(
            self.name,
            self.stamps_ns[inside],
            self.T_true[inside],
            self.T_found[inside],
            self.accepted[inside],
            [reason for reason, kept in zip(self.reasons, inside, strict=True) if kept],
            self.milliseconds[inside],
            self.covariance[inside],
        )


def scores(
    position_m: Float64, rotation_deg: Float64, accepted: Bool, milliseconds: Float64 | None = None
) -> dict[str, Any]:
    """Median, mean and quantiles over the accepted frames; shares within THRESHOLDS, and a median, over all of them.

    In ``median_all_*`` a rejected frame is infinitely wrong. NaN where there are no frames to speak of.
    """
    result: dict[str, Any] = {"frames": len(accepted), "rejected": int((~accepted).sum())}
    for name, errors in (("position_m", position_m), ("rotation_deg", rotation_deg)):
        known = errors[accepted]
        result[f"median_{name}"] = float(np.median(known)) if len(known) else float("nan")
        result[f"mean_{name}"] = float(known.mean()) if len(known) else float("nan")
        for share in QUANTILES:
            value = float(np.quantile(known, share)) if len(known) else float("nan")
            result[f"q{round(share * 100)}_{name}"] = value
        charged = np.sort(np.where(accepted, errors, np.inf))
        # The lower of the middle two: the mean of a number and infinity says nothing.
        result[f"median_all_{name}"] = (
            float(charged[(len(charged) - 1) // 2]) if len(charged) else float("nan")
        )
    for metres, degrees in THRESHOLDS:
        within = accepted & (position_m <= metres) & (rotation_deg <= degrees)
        result[f"within_{metres:g}_m_{degrees:g}_deg"] = float(within.mean()) if len(within) else float("nan")
    if milliseconds is not None and len(milliseconds):
        result["median_ms"] = float(np.median(milliseconds))
    return result


def localize(
    finder: Finder, dataset: Dataset, frames: Int64, grey: bool = False, label: str = "localizing"
) -> Localized:
    """Ask a finder where each of some frames was taken. `grey`: of their images turned to grey (the paper's Table 2)."""
    n, camera = len(frames), dataset.camera
    T_found, covariance = np.full((n, 4, 4), np.nan), np.full((n, 6, 6), np.nan)
    accepted, reasons, milliseconds = np.zeros(n, bool), [""] * n, np.zeros(n)
    shown = tqdm(frames, label, unit="frame", disable=n < _QUIET_FRAMES or None, leave=False)
    for i, index in enumerate(shown):
        rgb = dataset.rgb(int(index))
        estimate, milliseconds[i] = _timed(finder, to_grey(rgb) if grey else rgb, camera)
        if estimate.T_map_cam is not None:
            T_found[i] = estimate.T_map_cam
        if estimate.covariance is not None:
            covariance[i] = estimate.covariance
        accepted[i] = estimate.accepted and estimate.T_map_cam is not None
        reasons[i] = estimate.reason
    T_true = dataset.T_map_cam[frames]
    stamps_ns = dataset.stamps_ns[frames]
    return Localized(finder.name, stamps_ns, T_true, T_found, accepted, reasons, milliseconds, covariance)


def to_grey(rgb: UInt8) -> UInt8:
    """An image (H, W, 3) with its luma in all three channels."""
    luma = np.rint(rgb @ LUMA).clip(0, 255).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def cumulative(errors: Float64, accepted: Bool, at: Float64) -> Float64:
    """The share of all frames that are accepted with an error of at most each of `at` (M,): the cumulative curve."""
    charged = np.where(accepted, errors, np.inf)
    return np.asarray((charged[None, :] <= at[:, None]).mean(axis=1)) if len(charged) else np.zeros(len(at))


class MeanPose:
    """Always the mean of the training poses: what any way of finding a camera has to beat."""

    name = "mean pose"

    def __init__(self, T_map_cam: Float64) -> None:
        self._estimate = Estimate(se3.mean(T_map_cam))

    def find(self, rgb: UInt8, camera: Camera) -> Estimate:
        """See `Finder`; the image is not looked at."""
        return self._estimate


def write_csv(path: Path, localized: Localized) -> None:
    """One line a frame: stamp, true and found position and quaternion, errors, whether accepted and why not. OSError."""
    numbers = ("x", "y", "z", "qx", "qy", "qz", "qw")
    columns = ["stamp_ns", *(f"{which}_{name}" for which in ("true", "found") for name in numbers)]
    columns += ["position_error_m", "rotation_error_deg", "ms", "accepted", "reason"]
    frames = zip(
        localized.stamps_ns, localized.T_true, localized.T_found, localized.position_m, localized.rotation_deg,
        localized.milliseconds, localized.accepted, localized.reasons, strict=True,
    )  # fmt: skip
    rows = []
    for stamp_ns, true, found, metres, degrees, ms, accepted, reason in frames:
        errors = [f"{metres:.6g}", f"{degrees:.6g}", f"{ms:.2f}"]
        values = [int(stamp_ns), *_numbers(true), *_numbers(found), *errors, int(accepted), reason]
        rows.append(dict(zip(columns, values, strict=True)))
    layout.atomic_write(path, Table([*map(Column, columns)], rows).csv().encode())


def _timed(finder: Finder, rgb: UInt8, camera: Camera) -> tuple[Estimate, float]:
    start_s = time.perf_counter()
    estimate = finder.find(rgb, camera)
    return estimate, 1e3 * (time.perf_counter() - start_s)


def _numbers(T: Float64) -> list[str]:
    if not np.isfinite(T).all():
        return [""] * 7
    position, quaternion = se3.split(T)
    return [f"{value:.9g}" for value in (*position, *quaternion)]

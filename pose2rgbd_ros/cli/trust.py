"""What each step of `pose2rgbd run` decided, how sure that is, and what to do where it is bad.

All of it is read from what the steps left in their files, so a run that was interrupted and called again says the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.alignment.tracks import IN_90
from pose2rgbd_ros.convert.report import REPORT
from pose2rgbd_ros.dataset import made_depth
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.reports.page import Mood
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.sfm.align import is_aligned, recorded_dataset

CLOCK = "clock.yaml"  # what the aligned track says of the clocks
CALIBRATED = "calibrated.yaml"  # in a run's folder: what the calibration said, or why there is none
TRUST = "trust.yaml"
# From here on, or up to here, a step is good, and beyond the second it is bad.
TIME_S, ALIGNED, KNOWN, SCALE, FOCAL = (0.1, 0.5), (0.9, 0.5), (0.7, 0.25), (0.03, 0.1), (0.02, 0.1)
TURNED_DEG = (3.0, 10.0)
LOOKED_AT = 12  # frames, for the share of depth that is known


@dataclass(frozen=True)
class Trust:
    """A step: what was decided, how sure that is, in words; `mood`; what to do if it is not good enough."""

    step: str
    decided: str
    sure: str
    mood: Mood
    remedy: str = ""


WORDS: dict[Mood, str] = {"good": "good", "neutral": "doubtful", "bad": "bad"}


def trust_of(out: Path) -> Iterator[Trust]:
    """The steps that were made, in their order."""
    folder, run = out / "dataset", out / "run"
    dataset = Dataset(folder)
    yield from _clock(out, dataset)
    yield _poses(dataset)
    yield _lens(dataset)
    yield from _depth(dataset)
    if (run / "report" / "metrics.yaml").is_file():
        yield _model(read_yaml(run / "report" / "metrics.yaml"), run.resolve().name)
    if (run / CALIBRATED).is_file():
        yield _calibration(read_yaml(run / CALIBRATED))
    if (out / "live" / "summary.yaml").is_file():
        yield _node(read_yaml(out / "live" / "summary.yaml"))


def _graded(value: float, limits: tuple[float, float]) -> Mood:
    """Small is good where the first limit is the smaller one, else large is; what is not known is doubtful."""
    if np.isnan(value):
        return "neutral"
    good, bad = limits
    if good > bad:
        value, good, bad = -value, -good, -bad
    return "good" if value <= good else "neutral" if value <= bad else "bad"


def _clock(out: Path, dataset: Dataset) -> Iterator[Trust]:
    remedy = "--image-time-offset-s gives what to add to image stamps; `pose2rgbd sync DATASET` looks again"
    if (out / CLOCK).is_file():
        found = read_yaml(out / CLOCK)
        if found["why"]:
            said = f"the conversion's, {found['before_s']:+.3f} s"
            yield Trust("clock", said, f"the aligned track does not tell: {found['why']}", "neutral", remedy)
            return
        half_s = IN_90 * found["sigma_s"]
        if found.get("failed"):
            sure = f"the aligned track says {found['offset_s']:+.3f} ± {half_s:.3f} s (90 %), but so nothing aligns"
            yield Trust("clock", f"the conversion's, {found['before_s']:+.3f} s", sure, "bad", remedy)
            return
        if found["applied"]:
            decided = f"{found['offset_s']:+.3f} s, by the aligned track against the log"
            sure = f"± {half_s:.3f} s (90 %); the conversion had {found['before_s']:+.3f} s"
            yield Trust("clock", decided, sure, _graded(half_s, TIME_S), remedy)
            return
        apart_s = abs(found["offset_s"] - found["before_s"])
        sure = f"the aligned track says {found['offset_s']:+.3f} ± {half_s:.3f} s (90 %)"
        mood = _graded(max(apart_s - half_s, half_s), TIME_S)
        yield Trust("clock", f"the conversion's, {found['before_s']:+.3f} s", sure, mood, remedy)
        return
    report = read_yaml(dataset.path / REPORT) if (dataset.path / REPORT).is_file() else {}
    for part in report.get("bags") or []:
        for kind, mood in (("warnings", "neutral"), ("notes", "good")):
            for text in part.get(kind) or []:
                if text.startswith("time: "):
                    yield Trust("clock", text.removeprefix("time: "), _clock_sigma(dataset), mood, remedy)
                    return


def _clock_sigma(dataset: Dataset) -> str:
    sigma_s = dataset.meta.poses.image_time_sigma_s if dataset.meta.poses else None
    return "as the log has it" if sigma_s is None else f"± {IN_90 * sigma_s:.3f} s (90 %)"


def _poses(dataset: Dataset) -> Trust:
    poses = dataset.meta.poses
    remedy = "`pose2rgbd align DATASET` says what could not be joined: more overlap, less blur, `--neighbours`"
    if poses is None:
        return Trust("poses", "as recorded", "where they came from is not known", "neutral", remedy)
    decided = f"position: {poses.position}; orientation: {poses.orientation}"
    if not is_aligned(dataset.path):
        mood: Mood = "bad" if poses.position.startswith("gps") else "good"
        sure = "GPS is off by metres: pictures will be blurred" if mood == "bad" else "as recorded"
        return Trust("poses", decided, sure, mood, remedy)
    accuracy = poses.accuracy or {}
    total = len(recorded_dataset(dataset.path))
    share = len(dataset) / max(total, 1)
    sigma_m = float(np.linalg.norm(accuracy.get("position_sigma_m", [np.nan] * 3)) / np.sqrt(3))
    sure = (
        f"{len(dataset)} of {total} frames; in the map ± {IN_90 * sigma_m:.2f} m and "
        f"± {IN_90 * accuracy.get('orientation_sigma_deg', np.nan):.2f} degrees (90 %), most of it common to all"
    )
    turned = _graded(IN_90 * accuracy.get("orientation_sigma_deg", np.nan), TURNED_DEG)
    mood = max(_graded(share, ALIGNED), turned, key=["good", "neutral", "bad"].index)
    return Trust("poses", decided, sure, mood, remedy)


def _lens(dataset: Dataset) -> Trust:
    camera, accuracy = dataset.camera, (dataset.meta.poses and dataset.meta.poses.accuracy) or {}
    remedy = "calibrate the camera, or give --convert.fov-deg; a flight that also turns and climbs shows it"
    if not camera.is_calibrated:
        return Trust("lens", "not known", "no depth and no geometry without it", "bad", remedy)
    sigma = accuracy.get("focal_sigma")
    if sigma is None:
        return Trust("lens", str(camera), "as given" if not is_aligned(dataset.path) else "not said", "neutral", remedy)
    return Trust(
        "lens", f"{camera.focal_px:.1f} px, {camera.distortion_model}", f"± {100 * IN_90 * sigma:.1f} % (90 %)",
        _graded(IN_90 * sigma, FOCAL), remedy,
    )  # fmt: skip


def _depth(dataset: Dataset) -> Iterator[Trust]:
    more = "fly lines that overlap and cross, look down, or `pose2rgbd depth add DATASET --method RUN` (learnt depth)"
    if not dataset.has_depth or dataset.meta.depth is None:
        yield Trust("depth", "none", "the renderer has to find the shape by itself", "bad", more)
        return
    made = dataset.meta.depth.made
    some = np.unique(np.linspace(0, len(dataset) - 1, LOOKED_AT).astype(int))
    known = float(np.mean([np.isfinite(dataset.depth(int(i))).mean() for i in some]))
    sure = f"{known:.0%} of the pixels known"
    if made is not None:
        levels = [made_depth.confidence(dataset, int(i)) for i in some]
        there = [level[level > 0] for level in levels if level is not None]
        if there and (joined := np.concatenate(there)).size:
            sure += f", their confidence {np.median(joined):.2f} of 1 (median)"
    yield Trust("depth", made.method if made else "recorded", sure, _graded(known, KNOWN), more)
    yield _scale(dataset)


def _scale(dataset: Dataset) -> Trust:
    depth = dataset.meta.depth
    remedy = "a longer way with GPS, or RTK: the scale is as sure as the way flown is long beside the fixes' errors"
    assert depth is not None
    sigma = depth.made.scale_sigma if depth.made else None
    half = None if sigma is None else 100 * IN_90 * sigma
    if depth.kind != "metric":
        how = "no positions in metres say how large it is" if half is None else f"known to ± {half:.0f} % (90 %) only"
        return Trust("metric scale", "relative: depth has no unit", how, "neutral", remedy)
    if depth.made is None:
        return Trust("metric scale", "metres", "as recorded", "good", remedy)
    if half is None:
        return Trust("metric scale", "metres, of the poses", "their scale is not said", "neutral", remedy)
    focal = 100 * IN_90 * (((dataset.meta.poses and dataset.meta.poses.accuracy) or {}).get("focal_sigma") or 0.0)
    both = float(np.hypot(half, focal))  # depth across the way flown is as long as the focal length
    most = f", {focal:.1f} % by the focal length" if focal > half else ""
    sure = f"± {both:.1f} % (90 %){most}"
    return Trust("metric scale", "metres, of the positions", sure, _graded(both / 100, SCALE), remedy)


def _model(metrics: dict[str, Any], name: str) -> Trust:
    gains = metrics.get("better_than_mean_image") or {}
    scores = (metrics.get("scores") or {}).get("model") or {}
    parts = [f"RGB off by {scores['rgb_mae_px']:.1f} of 255"] if "rgb_mae_px" in scores else []
    unit = "" if metrics.get("depth_unit") == "(relative)" else " m"
    parts += [f"depth by {scores['depth_mae']:.2f}{unit}"] if "depth_mae" in scores else []
    least = min(gains.values(), default=float("nan"))
    mood: Mood = "bad" if metrics.get("collapsed") or not least > 0.1 else "good" if least > 0.4 else "neutral"
    said = f"{', '.join(parts)} on {metrics.get('frames', 0)} frames that judge; {least:.0%} below the mean image"
    return Trust(
        "model", name, said, mood, "train longer (--train.max-minutes), at a larger --train.size, or fly denser"
    )


def _calibration(found: dict[str, Any]) -> Trust:
    remedy = "more held-out stretches: a longer flight, or `pose2rgbd calibrate RUN OTHER_FLIGHT`"
    if found["refused"]:
        return Trust("calibration", "none: depth has no bounds", found["said"], "neutral", remedy)
    return Trust("calibration", "bounds of depth, and where poses are known", found["said"], "good", remedy)


def _node(summary: dict[str, Any]) -> Trust:
    images, share = summary.get("images", 0), summary.get("delivered_percent") or 0.0
    said = f"{images} images at {summary.get('rate_hz') or 0:.1f} Hz, {share:.0f} % of those published arrived"
    mood: Mood = "bad" if not images else "good" if share > 90 else "neutral"
    return Trust("node", f"render node with {summary.get('model', '')}", said, mood, "see live/render.log")

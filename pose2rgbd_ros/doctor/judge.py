"""What is worth saying of streams, pictures, depth, GPS and the camera's way, and from which figure on."""

from __future__ import annotations

from typing import Any

import numpy as np

from pose2rgbd_ros.dataset.filters import NOT_WANTED
from pose2rgbd_ros.dataset.inspect import depth_warnings, motion_warnings
from pose2rgbd_ros.doctor.diagnosis import Diagnosis
from pose2rgbd_ros.doctor.gps import FixQuality
from pose2rgbd_ros.doctor.pictures import DepthLog, PictureLog
from pose2rgbd_ros.doctor.stamps import Regularity
from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.geometry.arrays import Float64, Int64

# Shares of messages from which on a loss is a problem; below, a recording has such and is good.
LOST, REPEATED, REJECTED, AT_ENDS, BACKWARDS = 0.02, 0.005, 0.02, 0.1, 0.02
LATE_GROWTH_S, LATE_SPREAD_S = 0.3, 0.5
CODES = ("image_size", "image_unreadable", "depth_unreadable")  # reasons of rejects that are findings of their own
JITTERY = 0.02  # of stamps that a camera makes intervals scatter by less
# Pictures: shares of those looked at, and what one is by its figures (PictureLook).
BLUR, BLURRED, DARK, DARK_SHARE, WHITE, WHITE_SHARE = 0.5, 0.1, 32.0, 0.2, 0.2, 0.2
FROZEN, FROZEN_RUN = 0.01, 2
# Depth: the share of pixels that are known, below which it is hardly any; metres taken for millimetres lie below this.
HOLES, EMPTY, TOO_NEAR_M = 0.3, 0.01, 0.2
# GPS: shares of messages, and metres.
NO_FIX, NO_FIX_MATTERS, JUMPS, UNSURE_M = 0.02, 0.2, 0.02, 5.0


def judge_stream(diagnosis: Diagnosis, name: str, found: Regularity, used: bool, most_gap_s: float) -> None:
    """Of one topic; of one that is not `used` all is only noted. Longer silences than `most_gap_s` lose frames."""

    def add(code: str, bad: bool, text: str, next: str = "", **figures: Any) -> None:
        diagnosis.add(code, "problem" if bad and used else "note", name, text, next, **figures)

    if found.unstamped:
        add(
            "no_stamp",
            found.unstamped > REPEATED * found.count,
            f"{found.unstamped} of {counted(found.count, 'message')} have no stamp and count as taken when received",
            "let the driver set header.stamp to the time of the measurement",
            messages=found.unstamped,
        )
    if found.jumps_s:
        by = ", ".join(f"{jump:+.2f}" for jump in found.jumps_s[:5])
        add(
            "stamp_jump",
            True,
            f"the clock of its stamps was set {counted(len(found.jumps_s), 'time')} (by {by} s)",
            "keep clocks from being set in flight (chrony: `makestep` only at the start); converting corrects what is "
            "sure, --stamps received takes the recorder's clock",
            jumps=len(found.jumps_s),
            largest_s=max(found.jumps_s, key=abs),
        )
    if found.repeated:
        add(
            "repeated_stamps",
            found.repeated > REPEATED * found.count,
            f"{found.repeated} of {counted(found.count, 'message')} repeat the stamp of the one before: of images with "
            "one stamp one becomes a frame",
            "look for two publishers on the topic, or a driver that stamps too coarsely",
            messages=found.repeated,
        )
    if found.backwards:
        add(
            "out_of_order",
            found.backwards > BACKWARDS * found.count,
            f"{found.backwards} of {counted(found.count, 'message')} are stamped before the one before them",
            messages=found.backwards,
        )
    lost_s = sum(length for _, length in found.gaps)
    if found.gaps:
        at_s, longest_s = max(found.gaps, key=lambda gap: gap[1])
        add(
            "gap",
            longest_s > most_gap_s,
            f"{counted(len(found.gaps), 'gap')}, the longest of {longest_s:.1f} s at {at_s:.1f} s "
            f"({lost_s:.1f} s of {found.duration_s:.1f} s in all)",
            "look at the recorder's disk and network: `pose2rgbd monitor`, `ros2 topic hz`",
            gaps=len(found.gaps),
            longest_s=longest_s,
            at_s=at_s,
        )
    if found.lost and found.lost_share > LOST / 4:
        add(
            "lost_messages",
            found.lost_share > LOST,
            f"{counted(found.lost, 'message')} ({found.lost_share:.1%}) lost one by one at {found.rate_hz:.1f} Hz",
            "record compressed images, to a faster disk, with a larger cache (`ros2 bag record --max-cache-size`)",
            lost=found.lost,
            share=found.lost_share,
        )
    if found.late_growth_s > LATE_GROWTH_S or found.late_spread_s > LATE_SPREAD_S:
        add(
            "receive_lag",
            True,
            f"messages are received later and later after their stamps: {found.late_growth_s:+.2f} s from beginning to "
            f"end, spread over {found.late_spread_s:.2f} s",
            "the recorder or its network cannot keep up; frames keep their stamps, so converting is right",
            growth_s=found.late_growth_s,
            spread_s=found.late_spread_s,
        )


def judge_pictures(diagnosis: Diagnosis, name: str, log: PictureLog, moving_repeats: int | None) -> None:
    """`moving_repeats`: pictures that repeat the one before while the camera moved; None: not known, all count."""
    looked = len(log.looks)
    repeats = len(log.repeated_ns) if moving_repeats is None else moving_repeats
    if repeats and (repeats > FROZEN * log.count or log.longest_repeat >= FROZEN_RUN):
        diagnosis.add(
            "frozen", "problem", name,
            f"{repeats} of {counted(log.count, 'image')} repeat the one before, up to {log.longest_repeat} in a row, "
            "while time goes on: the camera or its driver stood still",
            "restart the driver and record anew: poses move on, so no option leaves those images out",
            images=repeats, longest=log.longest_repeat,
        )  # fmt: skip
    if len(log.sizes) > 1:
        sizes = ", ".join(f"{count} of {width} x {height}" for (width, height), count in log.sizes.most_common(3))
        diagnosis.add(
            "image_size", "problem", name, f"images change their size: {sizes} pixels; only those of one size convert",
            "keep the camera's mode while recording, one camera a topic",
        )  # fmt: skip
    if log.unreadable:
        (why, _), *_ = log.unreadable.most_common(1)
        diagnosis.add(
            "image_unreadable", "problem", name,
            f"{sum(log.unreadable.values())} of {counted(log.count, 'image')} cannot be read: {why}",
            "--image-topic picks another topic", images=sum(log.unreadable.values()),
        )  # fmt: skip
    if not looked:
        return
    blank = sum(look.blank for look in log.looks)
    if blank:
        diagnosis.add(
            "blank", "problem" if blank > REJECTED * looked else "note", name,
            f"{blank} of {counted(looked, 'image')} looked at show nothing (black, or one colour)",
            "look at the lens cap, the exposure and the driver", images=blank, looked=looked,
        )  # fmt: skip
    seen = [look for look in log.looks if not look.blank]
    blurred = sum(look.blur > BLUR for look in seen)
    if seen and blurred > BLURRED * len(seen):
        whole = blurred > 0.9 * len(seen)
        diagnosis.add(
            "blur", "problem", name,
            f"{blurred} of {counted(len(seen), 'image')} looked at are blurred"
            + (": the lens is out of focus, or dirty" if whole else ": exposure times are long for the motion"),
            "focus the lens and record anew" if whole else "shorter exposure; --min-sharpness 0.5 leaves out what is "
            "blurred beside its neighbours",
            ("--min-sharpness 0.5",) if blurred < 0.5 * len(seen) else (), images=blurred, looked=len(seen),
            blur=float(np.median([look.blur for look in seen])),
        )  # fmt: skip
    dark = sum(look.brightness < DARK for look in seen)
    if seen and dark > DARK_SHARE * len(seen):
        diagnosis.add(
            "underexposed", "problem", name,
            f"{dark} of {counted(len(seen), 'image')} looked at are dark (mean grey level below {DARK:g} of 255)",
            "open the exposure and record anew", images=dark,
            brightness=float(np.median([look.brightness for look in seen])),
        )  # fmt: skip
    white = sum(look.clipped > WHITE for look in log.looks)
    if white > WHITE_SHARE * looked:
        diagnosis.add(
            "overexposed", "problem", name,
            f"{white} of {counted(looked, 'image')} looked at are white over more than {WHITE:.0%} of their pixels",
            "shorten the exposure and record anew", images=white,
            clipped=float(np.median([look.clipped for look in log.looks])),
        )  # fmt: skip


def judge_depth(diagnosis: Diagnosis, name: str, log: DepthLog, is_metric: bool) -> None:
    """Of the depth images."""
    if log.unreadable:
        (why, _), *_ = log.unreadable.most_common(1)
        diagnosis.add(
            "depth_unreadable", "problem", name, f"depth images cannot be read: {why}",
            "--depth-topic picks another topic, or none", ("--depth-topic none",),
        )  # fmt: skip
    if not log.known:
        return
    known = float(np.mean(log.known))
    if known < EMPTY:
        diagnosis.add(
            "depth_empty", "problem", name,
            f"no pixel of {counted(len(log.known), 'depth image')} looked at is known (0 or NaN everywhere)",
            "--depth-topic none converts colour alone", ("--depth-topic none",), known=known,
        )  # fmt: skip
        return
    if known < HOLES:
        diagnosis.add(
            "depth_holes", "problem", name, f"{1 - known:.0%} of the depth is unknown",
            "look at the sensor's range, sunlight and its clipping distance", known=known,
        )  # fmt: skip
    values = np.concatenate(log.values)
    seen = values[np.isfinite(values)]
    low, median, high = (float(it) for it in np.percentile(seen, [1, 50, 99]))
    warnings = depth_warnings(values, is_metric)
    figures: dict[str, Any] = {"median_m": median, "from_m": low, "to_m": high}
    for text in warnings:
        diagnosis.add("depth_unit" if "millimetres" in text else "depth_marks", "problem", name, text, **figures)
    if is_metric and not warnings and median < TOO_NEAR_M:
        diagnosis.add(
            "depth_unit", "problem", name,
            f"half of the depth is nearer than {median:.3f} m (98 % {low:.3f} to {high:.3f} m): these look like metres "
            "or centimetres stored as millimetres",
            "record 16UC1 in millimetres or 32FC1 in metres; --depth-kind relative keeps them without a unit",
            ("--depth-kind relative",), **figures,
        )  # fmt: skip
    diagnosis.facts["depth"] = f"98 % from {low:.2f} to {high:.2f} m, {known:.0%} of the pixels known"


def judge_fixes(diagnosis: Diagnosis, found: FixQuality, are_poses: bool) -> None:
    """Of the GPS; `are_poses`: positions are taken from it, so its faults are those of the poses."""
    name, count = found.topic, max(1, found.count)
    without = found.no_fix + found.bad
    if not found.fixes:
        diagnosis.add(
            "gps_no_fix", "problem", name, f"none of {counted(found.count, 'message')} has a fix: no place on Earth",
            "wait for a fix before take-off", messages=found.count,
        )  # fmt: skip
        return
    if without:
        share = without / count
        bad = share > (NO_FIX if are_poses else NO_FIX_MATTERS)
        diagnosis.add(
            "gps_outages", "problem" if bad else "note", name,
            f"{without} of {counted(found.count, 'message')} ({share:.0%}) have no fix",
            "look at the antenna and what shades it", share=share,
        )  # fmt: skip
    if found.without_covariance > 0.5 * found.fixes:
        diagnosis.add(
            "gps_no_covariance", "note", name,
            f"{found.without_covariance} of {counted(found.fixes, 'fix', 'fixes')} do not say how sure they are",
            "1.5 m is assumed; --fix-sigma-m says otherwise",
        )  # fmt: skip
    elif found.sigma_m > UNSURE_M:
        diagnosis.add(
            "gps_uncertain", "problem" if are_poses else "note", name,
            f"fixes are good to {found.sigma_m:.1f} m, heights to {found.sigma_up_m:.1f} m, by their covariance "
            "(medians)",
            "more sky for the antenna, or RTK; `pose2rgbd align` makes poses good to less where pictures overlap",
            sigma_m=found.sigma_m, sigma_up_m=found.sigma_up_m,
        )  # fmt: skip
    if found.steps_m or found.jumps:
        bad = bool(found.steps_m) or found.jumps > JUMPS * found.fixes
        lasting = f", {len(found.steps_m)} lasting (up to {max(found.steps_m):.1f} m)" if found.steps_m else ""
        diagnosis.add(
            "gps_jumps", "problem" if bad else "note", name,
            f"positions jump {counted(found.jumps + len(found.steps_m), 'time')} as no motion does{lasting}",
            "multipath, or satellites lost: single outliers are left out, lasting shifts move the map",
            jumps=found.jumps, lasting=len(found.steps_m), largest_m=max(found.steps_m, default=0.0),
        )  # fmt: skip
    diagnosis.facts["GPS"] = (
        f"{found.fixes} fixes of {counted(found.count, 'message')}, good to {found.sigma_m:.1f} m (heights "
        f"{found.sigma_up_m:.1f} m) by their covariance"
    )


def judge_rejects(diagnosis: Diagnosis, rejects: dict[str, int], images: int, ways_out: dict[str, str]) -> None:
    """Images that give no frame."""
    for reason, count in rejects.items():
        limit = AT_ENDS if reason in ("before_first_pose", "after_last_pose") else REJECTED
        lost = count > limit * images and reason not in NOT_WANTED
        diagnosis.add(
            reason if reason in CODES else "rejected", "problem" if lost else "note", reason,
            f"{count} of {counted(images, 'image')} become no frame ({count / max(1, images):.1%})",
            ways_out.get(reason, ""), images=count,
        )  # fmt: skip


def judge_motion(diagnosis: Diagnosis, name: str, stamps_ns: Int64, T_map_cam: Float64) -> None:
    """The camera's way through the frames (N, 4, 4)."""
    if len(stamps_ns) < 2:
        return
    for text in motion_warnings(stamps_ns, T_map_cam):
        diagnosis.add(
            "motion", "problem", name, text, "--pose-topic picks other poses; `pose2rgbd align` finds its own"
        )
    steps = np.linalg.norm(np.diff(T_map_cam[:, :3, 3], axis=0), axis=1)
    size = np.ptp(T_map_cam[:, :3, 3], axis=0)
    diagnosis.facts["way"] = f"{steps.sum():.0f} m, within {size[0]:.0f} x {size[1]:.0f} x {size[2]:.0f} m"

"""At the end of a recording: where its map lies on Earth, and how good fused poses are by their own account."""

from __future__ import annotations

import math

from pose2rgbd_ros.dataset.importers import georeference
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.nodes.record_poses import LivePoses
from pose2rgbd_ros.streams.fusion_live import FixedLagFusion


def place_on_earth(meta: DatasetMeta, poses: LivePoses, resumed: bool) -> str:
    """Fill in the datum, as `pose2rgbd convert` finds it, unless frames were there before; returns what to tell.

    UserError when a dataset that is gone on with lies too far away.
    """
    if meta.poses is not None and poses.fusion is not None:
        meta.poses.accuracy = _accuracy(poses.fusion)
    found = poses.place.find(poses.antenna_m())
    if found is None:
        return ""
    poses.note(found.how)
    if not resumed:  # frames that were written without a datum cannot be given one by another recording
        meta.datum = meta.datum or found.datum
    if not resumed or found.datum is None or meta.datum is None:
        return ""
    offset_m = georeference.shift_m(found.datum, meta.datum)
    if not offset_m.any():
        return ""
    east, north, up = offset_m
    return (
        f"by GPS the poses' origin lies {east:.1f} m east, {north:.1f} m north, {up:.1f} m up of the map's; the frames "
        "were not moved: record each flight into a folder of its own, or convert the mcap into the dataset"
    )


def _accuracy(fusion: FixedLagFusion) -> dict[str, float] | None:
    found = fusion.sigmas()
    if found is None:
        return None
    (east, north, up), yaw_rad = found
    return {
        "horizontal_sigma_m": round(float(max(east, north)), 4),
        "vertical_sigma_m": round(float(up), 4),
        "yaw_sigma_deg": round(math.degrees(yaw_rad), 4),
    }

"""Recorded poses as the camera's track: from a topic of poses, or from TF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pose2rgbd_ros.dataset.importers import mount as mounts
from pose2rgbd_ros.dataset.importers.camera_track import BODY_FRAMES, MAP_FRAMES, CameraTrack
from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.transform_tree import TransformTree

if TYPE_CHECKING:
    from pose2rgbd_ros.dataset.importers.bag_track import FirstPass


def from_poses(recorded: FirstPass, topic: str, camera_frame: str) -> CameraTrack:
    """The track of a topic of poses. UserError when none is usable."""
    options = recorded.options
    try:
        body, problems = recorded.poses.trajectory()
    except UserError as error:
        raise UserError(f"{topic}: {error}; --pose-topic picks another topic") from error
    child, gap_ns = options.pose_frame or recorded.poses.child_frame, options.max_gap_ns
    return CameraTrack(
        body=body,
        mount=mounts.find(options.poses.body_to_camera, recorded.tree, child, camera_frame, gap_ns),
        map_frame=options.map_frame or recorded.poses.parent_frame or "map",
        camera_frame=camera_frame or "camera_optical_frame",
        gap_ns=gap_ns,
        pose_count=len(recorded.poses),
        received_ns=recorded.poses.received_ns,
        problems=problems,
        orientation_gap_ns=gap_ns,
    )


def from_tf(recorded: FirstPass, camera_frame: str) -> CameraTrack:
    """The track that TF tells. UserError when nothing moves through a map."""
    options, tree = recorded.options, recorded.tree
    frames, gap_ns = tree.frames(), options.max_gap_ns
    given = options.poses.body_to_camera != "auto"
    body = options.pose_frame or next((name for name in BODY_FRAMES if name in frames), "")
    # Interpolating the body, not the camera: a camera on a long arm moves in arcs between two poses.
    by_body = given or camera_frame not in frames or _is_fixed(tree, body, camera_frame)
    source = body if by_body else camera_frame
    if not source:
        raise UserError(
            f"TF does not know the image's frame {camera_frame!r}; its frames: {', '.join(frames) or 'none'}; "
            "--camera-frame names the camera's, --pose-frame the body's"
        )
    maps = (options.map_frame,) if options.map_frame else MAP_FRAMES
    map_frame, trajectory = moving_in_map(recorded, source, maps)
    return CameraTrack(
        body=trajectory,
        mount=mounts.find(options.poses.body_to_camera, tree, source, camera_frame, gap_ns),
        map_frame=map_frame,
        camera_frame=camera_frame or "camera_optical_frame",
        gap_ns=gap_ns,
        pose_count=len(trajectory),
        received_ns=recorded.tf_received_ns,
        problems={
            f"{edge}: {reason}": count
            for edge, reasons in tree.problems().items()
            for reason, count in reasons.items()
        },
        orientation_gap_ns=gap_ns,
        facts=PosesMeta(position="tf", orientation="tf"),
    )


def _is_fixed(tree: TransformTree, body: str, camera_frame: str) -> bool:
    """Whether static TF alone tells where the camera sits on the body."""
    try:
        return tree.static_transform(body, camera_frame) is not None
    except UserError:
        return False


def moving_in_map(recorded: FirstPass, source: str, maps: tuple[str, ...]) -> tuple[str, Trajectory]:
    """The first of `maps` through which TF moves `source`, and its trajectory there. UserError when there is none."""
    tree, gap_ns = recorded.tree, recorded.options.max_gap_ns
    if recorded.options.map_frame in maps:
        return recorded.options.map_frame, tree.trajectory(recorded.options.map_frame, source, gap_ns)
    frames = tree.frames()
    failure = f"none of {', '.join(maps)} is among them"
    for name in maps:
        if name in frames and name != source:
            try:
                return name, tree.trajectory(name, source, gap_ns)
            except UserError as error:
                failure = str(error)
    raise UserError(
        f"TF gives no trajectory of {source!r} (frames: {', '.join(frames)}): {failure}; --map-frame names the map"
    )

"""The service render_pose: one pose on demand, for the trained camera or another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pose2rgbd.srv import RenderPose
from rclpy.callback_groups import ReentrantCallbackGroup

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.node import NOT_ACTIVE, ManagedNode
from pose2rgbd_ros.nodes.common.tf import TfLookup
from pose2rgbd_ros.nodes.common.worker import LatestWorker
from pose2rgbd_ros.nodes.render.outputs import BOUNDS, Report, known_share, of_pose
from pose2rgbd_ros.rendering.renderer import Renderer, check_camera


class Active(NamedTuple):
    """What an active node renders with; `camera` is the one it renders for."""

    renderer: Renderer
    worker: LatestWorker
    report: Report
    camera: Camera


class RenderPoseService:
    """Answers in the executor, renders in the worker.

    `active` gives the renderer, worker and report while the node is active, else None; `frames` the map and camera
    frame. Bad requests are answered with success = false and the reason.
    """

    def __init__(
        self,
        node: ManagedNode[Any],
        poses: TfLookup,
        active: Callable[[], Active | None],
        frames: Callable[[], tuple[str, str]],
    ) -> None:
        self._node, self._poses, self._active, self._frames = node, poses, active, frames
        # Its own group: an answer that waits for the worker must not hold up the node's other callbacks.
        node.create_service(RenderPose, "~/render_pose", self._serve, callback_group=ReentrantCallbackGroup())

    async def _serve(self, request: RenderPose.Request, response: RenderPose.Response) -> RenderPose.Response:
        try:
            active = self._active()
            if active is None:
                raise UserError(NOT_ACTIVE)
            T, camera = self._requested_pose(request), requested_camera(request, active)
            await active.worker.call(lambda: self._render(active, T, camera, request, response), self._node.wake)
        except UserError as error:
            response.success, response.message = False, str(error)
        except Exception as error:
            response.success, response.message = False, f"{type(error).__name__}: {error}"
        return response

    def _requested_pose(self, request: RenderPose.Request) -> Float64:
        """T_map_cam, through TF when the pose is not in the map frame."""
        header, map_frame = request.pose.header, self._frames()[0]
        T_frame_cam = conversions.matrix_of(request.pose.pose)
        stamp_ns = conversions.stamp_ns(header.stamp)
        return self._poses.between(map_frame, header.frame_id or map_frame, stamp_ns) @ T_frame_cam

    def _render(
        self, active: Active, T: Float64, camera: Camera, request: RenderPose.Request, response: RenderPose.Response
    ) -> None:
        """In the worker: render and fill the response."""
        renderer = active.renderer
        rendered = renderer.render_for_camera(T, camera)
        check = renderer.guard_score(T)
        known = known_share(rendered)
        stamp_ns, frame = conversions.stamp_ns(request.pose.header.stamp), self._frames()[1]
        for kind, images in rendered.present().items():
            if kind in BOUNDS:  # the answer has no place for them
                continue
            image = conversions.to_image(images[0], stamp_ns, frame)
            if kind == "depth" and renderer.depth_kind == "relative":
                response.relative_depth = conversions.depth_message(image, "relative")
            else:
                setattr(response, kind, image)
        response.camera_info = conversions.camera_to_info(camera)
        response.camera_info.header.stamp = request.pose.header.stamp
        response.camera_info.header.frame_id = frame
        state = of_pose(check, 0.0, float("inf"), known, stamp_ns)
        response.status = active.report.message(state, frame, check)
        response.status.known = float("nan") if known is None else known
        response.success, response.message = True, state.message


def requested_camera(request: RenderPose.Request, active: Active) -> Camera:
    """The camera asked for, or else that of the node. UserError when the model cannot be rendered for it."""
    if request.camera_info.k[0] == 0:
        return active.camera
    camera = conversions.camera_from_info(request.camera_info)
    check_camera(camera, active.renderer.camera, active.renderer.any_camera)
    return camera

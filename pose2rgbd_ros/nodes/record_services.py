"""The services of the recorder: start, stop, pause. What cannot be done is answered with success = false and the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rclpy.callback_groups import ReentrantCallbackGroup
from std_srvs.srv import SetBool, Trigger

from pose2rgbd_ros.errors import UserError

if TYPE_CHECKING:
    from pose2rgbd_ros.nodes.record import RecordNode


class RecordServices:
    """In a group of their own: an answer that waits for the worker must not hold up the images."""

    def __init__(self, node: RecordNode) -> None:
        self._node = node
        group = ReentrantCallbackGroup()
        node.create_service(Trigger, "~/start", self._start, callback_group=group)
        node.create_service(Trigger, "~/stop", self._stop, callback_group=group)
        node.create_service(SetBool, "~/pause", self._pause, callback_group=group)

    def _start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.success, response.message = True, self._node.start_recording()
        except UserError as error:
            response.success, response.message = False, str(error)
        return response

    async def _stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.success, response.message = True, await self._node.stop_recording()
        except UserError as error:
            response.success, response.message = False, str(error)
        return response

    def _pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        try:
            response.success, response.message = True, self._node.pause_recording(request.data)
        except UserError as error:
            response.success, response.message = False, str(error)
        return response

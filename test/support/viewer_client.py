"""What a browser sends to the viewer and gets from it, without the browser: for poses that no browser would send."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import msgspec
import numpy as np
import viser
import zstandard
from websockets.sync.client import ClientConnection, connect


class ViewerClient:
    """A connection; use as a context."""

    def __init__(self, port: int, origin: str | None = None) -> None:
        """origin: of the page that connects, as a browser says it; None: no page, a program."""
        protocol: Any = f"viser-v{viser.__version__}"
        page: Any = origin
        self._socket: ClientConnection = connect(
            f"ws://127.0.0.1:{port}", subprotocols=[protocol], max_size=None, compression=None, origin=page
        )
        self._waiting: list[dict[str, Any]] = []  # of the last window
        self.texts: list[str] = []  # of the panel, in the order in which they came

    def __enter__(self) -> ViewerClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def drop(self) -> None:
        """As when a laptop is closed: without a farewell."""
        self._socket.socket.close()

    def send(self, **message: Any) -> None:
        """Any message."""
        self._socket.send(msgspec.msgpack.encode(message))

    def look(self, position: Any, quat_wxyz: Any, fov: float = 1.0, size: tuple[int, int] = (640, 480)) -> None:
        """Move the camera of this browser, in the frame of the scene."""
        self.send(
            type="ViewerCameraMessage", wxyz=tuple(map(float, quat_wxyz)), position=tuple(map(float, position)),
            fov=fov, near=0.01, far=1000.0, image_height=size[1], image_width=size[0], look_at=(0.0, 0.0, 0.0),
            up_direction=(0.0, 0.0, 1.0),
        )  # fmt: skip

    def messages(self, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """The next window of messages."""
        raw = self._socket.recv(timeout=timeout_s)
        assert isinstance(raw, bytes)
        packed = int.from_bytes(raw[8:16], "little")
        window = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(raw[16 : 16 + packed]))
        return list(window["messages"])

    def wait(self, wanted: Callable[[dict[str, Any]], bool], what: str, limit_s: float = 30.0) -> dict[str, Any]:
        """The first message that is wanted."""
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            if not self._waiting:
                self._waiting = self.messages(max(end_s - time.monotonic(), 0.1))
            message = self._waiting.pop(0)
            self.texts += [value for value in (message.get("updates") or {}).values() if isinstance(value, str)]
            if wanted(message):
                return message
        raise AssertionError(f"no {what}")

    def hear(self, text: str, limit_s: float = 30.0) -> None:
        """Wait until the panel has said something."""
        if not any(text in said for said in self.texts):
            self.wait(lambda _: text in "".join(self.texts[-1:]), repr(text), limit_s)

    def picture(self, larger_than: int = 0, smaller_than: int = 10**9) -> np.ndarray:
        """The next picture, RGB, of more than so many pixels, and less."""
        found: list[np.ndarray] = []

        def wanted(message: dict[str, Any]) -> bool:
            if message["type"] != "BackgroundImageMessage" or message["rgb_data"] is None:
                return False
            image = cv2.imdecode(np.frombuffer(message["rgb_data"], np.uint8), cv2.IMREAD_COLOR)
            found[:] = [image[..., ::-1]]
            return larger_than < image.shape[0] * image.shape[1] < smaller_than

        self.wait(wanted, "picture")
        return found[0]

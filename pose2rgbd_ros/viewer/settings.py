"""Settings of `pose2rgbd view`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pose2rgbd_ros.settings import check, setting

LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ViewSettings:
    """How pictures are drawn and served."""

    host: str = setting("127.0.0.1", "address to listen on; 0.0.0.0 opens the page to every computer of the network")
    port: int | None = setting(None, "port to listen on (default: 8080, or the next free one)", ge=1, le=65535)
    size: int = setting(512, "pictures at rest have so many pixels squared", ge=32, le=2048)
    moving_size: int = setting(256, "the same while the camera moves; less where the model is slow", ge=32, le=2048)
    rest_ms: int = setting(150, "milliseconds of rest before the full picture is drawn", ge=0, le=5000)
    most_frames: int = setting(2000, "recorded frames that are drawn into the scene; of more, evenly chosen ones", ge=1)
    device: str = setting("auto", "where models run: auto, cpu, cuda or cuda:N")
    threads: int = setting(0, "CPU threads of a model; 0: its usual number", ge=0, le=256)
    niceness: int = setting(
        5, "how far this program steps back behind others of the computer, such as a render node", ge=0, le=19
    )
    browser: Literal["auto", "none"] = setting("auto", "open the page in a browser, where there is a screen")
    export: Path | None = setting(None, "write the scene into this HTML file and end, in place of serving it")

    def __post_init__(self) -> None:
        check(self)

    @property
    def is_local(self) -> bool:
        """Whether only programs of this computer can reach the page."""
        return self.host in LOCAL

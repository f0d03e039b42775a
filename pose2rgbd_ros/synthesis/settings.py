"""Settings of `pose2rgbd synthesize`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pose2rgbd_ros.settings import setting

Device = Literal["auto", "cpu", "cuda"]


@dataclass
class RouteConfig:
    """Where the routes lead and what is written of them."""

    start: int = setting(0, "frame at whose pose the linear and the parabolic route start", ge=0)
    end: int = setting(-1, "frame at whose pose they end; -1: the last one", ge=-1)
    bend: float = setting(
        0.25, "how far the parabola leaves the line, as a share of its length; left if positive", ge=-5.0, le=5.0
    )
    waypoints: Path | None = setting(
        None, "a route through a file of `x y z [yaw_deg [pitch_deg]]` lines instead of both"
    )
    steps: int = setting(120, "pictures along each route", ge=2, le=100_000)
    columns: int = setting(8, "pictures of each route on the sheet", ge=2, le=40)
    rate_hz: float = setting(15.0, "pictures a second in the videos", ge=0.1, le=240.0)
    size: int | None = setting(None, "side of the pictures in pixels (the largest model's)", ge=16, le=2048)
    truth: bool = setting(False, "show and score the true views, of a dataset of the simulator")
    device: Device = setting("auto", "where to run the networks")


@dataclass
class InterpolateConfig:
    """Which frames get more between them, and on which that is scored."""

    times: int = setting(10, "pictures for each recorded one (the paper: 10)", ge=2, le=1000)
    start: int = setting(-1, "first frame of the video; -1: where frames were not trained on", ge=-1)
    frames: int = setting(24, "recorded frames in the video", ge=2, le=100_000)
    columns: int = setting(9, "pictures on the sheet, from one recorded frame to the next kept one", ge=3, le=40)
    leave_out: int = setting(
        4, "scores: of so many frames one is kept, and those between are to be shown", ge=2, le=1000
    )
    most: int = setting(200, "scores: at most so many left-out frames", ge=1, le=1_000_000)
    max_turn_deg: float = setting(
        45.0, "scores and video: kept frames turned further from each other are not joined", ge=0.1, le=180.0
    )
    size: int | None = setting(None, "side of the pictures in pixels (the largest model's)", ge=16, le=2048)
    device: Device = setting("auto", "where to run the networks")


@dataclass
class MoversConfig:
    """Which recorded views are shown without what moves, and how that is scored."""

    twin: Path | None = setting(
        None, "the same flight without movers (the dataset's own mover_free folder); frames are matched by stamp"
    )
    threshold: int = setting(
        24, "levels of 0..255 by which a pixel differs from its twin where something moves", ge=1, le=255
    )
    most: int = setting(200, "scores: at most so many frames, evenly spread", ge=1, le=1_000_000)
    columns: int = setting(6, "frames on the sheet", ge=1, le=40)
    size: int | None = setting(None, "side of the pictures in pixels (the largest model's)", ge=16, le=2048)
    device: Device = setting("auto", "where to run the networks")

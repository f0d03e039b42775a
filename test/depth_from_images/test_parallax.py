"""Which videos can show depth: rendered flights, and the same camera when it turns, stands, or sees nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from support.blockworld import BlockWorld

from pose2rgbd_ros.dataset.splits import Split
from pose2rgbd_ros.depth_from_images.parallax import check_parallax
from pose2rgbd_ros.depth_from_images.snippets import Sequence, SnippetData
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.training.families import video_config
from pose2rgbd_ros.training.video import open_video_data

CAMERA = Camera.from_fov(96, 72, 70.0)
FRAMES = 14
START = se3.look_at([2.0, -11.0, 13.0], [0.0, 2.0, 0.0])


@functools.cache
def pictures(kind: str) -> np.ndarray:
    """(FRAMES, H, W, 3) uint8, with the noise of a camera."""
    steps = {
        "flight": [0.5, 0.1, 0.2, 0.004, -0.008, 0.003],
        "slow": [0.1, 0.0, 0.03, 0.0, 0.0, 0.0],
        "turn": [0, 0, 0, 0.006, 0.02, -0.008],
    }
    world, T, found = BlockWorld(seed=2), START, []
    for _ in range(FRAMES):
        found.append(np.full((72, 96, 3), 128, np.uint8) if kind == "blank" else world.render(T, CAMERA)[0])
        T = T @ se3.exponential(steps.get(kind, [0.0] * 6))
    noise = np.random.default_rng(0).normal(0, 1.0, (FRAMES, 72, 96, 3))
    return np.clip(np.stack(found) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., SnippetData]:
    def snippets(*kinds: str) -> SnippetData:
        nothing = np.zeros(0, np.int64)
        split = Split(np.arange(FRAMES), nothing, nothing, "all train")
        sequences = []
        for kind in kinds:
            images = pictures(kind)
            stamps, cache = np.arange(FRAMES) * 10**8, tmp_path / kind
            sequences.append(Sequence(kind, stamps, CAMERA, images.__getitem__, cache, kind, split=split))
        return SnippetData.of(sequences, (72, 96))

    return snippets


def test_a_flight_shows_depth(opened: Callable[..., SnippetData]) -> None:
    assert check_parallax(opened("flight")) == []


@pytest.mark.parametrize(
    ("kind", "why"),
    [("turn", "the camera only turns"), ("stand", "hardly anything moves"), ("blank", "the pictures have no texture")],
)
def test_a_video_that_cannot_show_depth_is_refused_in_a_line(
    opened: Callable[..., SnippetData], kind: str, why: str
) -> None:
    with pytest.raises(UserError, match=f"{kind}: neither depth nor scale is observable: {why}.* at all 12 places"):
        check_parallax(opened(kind))
    (note,) = check_parallax(opened("flight", kind))
    assert note.startswith(f"{kind}: depth is not observable, {why}")


def test_no_training_begins_on_a_video_of_a_turning_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for kind in ("flight", "turn"):
        with av.open(str(tmp_path / f"{kind}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 96, 72, "yuv420p", 4_000_000
            for image in pictures(kind):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    given = {"image_width": 96, "image_height": 72, "hfov_deg": 70.0}
    config = video_config("sfmlearner", **given)  # type: ignore[arg-type]
    assert len(open_video_data([tmp_path / "flight.mp4"], config).snippets) == FRAMES
    with pytest.raises(UserError, match=r"turn\.mp4: neither depth nor scale is observable: the camera only turns"):
        open_video_data([tmp_path / "turn.mp4"], config)


def test_where_little_moves_within_a_snippet_a_larger_stride_is_named(opened: Callable[..., SnippetData]) -> None:
    (note,) = check_parallax(opened("slow"))
    assert "slow: within a snippet the pictures hardly show parallax; --stride" in note

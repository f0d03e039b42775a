"""The report's video: what browsers play, along the flight, with the recorded frames where they were taken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from support.pages import read_page

from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.evaluation.film import _stretch
from pose2rgbd_ros.evaluation.picture_report import evaluate
from pose2rgbd_ros.geometry.flight import FlightSettings, plan_flight
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train

S = 10**9


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("flight") / "flight", frames=24)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, flight: Path) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    config = train_config(model="slice-4", size=32, width=0.125, device="cpu", epochs=2, tensorboard=False)
    train(flight, out, config)
    return out


def frames_of(video: Path) -> np.ndarray:
    """Its pictures, (N, H, W, 3)."""
    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_video_that_browsers_play_is_on_the_page(run: Path, flight: Path, tmp_path: Path) -> None:
    result = evaluate(run, flight, tmp_path, device="cpu", video_s=3.0)
    page = read_page(tmp_path / "index.html")
    assert page.videos == [tmp_path / "flight.mp4"]
    assert result.video in page.text
    content = page.videos[0].read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "it plays before all of it is loaded"
    assert len(content) < 3_000_000 * 3 / 20
    with av.open(str(page.videos[0])) as container:
        stream = container.streams.video[0]
        if "libx264" in av.codecs_available:
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 10.0
    pictures = frames_of(page.videos[0])
    assert len(pictures) == 30
    assert pictures.shape[1:] == (256 + 22, 3 * 256 + 2 * 4, 3), "colour, depth and the recorded frame"


def test_photographs_are_shown_where_they_were_taken(run: Path, flight: Path, tmp_path: Path) -> None:
    source = Dataset(flight)
    levels = [60, 120, 180, 240]
    with DatasetWriter(tmp_path / "photos", DatasetMeta(source.camera)) as writer:
        for index, level in enumerate(levels):
            writer.add((1 + 5 * index) * S, source.T_map_cam[3 * index], np.full((40, 48, 3), level, np.uint8))
    photos = Dataset(tmp_path / "photos")
    path = plan_flight(photos.stamps_ns, photos.T_map_cam)
    result = evaluate(run, photos.path, tmp_path / "report", device="cpu", video_s=60.0)
    assert path.line in result.video
    assert "4 recorded frames are passed" in result.video
    pictures = frames_of(tmp_path / "report" / "flight.mp4")
    at = ((path.passed_ns - path.passed_ns[0]) // path.period_ns).tolist()
    assert len(pictures) == at[-1] + 1
    recorded = pictures[:, 60:240, -220:-40].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(recorded[at], levels, atol=6)
    for index, level in zip(at[:-1], levels, strict=False):
        assert recorded[index + 3] < 0.8 * level, "it fades on the way to the next"
    shown = pictures[:, 60:240, 40:220].astype(float)
    assert np.abs(np.diff(shown, axis=0)).mean(axis=(1, 2, 3)).max() > 0.2, "the model's picture moves on the way"


def test_the_stretch_that_passes_most_of_the_judged_frames_is_shown() -> None:
    stamps = np.arange(100) * 5 * S
    T = np.tile(np.eye(4), (100, 1, 1))
    T[:, 0, 3] = 20.0 * np.arange(100)
    judged = np.isin(np.arange(100), [5, 60, 62, 64, 66, 90])
    settings = FlightSettings()
    for seconds, wanted in ((10.0, {60, 62, 64, 66}), (1e4, set(np.flatnonzero(judged)))):
        path = plan_flight(stamps, T, settings)
        times = _stretch(path, judged, seconds)
        assert len(times) == min(seconds * 10, 991)
        assert set(np.flatnonzero(np.isin(path.passed_ns, times) & judged)) == wanted


def test_no_picture_of_a_dense_recording_lies_between_frames_where_one_is_near() -> None:
    stamps = (np.arange(300) * S / 29.97).astype(np.int64)
    times = _stretch(plan_flight(stamps, np.tile(np.eye(4), (300, 1, 1))), np.ones(300, bool), 5.0)
    assert len(times) == 50
    assert np.isin(times, stamps).all()
    np.testing.assert_allclose(np.diff(times) / S, 0.1, atol=0.034)


def test_what_cannot_be_filmed_is_a_note_and_the_figures_stay(run: Path, flight: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "run"
    shutil.copytree(run, damaged)
    (damaged / "checkpoint" / "calibration.yaml").write_text("of: something else\n")
    before = tmp_path / "report" / "flight.mp4"
    before.parent.mkdir()
    before.write_bytes(b"of another model")
    result = evaluate(damaged, flight, tmp_path / "report", device="cpu", video_s=1.0)
    assert result.video == ""
    assert result.notes[-1].startswith("no video: ")
    page = read_page(tmp_path / "report" / "index.html")
    assert "no video: " in page.text
    assert page.videos == []
    assert not before.exists()
    assert (tmp_path / "report" / "metrics.yaml").exists()

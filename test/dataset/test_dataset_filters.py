"""Filters: what is left out, why, and that nothing else is."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.dataset.filters import FilterConfig, FrameFilter
from pose2rgbd_ros.dataset.ingest import FrameIngest, IngestSettings
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.streams.samples import ImageSample

S = 1_000_000_000
WIDTH, HEIGHT = 64, 48


def pose(x: float = 0.0, z: float = 10.0, yaw_deg: float = 0.0) -> Float64:
    return se3.make([x, 0.0, z], Rotation.from_euler("z", yaw_deg, degrees=True).as_quat())


def textured(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 0.8)


def raw(rgb: np.ndarray, stamp_ns: int = 0) -> ImageSample:
    return ImageSample(stamp_ns, "cam", "rgb8", rgb.tobytes(), rgb.shape[1], rgb.shape[0], rgb.shape[1] * 3)


def reasons(config: FilterConfig, frames: list[tuple[int, Float64]], **options) -> list[str | None]:
    """The reason of each (stamp, pose); the image is always the same."""
    chosen, image = FrameFilter(config, **options), raw(textured())
    found = [chosen.reason(stamp, T, image) for stamp, T in frames]
    return [refused and refused[0] for refused in found]


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(-180, 180)), max_size=20))
def test_by_default_everything_passes(places) -> None:
    frames = [(i * S, pose(*place)) for i, place in enumerate(places)]
    assert reasons(FilterConfig(), frames) == [None] * len(frames)


def test_every_nth() -> None:
    assert reasons(FilterConfig(every=3), [(i, pose(i)) for i in range(7)]) == [
        *(None, "skipped", "skipped", None, "skipped", "skipped", None)
    ]


def test_near_duplicates_are_measured_from_the_last_frame_kept_not_the_last_seen() -> None:
    frames = [(i * S, pose(0.4 * i)) for i in range(7)]
    kept = reasons(FilterConfig(min_move_m=1.0), frames)
    assert [i for i, reason in enumerate(kept) if reason is None] == [0, 3, 6]
    assert set(kept) == {None, "near_duplicate"}


def test_a_turn_alone_makes_a_new_view_where_it_is_asked_for() -> None:
    frames = [(i * S, pose(0, yaw_deg=4.0 * i)) for i in range(6)]
    assert reasons(FilterConfig(min_move_m=1.0), frames).count(None) == 1
    kept = reasons(FilterConfig(min_move_m=1.0, min_turn_deg=10.0), frames)
    assert [i for i, reason in enumerate(kept) if reason is None] == [0, 3]


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=40), st.floats(0.1, 5.0))
def test_kept_neighbours_are_always_that_far_apart(xs: list[float], least_m: float) -> None:
    kept = reasons(FilterConfig(min_move_m=least_m), [(i * S, pose(x)) for i, x in enumerate(xs)])
    way = [x for x, reason in zip(xs, kept, strict=True) if reason is None]
    assert way[0] == xs[0]
    assert all(abs(b - a) >= least_m - 1e-9 for a, b in itertools.pairwise(way))


def test_heights_are_measured_from_what_was_asked_for() -> None:
    frames = [(i * S, pose(z=z)) for i, z in enumerate((102.0, 100.0, 110.0, 131.0))]
    band = {"min_height_m": 5.0, "max_height_m": 30.0}
    by_lowest = reasons(FilterConfig(**band), frames, ground_z_m=100.0)
    assert by_lowest == ["altitude", "altitude", None, "altitude"]
    by_first = reasons(FilterConfig(**band, height_above="first"), frames)
    assert by_first == ["altitude", "altitude", None, None]
    assert reasons(FilterConfig(**band, height_above="map"), frames) == ["altitude"] * 4


def test_while_recording_the_lowest_frame_yet_is_the_ground() -> None:
    frames = [(i * S, pose(z=z)) for i, z in enumerate((8.0, 0.0, 4.0, 6.0))]
    assert reasons(FilterConfig(min_height_m=5.0), frames) == ["altitude", "altitude", "altitude", None]


def test_static_is_judged_over_a_second_so_that_noise_is_no_speed() -> None:
    rng = np.random.default_rng(0)
    hover = [(i * S // 30, pose(0.02 * rng.standard_normal())) for i in range(60)]
    away = [(2 * S + i * S // 30, pose(5.0 * i / 30)) for i in range(90)]
    kept = reasons(FilterConfig(min_speed_mps=0.5), hover + away)
    assert set(kept[15:60]) == {"static"}
    assert set(kept[70:]) == {None}


def test_time_that_goes_back_does_not_end_in_a_division_by_zero() -> None:
    frames = [(5 * S, pose(0)), (4 * S, pose(9)), (4 * S, pose(9)), (6 * S, pose(29))]
    assert reasons(FilterConfig(min_speed_mps=1.0), frames) == [None] * 4


def test_frames_outside_the_flight_are_the_ground_phase() -> None:
    frames = [(i * S, pose(i)) for i in range(5)]
    kept = reasons(FilterConfig(), frames, airborne_ns=(S, 3 * S))
    assert kept == ["ground_phase", None, None, None, "ground_phase"]


@pytest.mark.parametrize("as_jpeg", [False, True])
def test_motion_blur_is_found_and_a_change_of_exposure_is_not(as_jpeg: bool) -> None:
    def sample(rgb: np.ndarray) -> ImageSample:
        if not as_jpeg:
            return raw(rgb)
        return ImageSample.from_compressed(0, "cam", cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes())

    chosen = FrameFilter(FilterConfig(min_sharpness=0.5))
    found = []
    for i in range(40):
        rgb = textured(i)
        if i in (12, 30):
            rgb = cv2.blur(rgb, (9, 1))
        if i >= 20:  # the sun comes out
            rgb = np.clip(40 + 0.6 * rgb, 0, 255).astype(np.uint8)
        refused = chosen.reason(i * S, pose(i), sample(rgb))
        found.append(refused and refused[0])
    assert [i for i, reason in enumerate(found) if reason] == [12, 30]
    assert set(found) == {None, "blurred"}


def test_a_place_seen_blurred_is_taken_with_the_next_sharp_image() -> None:
    chosen = FrameFilter(FilterConfig(min_move_m=1.0, min_sharpness=0.5))
    for i in range(6):
        assert chosen.reason(i * S, pose(i), raw(textured(i))) is None
    refused = chosen.reason(6 * S, pose(6), raw(cv2.blur(textured(6), (9, 1))))
    assert refused is not None
    assert refused[0] == "blurred"
    assert chosen.reason(7 * S, pose(6.1), raw(textured(7))) is None


@pytest.fixture
def ingest(tmp_path: Path):
    """Makes an ingest into a new colour dataset."""
    made = []

    def make(**filters) -> FrameIngest:
        meta = DatasetMeta(camera=Camera(WIDTH, HEIGHT, 40.0, 40.0, 31.5, 23.5))
        made.append(FrameIngest(tmp_path / "set", IngestSettings(resume=True, jobs=1)))
        made[-1].begin(meta, "flight", FrameFilter(FilterConfig(**filters)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def offered(ingest: FrameIngest, *frame) -> tuple[str, str]:
    """What becomes of a frame, and why."""
    outcome = [*ingest.offer(*frame), *ingest.settled(wait=True)][-1]
    return outcome.result, outcome.detail


def test_ingest_tells_what_became_of_each_frame(ingest, tmp_path: Path) -> None:
    line = ingest(min_move_m=1.0)
    image = raw(textured())
    assert offered(line, 1 * S, pose(0), image) == ("written", "")
    result, detail = offered(line, 2 * S, pose(0.5), image)
    assert (result, "0.500 m" in detail) == ("near_duplicate", True)
    assert offered(line, 3 * S, pose(2), image) == ("written", "")
    assert offered(line, 3 * S, pose(4), image)[0] == "duplicate_stamp"
    result, detail = offered(line, 4 * S, pose(6), raw(np.zeros((8, 8, 3), np.uint8)))
    assert (result, "8 x 8 pixels" in detail) == ("image_size", True)
    assert offered(line, 5 * S, np.full((4, 4), np.nan), image)[0] == "pose_invalid"
    assert offered(line, -1, pose(8), image)[0] == "stamp_invalid"
    cut = ImageSample(6 * S, "cam", "jpeg", b"\xff\xd8\xff", WIDTH, HEIGHT)
    assert offered(line, 6 * S, pose(10), cut)[0] == "image_unreadable"
    line.close()
    assert list(Dataset(tmp_path / "set").stamps_ns) == [1 * S, 3 * S]


def test_a_resumed_recording_is_filtered_as_if_it_had_not_been_interrupted(ingest) -> None:
    image = raw(textured())
    frames = [(i * S, pose(0.4 * i)) for i in range(9)]
    first = ingest(min_move_m=1.0)
    whole = [offered(first, *frame, image)[0] for frame in frames[:5]]
    first.close()
    again = ingest(min_move_m=1.0)
    resumed = [offered(again, *frame, image)[0] for frame in frames]
    assert resumed[:5] == [name.replace("written", "present") for name in whole]
    assert resumed[5:] == ["near_duplicate", "written", "near_duplicate", "near_duplicate"]


def test_depth_is_decoded_only_for_frames_that_are_kept(ingest) -> None:
    line, calls = ingest(min_height_m=5.0), []

    def depth() -> None:
        calls.append(1)
        raise UserError("damaged")

    image = raw(textured())
    offered(line, 0, pose(z=0.0), image)
    assert offered(line, 1 * S, pose(z=1.0), image, depth)[0] == "altitude"
    assert not calls
    assert offered(line, 2 * S, pose(z=20.0), image, depth)[0] == "depth_unreadable"
    assert calls


def test_a_disk_that_fills_up_at_the_last_frames_is_reported_after_those_that_were_written(tmp_path, monkeypatch):
    """Several threads encode: the failure comes when nothing more is offered, behind frames that are safe."""
    stage = DatasetWriter.stage

    def until_full(writer, stamp_ns, frame):
        if stamp_ns >= 4 * S:
            raise UserError("no space left")
        return stage(writer, stamp_ns, frame)

    monkeypatch.setattr(DatasetWriter, "stage", until_full)
    ingest, image = FrameIngest(tmp_path / "set", IngestSettings(jobs=8)), raw(textured())
    camera = Camera(WIDTH, HEIGHT, 40.0, 40.0, 31.5, 23.5)
    ingest.begin(DatasetMeta(camera), "flight", FrameFilter(FilterConfig()))
    written = []

    def offer_all() -> None:
        for i in range(6):
            written.extend(ingest.offer(i * S, pose(i), image))
        while outcomes := ingest.settled(wait=True):
            written.extend(outcomes)

    with pytest.raises(UserError, match="no space left"):
        offer_all()
    ingest.close()
    assert [(outcome.stamp_ns, outcome.result) for outcome in written] == [(i * S, "written") for i in range(4)]
    assert len(list((tmp_path / "set" / "rgb").iterdir())) == 4

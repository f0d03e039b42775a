"""The real drone video: its GoPro metadata against what was read of it before, and its dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose2rgbd_ros.convert.logs import gpmf
from pose2rgbd_ros.convert.logs.gpmf import read_gpmf
from pose2rgbd_ros.convert.settings import VideoSettings
from pose2rgbd_ros.convert.video import convert_videos
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.streams.video_file import VideoFile

# Fields of each stream, in the order of the columns of its table, after the times.
TABLES = {
    "GPRI": ("gps_raw_GPRI.csv", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    "GLPI": ("global_position_GLPI.csv", [1, 2, 3, 4, 5, 6, 7, 8]),
    "LNED": ("local_position_LNED.csv", [1, 2, 3, 4, 5, 6]),
    "ATTD": ("attitude_ATTD.csv", [1, 2, 3, 4, 5, 6]),
    "ACCL": ("camera_ACCL.csv", [0, 1, 2]),
    "GYRO": ("camera_GYRO.csv", [0, 1, 2]),
    "SYST": ("system_time_SYST.csv", [1]),
}


@pytest.fixture
def karma(real_data: Path) -> Path:
    return real_data / "karma_drone_video"


def table(karma: Path, name: str) -> np.ndarray:
    return np.loadtxt(karma / "telemetry_csv" / name, delimiter=",", skiprows=1)


@pytest.mark.parametrize("key", TABLES)
def test_gopro_metadata_hold_the_numbers_known_of_them(karma: Path, key: str) -> None:
    name, columns = TABLES[key]
    expected = table(karma, name)[:, -len(columns) :]
    parts = [
        stream.values
        for _, _, data in VideoFile(karma / "karma.mp4").metadata_payloads()
        for stream in gpmf.klv_streams(data)
        if stream.key == key and len(stream.values)
    ]
    found = np.concatenate(parts)[:, columns]
    assert found.shape == expected.shape
    # The tables have been rounded, to 5 digits at the worst.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=6e-6)


def test_the_video_alone_gives_a_dataset_in_enu(karma: Path, tmp_path: Path) -> None:
    report = convert_videos([karma / "karma.mp4"], tmp_path / "out", None, VideoSettings(image_height=120))
    dataset = Dataset(tmp_path / "out")
    assert len(dataset) == report.frames_written == 347
    assert set(report.rejects) == {"before_first_pose", "after_last_pose"}
    assert dataset.meta.datum is not None
    assert abs(dataset.meta.datum.latitude_deg - 33.12537) < 1e-4
    position = dataset.T_map_cam[:, :3, 3]
    assert np.linalg.norm(position[-1] - position[0]) == pytest.approx(80, abs=5)
    # By the drone's clock and SYST, as the bag made of this video has it: UTC to some milliseconds.
    assert abs(dataset.stamps_ns[0] / 1e9 - 1492457277.55) < 0.2
    # It looks where it flies, and the horizon is level.
    velocity = position[250] - position[220]
    looking, right = dataset.T_map_cam[235, :3, 2], dataset.T_map_cam[235, :3, 0]
    assert looking @ velocity / np.linalg.norm(velocity) > 0.95
    assert abs(right[2]) < 1e-6


@pytest.mark.slow
def test_a_track_of_its_own_beside_the_video(karma: Path, tmp_path: Path) -> None:
    """The telemetry as a GPX by the drone's clock: the flow of 5 s of acceleration says when the video was taken."""
    rows, system = table(karma, "global_position_GLPI.csv"), table(karma, "system_time_SYST.csv")
    utc_s = rows[:, 0] + np.median(system[:, 1] - system[:, 0])
    points = [
        f'<trkpt lat="{row[2]:.7f}" lon="{row[3]:.7f}"><ele>{row[4]}</ele>'
        f"<time>{np.datetime64(round(time * 1000), 'ms')!s}Z</time></trkpt>"
        for row, time in zip(rows, utc_s, strict=True)
    ]
    log = tmp_path / "track.gpx"
    log.write_text(f'<gpx version="1.1" creator="t"><trk><trkseg>{"".join(points)}</trkseg></trk></gpx>')
    beside = convert_videos(
        [karma / "karma.mp4", log], tmp_path / "out", None, VideoSettings(max_rate_hz=5.0, image_height=120)
    )
    assert beside.frames_written > 50
    poses = Dataset(tmp_path / "out").meta.poses
    assert poses is not None
    # The stamps count from the creation time; the flow finds what is missing to the drone's own clock, or the report
    # says that it does not.
    video = VideoFile(karma / "karma.mp4")
    inside = read_gpmf(video.metadata_payloads(), "karma.mp4")
    assert inside.utc_at_zero_ns is not None
    assert video.creation_ns is not None
    if poses.image_time_confidence is None:
        assert any("creation time, good to a second at best" in text for text in beside.warnings)
    else:
        missing_s = (inside.utc_at_zero_ns - video.creation_ns) / 1e9
        assert poses.image_time_offset_s == pytest.approx(missing_s, abs=0.2)

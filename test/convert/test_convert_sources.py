"""`pose2rgbd convert` finds out what its sources are, and refuses settings that mean nothing for them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.aerial import PhotoFacts, dji_xmp, nadir_pose, write_photo, write_video

from pose2rgbd_ros.cli import main as cli
from pose2rgbd_ros.convert.convert import BAG, LOG, PHOTOS, VIDEO, kind_of
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos in a subfolder."""
    folder = tmp_path / "survey" / "100MEDIA"
    folder.mkdir(parents=True)
    for i in range(2):
        facts = PhotoFacts(taken=f"2024:05:01 12:00:0{i}", place_enu_m=(5.0 * i, 0, 50), xmp=dji_xmp(0.0))
        write_photo(folder / f"{i}.jpg", np.full((60, 80, 3), 90, np.uint8), facts)
    return tmp_path / "survey"


def run(*arguments: object) -> int:
    return cli.main(["convert", *map(str, arguments)])


def test_kinds_of_sources(tmp_path: Path, photos: Path) -> None:
    for name in ("a.mp4", "a.MOV", "a.gpx", "a.CSV", "a.srt", "a.bag", "a.mcap", "a.db3", "anything"):
        (tmp_path / name).write_bytes(b"x")
    kinds = {name: kind_of(tmp_path / name) for name in ("a.mp4", "a.MOV", "a.gpx", "a.CSV", "a.srt")}
    assert kinds == {"a.mp4": VIDEO, "a.MOV": VIDEO, "a.gpx": LOG, "a.CSV": LOG, "a.srt": LOG}
    assert {kind_of(tmp_path / name) for name in ("a.bag", "a.mcap", "a.db3", "anything")} == {BAG}
    assert kind_of(photos) == kind_of(photos / "100MEDIA" / "0.jpg") == PHOTOS
    bag = tmp_path / "recording"
    bag.mkdir()
    (bag / "thumbnail.jpg").write_bytes((photos / "100MEDIA" / "0.jpg").read_bytes())
    (bag / "metadata.yaml").write_text("")
    assert kind_of(bag) == BAG
    clips = tmp_path / "clips"
    clips.mkdir()
    with pytest.raises(UserError, match="neither a recording"):
        kind_of(clips)
    (clips / "a.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match="holds videos; name the video file"):
        kind_of(clips)
    with pytest.raises(UserError, match="does not exist"):
        kind_of(tmp_path / "nothing")


def test_photos_on_the_command_line(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(photos, tmp_path / "out", "--photos.yaw-check", "off", "--fov-deg", "60") == 0
    assert "2 frames written" in capsys.readouterr().out
    assert len(Dataset(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--pose-topic", "/odom"), "--pose-topic means nothing for a source of kind photographs"),
        (("--video.clock", "log"), "--video.clock means nothing for a source of kind photographs"),
        (("--image-time-offset-s", "1"), "--image-time-offset-s means nothing for a source of kind photographs"),
    ],
)
def test_settings_of_another_kind_are_refused(
    tmp_path: Path, photos: Path, option: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(photos, tmp_path / "out", *option) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_within_another_is_not_read_twice(tmp_path: Path, photos: Path) -> None:
    assert run(photos, photos / "100MEDIA", tmp_path / "out", "--photos.yaw-check", "off") == 0
    assert [(source.name, source.frames) for source in Dataset(tmp_path / "out").meta.sources] == [("survey", 2)]


def test_pipes_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.gpx", "a.jpg"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(UserError, match="a device, a pipe or a socket"):
            kind_of(tmp_path / name)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_photos_without_any_position_are_refused_without_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photo(tmp_path / "a.jpg", np.full((60, 80, 3), 90, np.uint8), PhotoFacts(place_enu_m=None))
    assert run(tmp_path / "a.jpg", tmp_path / "out", "--datum", "47", "8", "400") != 0
    assert "a.jpg has no GPS position" in capsys.readouterr().err


def test_sources_of_two_kinds_are_refused(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "a.mp4", lambda time: nadir_pose(time, 0, 40, 0), 0.5)
    assert run(photos, tmp_path / "a.mp4", tmp_path / "out") != 0
    assert "several kinds (photographs, video)" in capsys.readouterr().err

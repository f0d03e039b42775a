"""`pose2rgbd doctor`: clean recordings are good, faults are named, and frames are those that converting writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import bag_faults
from support.aerial import PhotoFacts, dji_xmp, nadir_pose, view, write_photo, write_video
from support.bag_faults import FAULTS, Entry

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.photos import convert_photos
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.doctor.bag import BagLook
from pose2rgbd_ros.doctor.diagnosis import Diagnosis
from pose2rgbd_ros.doctor.doctor import examine
from pose2rgbd_ros.errors import UserError

# A small sample; bench/doctor.py has all, on other flights.
SOME = (
    *("images lost", "odometry stops for 3 s", "clock of the camera 0.4 s ahead", "all clocks set back by 3 s"),
    *("images stamped on reception", "no /tf_static", "CameraInfo of another shape", "motion blur in 4 of 10 images"),
    *("image frozen for 4 s", "GPS shifts by 25 m for 6 s", "quaternions not of unit length", "millimetres as metres"),
    *("depth of another shape", "cut off in the middle", "no index", "no images", "no messages", "two cameras"),
)


def diagnosis_of(path: Path) -> Diagnosis:
    ((diagnosis, _),) = examine([path])
    return diagnosis


def test_a_clean_flight_is_good(flight: Path) -> None:
    found = diagnosis_of(flight)
    assert [it for it in found.findings if it.severity != "note"] == []
    assert found.status == 0
    roles = {it.name: it.serves_as for it in found.streams}
    assert roles[bag_faults.IMAGE] == "images"
    assert (roles["/odom"], roles["/tf_static"], roles["/camera/depth/image"]) == ("poses", "mounts", "depth")
    assert all(not job.missing for job in found.jobs)
    assert f"next: pose2rgbd convert {flight} DATASET" in found.text()


@pytest.mark.parametrize("name", SOME)
def test_faults_are_named(name: str, entries: list[Entry], tmp_path: Path) -> None:
    (fault,) = (it for it in FAULTS if it.name == name)
    path = bag_faults.inject(fault, entries, tmp_path / "bag.mcap", seed=3)
    found = diagnosis_of(path)
    named = [it for it in found.findings if it.code in fault.codes and (fault.notes or it.severity != "note")]
    assert named, found.text()
    assert found.status == (0 if fault.notes else 2 if name in ("no images", "no messages") else 1)
    assert json.loads(json.dumps(found.to_dict()))["status"] == found.status
    assert all(figure == figure for it in found.findings for figure in it.figures.values())


@pytest.mark.parametrize("name", ["", "images lost", "odometry begins late", "depth lost"])
def test_frames_are_those_that_converting_writes(name: str, entries: list[Entry], tmp_path: Path) -> None:
    spoil = next((it.entries for it in FAULTS if it.name == name), lambda entries, rng: entries)
    path = bag_faults.write(tmp_path / "bag.mcap", spoil(entries, bag_faults.np.random.default_rng(0)))
    ((found, look),) = examine([path])
    report = convert([path], tmp_path / "dataset")
    assert isinstance(look, BagLook)
    assert look.rehearsal is not None
    assert found.expected is not None
    assert (found.expected.frames, found.expected.rejects) == (report.frames_written, report.rejects)
    assert look.rehearsal.stamps_ns.tolist() == Dataset(tmp_path / "dataset").stamps_ns.tolist()
    folders = [tmp_path / "dataset" / name for name in ("rgb", "depth")]
    written = sum(file.stat().st_size for folder in folders if folder.is_dir() for file in folder.iterdir())
    assert found.expected.bytes == pytest.approx(written, rel=0.1)


def test_json_page_and_exit_status(flight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(flight), "--json", "--page", str(tmp_path / "page")]) == 0
    (told,) = json.loads(capsys.readouterr().out)["result"]["recordings"]
    assert told["expected"]["frames"] > 100
    page = (tmp_path / "page" / "index.html").read_text()
    assert "pose2rgbd convert" in page
    assert sorted(path.name for path in (tmp_path / "page").iterdir() if path.suffix == ".png") == [
        *("pictures.png", "times.png", "way.png")
    ]
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"")
    assert main(["doctor", str(flight), str(broken)]) == 2
    assert "is empty" in capsys.readouterr().out
    assert main(["doctor", str(tmp_path / "nothing.bag")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_failed_conversion_names_the_doctor(
    entries: list[Entry], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bag_faults.write(tmp_path / "bag.mcap", bag_faults.without(entries, bag_faults.IMAGE, bag_faults.DEPTH))
    assert main(["convert", str(path), str(tmp_path / "out")]) == 2
    assert f"pose2rgbd doctor {path}" in capsys.readouterr().err


def test_options_hold_and_a_dataset_is_no_recording(flight: Path, tmp_path: Path) -> None:
    config = ConvertConfig(every=20, fix_topic="none")
    convert([flight], tmp_path / "dataset", config)
    ((found, _),) = examine([flight], config)
    assert found.expected is not None
    assert found.expected.frames == len(Dataset(tmp_path / "dataset"))
    assert found.next_command.endswith("DATASET --every 20 --fix-topic none")
    with pytest.raises(UserError, match="pose2rgbd inspect"):
        examine([tmp_path / "dataset"])


def test_photographs_are_rehearsed(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(6):
        T = nadir_pose(4.0 * i, 0.0, 40.0, 0.0)
        facts = PhotoFacts(
            taken=f"2024:05:01 12:00:{2 * i:02d}", place_enu_m=T[:3, 3], focal_35mm=28, xmp=dji_xmp(0.0, -90.0, 0.0)
        )
        write_photo(folder / f"DJI_{i:04d}.JPG", view(T, 160, 120, 124.0), facts)
    found = diagnosis_of(folder)
    report = convert_photos([folder], tmp_path / "out")
    assert found.expected is not None
    assert found.expected.frames == report.frames_written == 6
    assert found.kind == "photographs"


def test_a_video_without_a_log_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "flight.mp4"
    write_video(path, lambda t: nadir_pose(2.0 * t, 0.0, 40.0, 0.0), 3.0)
    found = diagnosis_of(path)
    assert [it.code for it in found.findings if it.severity == "problem"][:1] == ["no_log"]
    assert found.status == 1
    assert "--depth HOW" in found.text()


def test_the_real_recordings(real_data: Path) -> None:
    assert diagnosis_of(real_data / "rgbd_7scenes_bag_sqlite3").status == 0
    for name in ("husky_gps_odom_imu_ros1.bag", "uf_vehicle_gps_odom_ros2"):
        found = diagnosis_of(real_data / "rosbags" / name)
        assert (found.status, found.ranked[0].code) == (2, "no_images")
    karma = diagnosis_of(real_data / "karma_drone_video" / "karma_bag_sqlite3")
    assert {it.code for it in karma.findings if it.severity == "problem"} == {
        *("no_camera_info", "mount_assumed", "low_rate")
    }
    photos = diagnosis_of(real_data / "aerial_brighton_beach")
    assert (photos.status, photos.expected.frames if photos.expected else 0) == (0, 18)

"""Photographs with GPS: where they were taken, which way they look, when, with which camera, and which cannot be
used.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.aerial import DATUM, PhotoFacts, dji_xmp, nadir_pose, view, write_photo, xmp_packet

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.convert.photos import convert_photos
from pose2rgbd_ros.convert.settings import ConvertConfig, PhotoSettings
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.geodesy import gimbal_to_quat_map_cam
from pose2rgbd_ros.poses import camera_pose

WIDTH, HEIGHT, FOCAL = 240, 180, 160.0
AT_DATUM = (DATUM.latitude_deg, DATUM.longitude_deg, DATUM.altitude_m)
IN_ENU = ConvertConfig(datum=AT_DATUM)
UNCHECKED = PhotoSettings(yaw_check="off")
FOCAL_35MM = FOCAL / np.hypot(WIDTH, HEIGHT) * np.hypot(36, 24)


def plain(path: Path, value: int = 90, **facts: object) -> None:
    """A photo whose picture does not matter."""
    write_photo(path, np.full((HEIGHT, WIDTH, 3), value, np.uint8), PhotoFacts(**facts))  # type: ignore[arg-type]


def survey(
    folder: Path,
    turned: tuple[int, ...] = (),
    *,
    tags: Callable[[float, float], str] | None = None,
    rise_m: float = 0.0,
    climb_m: float = 0.0,
    view_yaw_deg: float = 0.0,
) -> list[np.ndarray]:
    """Two lines of four photos, 12 m apart, 50 m up; photos of `turned` are stored upside down. Their true poses.

    `tags`: the packet for a yaw and a height. `rise_m`: by how much more each recorded height is wrong. `climb_m`: by
    how much higher each really is. `view_yaw_deg`: by how much the pictures are turned against the recorded yaw.
    """
    folder.mkdir(exist_ok=True)
    tags = tags or (lambda yaw, up: dji_xmp(yaw, height_m=up))
    poses = []
    for i in range(8):
        line, along = divmod(i, 4)
        yaw = 30.0 + (180.0 if line else 0.0)
        way = 12.0 * (along if line == 0 else 3 - along) - 18.0
        east, north = np.sin(np.radians(30)) * way + line * 15.0, np.cos(np.radians(30)) * way - line * 8.0
        up = 50.0 + i * climb_m
        pose = nadir_pose(east, north, up, yaw)
        rgb = view(nadir_pose(east, north, up, yaw + view_yaw_deg), WIDTH, HEIGHT, FOCAL)
        if i in turned:
            rgb = np.ascontiguousarray(rgb[::-1, ::-1])
        place = pose[:3, 3] + [0.0, 0.0, i * rise_m]
        write_photo(
            folder / f"DJI_{i:04d}.JPG",
            rgb,
            PhotoFacts(
                taken=f"2024:05:01 12:00:{2 * i:02d}",
                place_enu_m=place,
                focal_35mm=round(FOCAL_35MM),
                xmp=tags(yaw, place[2]),
            ),
        )
        poses.append(pose)
    return poses


def pix4d_xmp(yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0, **more: object) -> str:
    """Pix4D's tags."""
    values = {"Yaw": yaw_deg, "Pitch": pitch_deg, "Roll": roll_deg, **more}
    return xmp_packet("http://pix4d.com/camera/1.0/", {f"c:{name}": value for name, value in values.items()}, "c")


def parrot_xmp(yaw_deg: float, pitch_deg: float, roll_deg: float = 0.0) -> str:
    """Parrot's own tags."""
    values = {"Yaw": yaw_deg, "Pitch": pitch_deg, "Roll": roll_deg}
    named = {f"p:Camera{name}Degree": value for name, value in values.items()}
    return xmp_packet("http://www.parrot.com/drone-parrot/1.0/", named, "p")


def test_lines_back_and_forth_are_a_good_survey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three seconds from photo to photo are enough to turn round and to fly to the next line."""
    for i in range(20):
        line, along = divmod(i, 5)
        way, yaw = (along, 0.0) if line % 2 == 0 else (4 - along, 180.0)
        place, taken = (15.0 * line, 12.0 * way, 50.0), f"2024:05:01 12:{3 * i // 60:02d}:{3 * i % 60:02d}"
        plain(tmp_path / f"{i:02d}.jpg", taken=taken, place_enu_m=place, focal_35mm=24, xmp=dji_xmp(yaw, height_m=50.0))
    assert main(["convert", str(tmp_path), str(tmp_path / "out"), "--photos.yaw-check", "off", "--strict"]) == 0
    assert main(["inspect", str(tmp_path / "out"), "--strict"]) == 0
    assert "warning:" not in capsys.readouterr().out


def test_photos_lie_where_and_look_where_they_say(tmp_path: Path) -> None:
    poses = survey(tmp_path / "photos")
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", IN_ENU)
    dataset = Dataset(tmp_path / "out")
    assert (report.frames_written, report.rejects) == (8, {})
    np.testing.assert_allclose(dataset.T_map_cam, poses, atol=2e-3)
    assert dataset.camera.fx == pytest.approx(FOCAL, rel=0.03)
    assert (dataset.path / dataset.records[0].rgb).read_bytes() == (tmp_path / "photos" / "DJI_0000.JPG").read_bytes()
    assert any("8 of 8 photos compared" in note for note in report.notes)
    assert not any("turned" in note for note in report.notes)
    assert not report.warnings


@pytest.mark.parametrize("turned", [(1, 4, 5), (0, 1, 2, 3, 4, 5, 6, 7)], ids=["some", "all"])
def test_photos_stored_half_a_turn_around_are_found_and_their_poses_turned(
    tmp_path: Path, turned: tuple[int, ...]
) -> None:
    poses = survey(tmp_path / "photos", turned)
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", IN_ENU)
    expected = [pose @ np.diag([-1.0, -1, 1, 1]) if i in turned else pose for i, pose in enumerate(poses)]
    np.testing.assert_allclose(Dataset(tmp_path / "out").T_map_cam, expected, atol=2e-3)
    (note,) = [note for note in report.notes if "yaw check" in note]
    assert f"in {len(turned)} the pixels are turned by 180 degrees" in note
    assert ", ".join(f"DJI_{i:04d}.JPG" for i in turned) in note


@pytest.mark.parametrize(("check", "said"), [("warn", "left as recorded"), ("off", "")])
def test_turned_photos_are_left_as_they_are_when_asked(tmp_path: Path, check: str, said: str) -> None:
    poses = survey(tmp_path / "photos", turned=(2,))
    settings = PhotoSettings(yaw_check=check)  # type: ignore[arg-type]
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", IN_ENU, settings)
    np.testing.assert_allclose(Dataset(tmp_path / "out").T_map_cam, poses, atol=2e-3)
    told = [text for text in report.warnings if "yaw check" in text]
    assert len(told) == bool(said)
    assert all(said in text for text in told)


@pytest.mark.parametrize(
    ("xmp", "expected"),
    [
        (dji_xmp(100.0, -30.0, 5.0), gimbal_to_quat_map_cam(100, -30, 5)),
        (
            xmp_packet("http://pix4d.com/camera/1.0/", {"c:Yaw": "10", "c:Pitch": "-80", "c:Roll": "1"}, "c"),
            gimbal_to_quat_map_cam(10, -80, 1),
        ),
        (
            xmp_packet(
                "http://ns.sensefly.com/sensefly/1.0/",
                {"s:Heading": "70", "s:PitchAngle": "4", "s:RollAngle": "0"},
                "s",
            ),
            # An aircraft whose nose is 4 degrees up looks ahead of itself by as much.
            gimbal_to_quat_map_cam(70, -86, 0),
        ),
        (xmp_packet("http://example.org/", {}, "e"), gimbal_to_quat_map_cam(90, -90, 0)),  # course: eastwards
    ],
    ids=["dji", "pix4d", "sensefly", "course"],
)
def test_orientation_comes_from_the_best_there_is(tmp_path: Path, xmp: str, expected: np.ndarray) -> None:
    for i in range(3):
        plain(tmp_path / f"{i}.jpg", taken=f"2024:05:01 12:00:0{i}", place_enu_m=(10.0 * i, 0, 50), xmp=xmp)
    convert_photos([tmp_path], tmp_path / "out", IN_ENU, UNCHECKED)
    pose = Dataset(tmp_path / "out").T_map_cam[1]
    np.testing.assert_allclose(pose, se3.make([10, 0, 50], expected), atol=2e-3)


def test_where_no_yaw_was_recorded_nothing_is_turned(tmp_path: Path) -> None:
    survey(tmp_path / "photos", turned=(2,), tags=lambda yaw, up: "")
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", IN_ENU)
    as_is = convert_photos([tmp_path / "photos"], tmp_path / "as_is", IN_ENU, UNCHECKED)
    poses = Dataset(tmp_path / "out").T_map_cam
    np.testing.assert_allclose(poses, Dataset(tmp_path / "as_is").T_map_cam, atol=1e-9)
    (warning,) = report.warnings
    assert "1 photo seem turned by some 180 degrees against the course over ground" in warning
    assert "(DJI_0002.JPG); their poses were left" in warning
    assert not as_is.warnings


def test_pixels_turned_by_less_than_half_a_turn_are_not_turned_but_warned_of(tmp_path: Path) -> None:
    poses = survey(tmp_path / "photos", view_yaw_deg=130.0)
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", IN_ENU)
    np.testing.assert_allclose(Dataset(tmp_path / "out").T_map_cam, poses, atol=2e-3)
    (warning,) = report.warnings
    assert re.search(r"pixels and poses differ by 1(29|30|31)\.\d degrees \(median\)", warning)
    assert re.search(r"most are turned by some -1(29|30|31) degrees", warning)


@pytest.mark.parametrize(
    ("tags", "warned"),
    [
        (lambda yaw, up: pix4d_xmp(yaw, 0.0), False),
        (lambda yaw, up: pix4d_xmp(yaw, -90.0), False),
        (lambda yaw, up: parrot_xmp(yaw, -90.0), False),
        (lambda yaw, up: parrot_xmp(yaw, 0.0), True),
    ],
    ids=["pix4d from nadir", "pix4d from horizon", "parrot from horizon", "parrot from nadir"],
)
def test_what_pitch_0_means_is_seen(tmp_path: Path, tags: Callable[[float, float], str], warned: bool) -> None:
    poses = survey(tmp_path / "photos", turned=(5,), tags=tags)
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", IN_ENU)
    poses[5] = poses[5] @ np.diag([-1.0, -1, 1, 1])
    np.testing.assert_allclose(Dataset(tmp_path / "out").T_map_cam, poses, atol=2e-3)
    assert any("8 of 8 photos compared" in note for note in report.notes)
    assert bool(report.warnings) == warned
    assert not warned or "pitch 0 is the horizon" in report.warnings[0]


def test_pictures_that_look_ahead_are_not_taken_for_ground(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(6):  # towards a wall, northwards
        pose = nadir_pose(0.0, 0.0, 90.0 - 8.0 * i, 0.0)
        facts = PhotoFacts(
            taken=f"2024:05:01 12:00:{2 * i:02d}",
            place_enu_m=(0, 8.0 * i, 20),
            focal_35mm=round(FOCAL_35MM),
            xmp=pix4d_xmp(0),
        )
        write_photo(photos / f"{i}.jpg", view(pose, WIDTH, HEIGHT, FOCAL), facts)
    report = convert_photos([photos], tmp_path / "out", IN_ENU)
    np.testing.assert_allclose(Dataset(tmp_path / "out").T_map_cam[:, :3, 2], [[0, 1, 0]] * 6, atol=1e-3)
    assert "but the pictures do not show the ground from above" in report.warnings[0]
    given = PhotoSettings(yaw_check="off", pitch_zero="nadir")
    report = convert_photos([photos], tmp_path / "given", IN_ENU, given)
    np.testing.assert_allclose(Dataset(tmp_path / "given").T_map_cam[:, :3, 2], [[0, 0, -1]] * 6, atol=1e-3)
    assert not report.warnings


@pytest.mark.parametrize(
    ("make", "xmp", "expected"),
    [
        ("Parrot", pix4d_xmp(70, 4, 9), (70, 4, 9)),  # a body that the camera hangs under: nose up is forwards
        ("DJI", pix4d_xmp(70, -4, 9), None),
        ("Parrot", pix4d_xmp(70, 90, 0), (70, 90, 0)),  # straight ahead
        ("Parrot", parrot_xmp(70, -4, 9), None),
    ],
    ids=["Sequoia", "make", "oblique", "Parrot"],
)
def test_without_pictures_the_tags_say_what_pitch_0_means(
    tmp_path: Path, make: str, xmp: str, expected: tuple[float, float, float] | None
) -> None:
    for i in range(2):
        plain(tmp_path / f"{i}.jpg", taken=f"2024:05:01 12:00:0{i}", place_enu_m=(9 * i, 0, 50), xmp=xmp, make=make)
    convert_photos([tmp_path], tmp_path / "out", IN_ENU, UNCHECKED)
    if expected is None:
        quat = gimbal_to_quat_map_cam(70, -4, 9)
    else:
        body = se3.make([0, 0, 0], gimbal_to_quat_map_cam(*expected)) @ se3.inverse(se3.T_BODY_OPTICAL)
        quat = quaternions.from_matrix((body @ camera_pose.T_NADIR)[:3, :3])
    np.testing.assert_allclose(Dataset(tmp_path / "out").T_map_cam[0], se3.make([0, 0, 50], quat), atol=2e-3)


def test_heights_that_drift_are_warned_of(tmp_path: Path) -> None:
    survey(tmp_path / "photos", rise_m=16.0)
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", IN_ENU)
    (warning,) = report.warnings
    assert re.search(r"heights drift: they change by (9[6-9]|1[01]\d|12[0-8]) m within (12|14) s", warning)


def test_a_climb_is_no_drift(tmp_path: Path) -> None:
    poses = survey(tmp_path / "photos", climb_m=6.0)
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", IN_ENU)
    np.testing.assert_allclose(Dataset(tmp_path / "out").T_map_cam, poses, atol=2e-3)
    assert any("8 of 8 photos compared" in note for note in report.notes)
    assert not report.warnings


def test_a_wall_passed_sideways_is_not_taken_for_ground(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(6):  # eastwards, looking north
        facts = PhotoFacts(
            taken=f"2024:05:01 12:00:{2 * i:02d}",
            place_enu_m=(8.0 * i, 0, 20),
            focal_35mm=round(FOCAL_35MM),
            xmp=parrot_xmp(0, 0),
        )
        write_photo(photos / f"{i}.jpg", view(nadir_pose(8.0 * i - 20, 0, 50.0, 0.0), WIDTH, HEIGHT, FOCAL), facts)
    report = convert_photos([photos], tmp_path / "out", IN_ENU)
    np.testing.assert_allclose(Dataset(tmp_path / "out").T_map_cam[:, :3, 2], [[0, 1, 0]] * 6, atol=1e-3)
    assert not report.warnings
    assert any("--photos.pitch-zero says otherwise" in note for note in report.notes)


def test_heights_that_part_from_the_barometer_are_warned_of(tmp_path: Path) -> None:
    survey(tmp_path / "photos", rise_m=3.0, tags=lambda yaw, up: dji_xmp(yaw))
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", IN_ENU, UNCHECKED)
    (warning,) = report.warnings
    assert "GPS heights and heights above take-off part by 21 m" in warning


def test_photos_of_one_second_follow_each_other_by_number(tmp_path: Path) -> None:
    for i, name in enumerate(("IMG_9.jpg", "IMG_10.jpg", "IMG_11.jpg")):
        plain(tmp_path / name, value=40 * i, place_enu_m=(5.0 * i, 0, 50))
    report = convert_photos([tmp_path], tmp_path / "out", IN_ENU, UNCHECKED)
    dataset = Dataset(tmp_path / "out")
    np.testing.assert_allclose(dataset.T_map_cam[:, 0, 3], [0, 5, 10], atol=2e-3)
    second = 1_714_564_800_000_000_000
    assert dataset.stamps_ns.tolist() == [second, second + 333_333_333, second + 666_666_666]
    assert any("3 photos share their second" in note for note in report.notes)


def test_heights_are_measured_from_the_lowest_of_all_photos(tmp_path: Path) -> None:
    for i, up_m in enumerate((60.0, 50.0, 5.0)):
        plain(tmp_path / f"{i}.jpg", taken=f"2024:05:01 12:00:0{i}", place_enu_m=(10.0 * i, 0, up_m))
    config = ConvertConfig(datum=AT_DATUM, max_height_m=50.0)
    report = convert_photos([tmp_path], tmp_path / "out", config, UNCHECKED)
    assert report.rejects == {"altitude": 1}
    np.testing.assert_allclose(Dataset(tmp_path / "out").T_map_cam[:, 2, 3], [50, 5], atol=2e-3)


def test_poses_of_a_file_do_not_go_to_two_photos_of_one_name(tmp_path: Path) -> None:
    for i, folder in enumerate(("100MEDIA", "101MEDIA")):
        (tmp_path / folder).mkdir()
        plain(tmp_path / folder / "DJI_0001.jpg", taken=f"2024:05:01 12:00:0{i}")
    (tmp_path / "poses.csv").write_text("DJI_0001.jpg,0,0,50,1,0,0,0\n")
    with pytest.raises(UserError, match=r"DJI_0001\.jpg, but 2 photos have this name"):
        convert_photos([tmp_path], tmp_path / "out", IN_ENU, PhotoSettings(poses=tmp_path / "poses.csv"))


def test_fractions_of_seconds_and_zones_count(tmp_path: Path) -> None:
    plain(tmp_path / "a.jpg", subsec="25", zone="+02:00")
    plain(tmp_path / "b.jpg", subsec="75", zone="+02:00", place_enu_m=(5, 0, 50))
    report = convert_photos([tmp_path], tmp_path / "out", IN_ENU, UNCHECKED)
    second = 1_714_564_800_000_000_000 - 7200 * 10**9
    assert Dataset(tmp_path / "out").stamps_ns.tolist() == [second + 250_000_000, second + 750_000_000]
    assert not any("zone" in note for note in report.notes)


def test_photos_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    down = dji_xmp(0.0)
    for i in range(4):
        place = (5.0 * i, 0, 50)
        plain(photos / f"photo{i}.jpg", taken=f"2024:05:01 12:00:0{i}", place_enu_m=place, xmp=down)
    whole = (photos / "photo3.jpg").read_bytes()
    (photos / "photo3.jpg").write_bytes(whole[:-300])
    plain(photos / "nowhere.jpg", taken="2024:05:01 12:01:00", place_enu_m=None, xmp=down)
    plain(photos / "never.jpg", taken=None, xmp=down)
    pano = xmp_packet("http://ns.google.com/photos/1.0/panorama/", {"p:ProjectionType": "equirectangular"}, "p")
    plain(photos / "pano.jpg", taken="2024:05:01 12:02:00", xmp=pano)
    small = PhotoFacts(taken="2024:05:01 12:03:00", xmp=down)
    write_photo(photos / "small.jpg", np.zeros((90, 120, 3), np.uint8), small)
    (photos / "text.jpg").write_text("not a photo")
    (photos / "._photo0.jpg").write_bytes(b"what macOS leaves behind")
    report = convert_photos([photos], tmp_path / "out", IN_ENU, UNCHECKED)
    assert report.frames_written == 3
    once = dict.fromkeys(("no_time", "no_position", "panorama", "image_size"), 1)
    assert report.rejects == {"image_unreadable": 2, **once}
    assert sum(part.images for part in report.bags) == 9


def test_poses_of_a_file_replace_those_of_the_photos(tmp_path: Path) -> None:
    for name in "ab":
        plain(tmp_path / f"{name}.jpg", taken=f"2024:05:01 12:00:0{ord(name) % 8}", place_enu_m=None)
    poses = tmp_path / "poses.csv"
    poses.write_text("file,east_m,north_m,up_m,qx,qy,qz,qw\na.jpg,1,2,3,1,0,0,0\n")
    report = convert_photos([tmp_path], tmp_path / "out", IN_ENU, PhotoSettings(poses=poses))
    np.testing.assert_allclose(Dataset(tmp_path / "out").T_map_cam, [se3.make([1, 2, 3], [1, 0, 0, 0])])
    assert report.rejects == {"not_in_pose_file": 1}
    poses.write_text("file,east_m,north_m,up_m,qx,qy,qz,qw\na.jpg,1,2,3,1,zero,0,0\n")
    with pytest.raises(UserError, match=r"poses\.csv:2: .* is no pose; expected name,x,y,z,qx,qy,qz,qw"):
        convert_photos([tmp_path], tmp_path / "other", IN_ENU, PhotoSettings(poses=poses))


def test_heights_above_take_off_when_asked(tmp_path: Path) -> None:
    for i in range(2):
        plain(
            tmp_path / f"{i}.jpg",
            taken=f"2024:05:01 12:00:0{i}",
            place_enu_m=(5 * i, 0, 80),
            xmp=dji_xmp(0.0, height_m=50.0),
        )
    convert_photos([tmp_path], tmp_path / "out", ConvertConfig(altitude="relative"), UNCHECKED)
    dataset = Dataset(tmp_path / "out")
    np.testing.assert_allclose(dataset.T_map_cam[:, 2, 3], 50.0, atol=1e-3)
    assert dataset.meta.datum is not None
    assert dataset.meta.datum.altitude_m == pytest.approx(DATUM.altitude_m + 30.0, abs=0.01)


@pytest.mark.parametrize(
    ("facts", "options", "focal"),
    [
        ({"focal_mm": 8.8, "focal_35mm": None}, PhotoSettings(yaw_check="off", sensor_width_mm=13.2), 160.0),
        ({"focal_35mm": 24}, UNCHECKED, 24 / np.hypot(36, 24) * np.hypot(WIDTH, HEIGHT)),
        ({"focal_35mm": None}, UNCHECKED, 0.0),
        ({"focal_35mm": None, "exif_width": 4000, "xmp": dji_xmp(0.0, CalibratedFocalLength="3000")}, UNCHECKED, 180.0),
    ],
    ids=["sensor width", "35 mm", "unknown", "calibrated"],
)
def test_focal_length_of_files_that_were_made_smaller(
    tmp_path: Path, facts: dict[str, object], options: PhotoSettings, focal: float
) -> None:
    for i in range(2):
        plain(tmp_path / f"{i}.jpg", taken=f"2024:05:01 12:00:0{i}", place_enu_m=(5 * i, 0, 50), **facts)
    convert_photos([tmp_path], tmp_path / "out", IN_ENU, options)
    assert Dataset(tmp_path / "out").camera.fx == pytest.approx(focal, rel=1e-6)


PER_MM = 1280 / 4.8
SEQUOIA = {"focal_mm": 3.98, "focal_35mm": None, "exif_width": 1280}


@pytest.mark.parametrize(
    ("facts", "focal", "said"),
    [
        ({"plane_px_per_unit": PER_MM * 25.4, "plane_unit": 2}, 199.0, ""),
        ({"plane_px_per_unit": PER_MM * 25.4}, 199.0, ""),
        ({"plane_px_per_unit": PER_MM * 10, "plane_unit": 3}, 199.0, ""),
        ({"plane_px_per_unit": PER_MM, "plane_unit": 4}, 199.0, ""),
        ({"plane_px_per_unit": PER_MM / 1000, "plane_unit": 5}, 199.0, ""),
        ({"plane_px_per_unit": PER_MM, "plane_unit": 1}, 199.0, ""),
        ({"plane_px_per_unit": PER_MM, "plane_unit": 2}, 199.0, "173 degrees by 3.98 mm by EXIF, sensor 121.92 mm"),
        ({"plane_px_per_unit": PER_MM, "plane_unit": 2, "focal_35mm": 30}, 208.0, "which is used"),
        ({"plane_px_per_unit": PER_MM * 2, "plane_unit": 4, "focal_35mm": 30}, 398.0, "34 degrees by 3.98 mm"),
        ({"plane_px_per_unit": PER_MM, "plane_unit": 4, "focal_35mm": 30}, 199.0, ""),
        ({"focal_35mm": 1}, 0.0, "not believed, so the camera is uncalibrated"),
        ({"plane_px_per_unit": 0.0, "plane_unit": 4}, 0.0, ""),
        ({"plane_px_per_unit": PER_MM, "plane_unit": 4, "exif_width": 960, "exif_height": 1280}, 199.0, ""),
        (
            {"plane_px_per_unit": PER_MM, "plane_unit": 4, "xmp": pix4d_xmp(0, PerspectiveFocalLength="4.2")},
            210.0,
            "",
        ),
        (
            {
                "focal_35mm": 30,
                "plane_px_per_unit": PER_MM * 2,
                "plane_unit": 4,
                "xmp": pix4d_xmp(0, PerspectiveFocalLength="1061.3", PerspectiveFocalLengthUnits="px"),
            },
            1061.3 / 1280 * WIDTH,
            "34 degrees by 3.98 mm",
        ),
        ({"focal_35mm": 30, "xmp": pix4d_xmp(0, ModelType="fisheye")}, 208.0, "fisheye"),
        (
            {
                "focal_35mm": 30,
                "plane_px_per_unit": PER_MM,
                "plane_unit": 4,
                "xmp": dji_xmp(0.0, CalibratedFocalLength="3000"),
            },
            199.0,
            "24 degrees by the maker's calibrated 3000 px",
        ),
    ],
    ids=[
        *("inch", "no unit is inch", "cm", "mm", "um", "unit 1", "wrong unit", "wrong unit and film", "other crop"),
        *("film agrees", "nonsense", "zero", "turned upright", "calibrated mm", "calibrated px", "fisheye",
          "two against one"),
    ],
)  # fmt: skip
def test_focal_length_by_the_focal_plane(tmp_path: Path, facts: dict[str, object], focal: float, said: str) -> None:
    for i in range(2):
        place, taken = (5 * i, 0, 50), f"2024:05:01 12:00:0{i}"
        plain(tmp_path / f"{i}.jpg", taken=taken, place_enu_m=place, **{**SEQUOIA, **facts})
    report = convert_photos([tmp_path], tmp_path / "out", IN_ENU, UNCHECKED)
    assert Dataset(tmp_path / "out").camera.fx == pytest.approx(focal, rel=2e-3)
    of_lens = [text for text in report.warnings if not text.startswith("the camera is not calibrated")]
    assert len(of_lens) == bool(said)
    assert all(said in warning for warning in of_lens)
    assert len(report.warnings) - len(of_lens) == (focal == 0.0)


def test_photos_of_another_zoom_or_size_do_not_join(tmp_path: Path) -> None:
    for i in range(4):
        focal = 48 if i == 2 else 24
        plain(tmp_path / f"{i}.jpg", taken=f"2024:05:01 12:00:0{i}", place_enu_m=(5 * i, 0, 50), focal_35mm=focal)
    report = convert_photos([tmp_path], tmp_path / "out", IN_ENU, UNCHECKED)
    assert (report.frames_written, report.rejects) == (3, {"focal_length": 1})
    others = tmp_path / "others"
    others.mkdir()
    for i in range(2):
        plain(others / f"{i}.jpg", taken=f"2024:05:01 13:00:0{i}", place_enu_m=(5 * i, 0, 50), focal_35mm=35)
    with pytest.raises(UserError, match="recorded with another camera"):
        convert_photos([others], tmp_path / "out", ConvertConfig(resume=True), UNCHECKED)
    assert len(Dataset(tmp_path / "out")) == 3


def test_more_photos_join_a_dataset(tmp_path: Path) -> None:
    poses = survey(tmp_path / "photos")
    some = tmp_path / "some"
    some.mkdir()
    for path in sorted((tmp_path / "photos").iterdir())[:5]:
        shutil.copy(path, some)
    convert_photos([some], tmp_path / "out", IN_ENU)
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", ConvertConfig(resume=True))
    assert (report.frames_written, report.frames_already_there) == (3, 5)
    np.testing.assert_allclose(Dataset(tmp_path / "out").T_map_cam, poses, atol=2e-3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ConvertConfig(orientation="imu"), "--orientation imu is not for photographs"),
        (ConvertConfig(orientation="gimbal"), "no photo has the angles of its gimbal"),
        (ConvertConfig(altitude="relative"), "no photo has its height above take-off"),
    ],
)
def test_what_the_photos_lack_is_said(tmp_path: Path, config: ConvertConfig, message: str) -> None:
    plain(tmp_path / "a.jpg")
    plain(tmp_path / "b.jpg", taken="2024:05:01 12:00:09", place_enu_m=(9, 0, 50))
    with pytest.raises(UserError, match=message):
        convert_photos([tmp_path], tmp_path / "out", config, UNCHECKED)


def test_photos_without_gps_are_refused_in_a_line(tmp_path: Path) -> None:
    plain(tmp_path / "a.jpg", place_enu_m=None)
    with pytest.raises(UserError, match=r"none of 1 photo has a GPS position; --photos\.poses gives their poses"):
        convert_photos([tmp_path], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no photo"):
        convert_photos([tmp_path / "empty"], tmp_path / "other")

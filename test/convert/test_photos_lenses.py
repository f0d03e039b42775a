"""Photographs of several lenses, sizes and orientations end in frames of one camera, or are refused with the reason."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from support.aerial import DATUM, PhotoFacts, dji_xmp, nadir_pose, view, write_photo

from pose2rgbd_ros.convert.photos import convert_photos
from pose2rgbd_ros.convert.settings import ConvertConfig, PhotoSettings
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.geometry.arrays import UInt8

IN_ENU = ConvertConfig(datum=(DATUM.latitude_deg, DATUM.longitude_deg, DATUM.altitude_m))


def photo(
    folder: Path, number: int, width: int = 240, height: int = 180, focal_px: float = 160.0, serial: str | None = None
) -> None:
    """One of a line of photographs straight down."""
    folder.mkdir(exist_ok=True)
    place = (4.0 * number - 16.0, 3.0, 50.0)
    facts = PhotoFacts(
        taken=f"2024:05:01 12:00:{number:02d}", place_enu_m=place, focal_35mm=None, xmp=dji_xmp(30.0),
        focal_mm=focal_px, plane_px_per_unit=1.0, plane_unit=4, exif_width=width, exif_height=height,
        serial=serial,
    )  # fmt: skip
    write_photo(folder / f"{number}.jpg", view(nadir_pose(*place, 30.0), width, height, focal_px), facts)


def seen(dataset: Dataset, index: int) -> UInt8:
    """What the dataset's camera sees at a frame's pose."""
    camera = dataset.camera
    return np.asarray(view(dataset.T_map_cam[index], camera.width, camera.height, camera.fx), np.uint8)


def test_photographs_of_other_lenses_are_seen_by_one_camera(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for i in range(4):
        photo(photos, i)
    photo(photos, 4, 180, 240)  # held upright
    photo(photos, 5, 320, 240, 176.0)  # wider and finer
    photo(photos, 6, 240, 180, 200.0)  # zoomed in
    photo(photos, 7, 120, 90, 80.0)  # made smaller
    report = convert_photos([photos], out, IN_ENU, PhotoSettings(yaw_check="off"))
    assert report.rejects == {"focal_length": 1, "image_size": 1}
    assert any("sees less than the camera of most photos" in run.example for run in report.bags[0].rejected)
    assert any("is coarser than most photos" in run.example for run in report.bags[0].rejected)
    (said,) = (note for note in report.notes if "lenses" in note)
    assert "4 photos as they are" in said
    assert "1 photo turned by 90 degrees and resampled" in said
    dataset = Dataset(out)
    assert (len(dataset), dataset.camera.width, dataset.camera.fx) == (6, 240, pytest.approx(160.0))
    for i in range(6):
        blurred = [cv2.GaussianBlur(each, (0, 0), 3).astype(float) for each in (dataset.rgb(i), seen(dataset, i))]
        assert np.abs(blurred[0] - blurred[1]).mean() < 1.2, i
    assert (out / dataset.records[0].rgb).read_bytes() == (photos / "0.jpg").read_bytes()
    lenses = layout.read_lenses(out)
    assert [lenses[stamp] == lenses[int(dataset.stamps_ns[0])] for stamp in dataset.stamps_ns.tolist()] == [
        *[True] * 4, False, False,
    ]  # fmt: skip
    assert len(set(lenses.values())) == 3


def test_cameras_of_one_kind_are_told_from_each_other(tmp_path: Path) -> None:
    """Two of a model take the same pictures, but have lenses of their own."""
    for i in range(4):
        photo(tmp_path / "photos", i, serial="ab"[i % 2])
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", IN_ENU, PhotoSettings(yaw_check="off"))
    assert report.frames_written == 4
    assert [name.split()[2] for _, name in sorted(layout.read_lenses(tmp_path / "out").items())] == list("abab")


def test_an_unknown_lens_joins_no_other(tmp_path: Path) -> None:
    for i in range(3):
        photo(tmp_path / "photos", i)
    facts = PhotoFacts(taken="2024:05:01 12:01:00", focal_35mm=None, xmp=dji_xmp(0.0), make="Other")
    write_photo(tmp_path / "photos" / "x.jpg", np.zeros((180, 240, 3), np.uint8), facts)
    report = convert_photos([tmp_path / "photos"], tmp_path / "out", IN_ENU, PhotoSettings(yaw_check="off"))
    assert (report.frames_written, report.rejects) == (3, {"focal_length": 1})
    assert not (tmp_path / "out" / layout.LENSES).exists()

"""Photographs as people have them, by the command line: aligned while they are converted, and more of them later."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.aerial import PhotoFacts, dji_xmp, write_photo
from support.photographs import FRAMES, write_photographs

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.cli.run import RunConfig, Steps, _convert
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sfm.align import is_aligned, recorded_dataset
from pose2rgbd_ros.sfm.reconstruct import AlignSettings, FeatureDatabase

FIRST = 16


def decode(jpeg: bytes) -> np.ndarray:
    """RGB (H, W, 3)."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def matched_pairs(folder: Path) -> dict[int, bytes]:
    """The verified matches that are kept, by pair of images."""
    (file,) = folder.glob(".cache/sfm/*/database.db")
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        return dict(connection.execute("SELECT pair_id, data FROM two_view_geometries").fetchall())


@pytest.fixture(scope="module")
def first(truth: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of photographs and of the dataset, aligned."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(truth, folder / "photos", range(FIRST))
    assert main(["convert", str(folder / "photos"), str(folder / "dataset"), "--align"]) == 0
    return folder / "photos", folder / "dataset"


def test_photographs_are_aligned_as_they_are_converted(first: tuple[Path, Path], truth: Dataset) -> None:
    found = Dataset(first[1])
    assert len(found) == FIRST
    assert found.meta.poses is not None
    assert found.meta.poses.position == "sfm, placed by gps"
    assert (first[1] / "align" / "report.html").is_file()
    offset_m = np.linalg.norm(recorded_dataset(first[1]).T_map_cam[:, :3, 3] - found.T_map_cam[:, :3, 3], axis=1)
    assert 0.3 < np.median(offset_m) < 4  # the positions were off by 1 m along each axis


def test_more_photographs_cost_only_themselves(
    first: tuple[Path, Path], truth: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, folder = first
    before = matched_pairs(folder)
    write_photographs(truth, photos, range(FIRST, FRAMES))
    assert main(["convert", str(photos), str(folder), "--resume", "--align"]) == 0
    said = capsys.readouterr().out
    assert f"{FRAMES - FIRST} frames written ({FIRST} more were there)" in said
    assert f"{FRAMES} of {FRAMES} frames aligned" in said
    after = matched_pairs(folder)
    assert {pair: after[pair] for pair in before} == before
    assert len(after) > len(before)
    assert len(recorded_dataset(folder)) == FRAMES


def test_what_is_converted_again_has_its_recorded_poses(
    first: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    photos, folder = first
    meta = recorded_dataset(folder).meta
    with pytest.raises(UserError, match="was aligned; frames can be added to its recorded poses only"):
        DatasetWriter(folder, meta, resume=True)
    assert len(Dataset(folder)) == FRAMES
    assert main(["convert", str(photos), str(folder), "--resume"]) == 0
    assert "was aligned and has its recorded poses again" in capsys.readouterr().out
    assert not is_aligned(folder)


def test_photographs_that_cannot_be_aligned_are_converted_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for i in range(4):
        noise = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
        facts = PhotoFacts(taken=f"2024:05:01 12:00:{i:02d}", place_enu_m=(5.0 * i, 0, 50), xmp=dji_xmp(0.0))
        write_photo(tmp_path / f"{i}.jpg", noise, facts)
    assert main(["convert", str(tmp_path), str(tmp_path / "out"), "--align", "--strict"]) == 1
    said = capsys.readouterr()
    assert "aligning 4 images, 6 pairs: about 1 min" in said.out
    assert "warning: not aligned" in said.out
    assert "out is kept" in said.err
    assert len(Dataset(tmp_path / "out")) == 4


def test_run_keeps_the_features_of_photographs_when_more_are_added(tmp_path: Path) -> None:
    def convert(count: int) -> None:
        for i in range(count):
            facts = PhotoFacts(taken=f"2024:05:01 12:00:{i:02d}", place_enu_m=(5.0 * i, 0, 50), xmp=dji_xmp(0.0))
            write_photo(tmp_path / "photos" / f"{i}.jpg", np.full((90, 120, 3), 20 * i, np.uint8), facts)
        _convert(Steps(tmp_path / "out", False), [tmp_path / "photos"], tmp_path / "out" / "dataset", RunConfig())

    (tmp_path / "photos").mkdir()
    convert(3)
    kept = tmp_path / "out" / "dataset" / ".cache" / "sfm" / "key" / "database.db"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"features")
    convert(5)
    assert len(Dataset(tmp_path / "out" / "dataset")) == 5
    assert kept.read_bytes() == b"features"


def test_features_of_other_images_of_these_names_are_forgotten(tmp_path: Path) -> None:
    names, camera = ["a.jpg", "b.jpg"], Camera.from_fov(64, 48, 60)
    for name in names:
        (tmp_path / name).write_bytes(b"one image")
    file = tmp_path / "cache" / "database.db"

    def is_kept(count: int = 2, camera: Camera = camera) -> bool:
        FeatureDatabase(file, tmp_path, names[:count], np.arange(count), camera, AlignSettings())
        kept = file.is_file()
        file.write_bytes(b"features")
        return kept

    is_kept(1)
    assert is_kept()
    assert is_kept(1)
    (tmp_path / "b.jpg").write_bytes(b"another image")
    assert is_kept(1)
    assert not is_kept()
    assert is_kept()
    assert not is_kept(camera=Camera.from_fov(64, 48, 50))


@pytest.mark.slow
def test_each_lens_has_its_own_focal_length_and_its_images_are_resampled(truth: Dataset, tmp_path: Path) -> None:
    """Two cameras of one kind, of which one sees 5 % less than its tags say."""
    photos, folder = tmp_path / "photos", tmp_path / "dataset"
    write_photographs(truth, photos, range(0, FIRST, 2), sigma_m=0.3, serial="a")
    write_photographs(truth, photos, range(1, FIRST - 2, 2), sigma_m=0.3, serial="b", zoom=1.05)
    assert main(["convert", str(photos), str(folder)]) == 0
    before = {path.name: path.read_bytes() for path in (folder / "rgb").iterdir()}
    assert main(["align", str(folder), "--focal-sigma", "1"]) == 0
    found = Dataset(folder)
    assert len(found) == FIRST - 1
    assert found.camera.fx == pytest.approx(truth.camera.fx, rel=0.01)
    assert sorted(path.name for path in (folder / "recorded" / "rgb").iterdir()) == sorted(before)[1::2]
    inner = (slice(20, -20), slice(20, -20))  # at the edge there is nothing to be seen of the narrower view
    for i, stamp_ns in enumerate(found.stamps_ns.tolist()):
        exact = cv2.blur(truth.rgb(i), (3, 3)).astype(float)[inner]
        off, off_before = (
            np.abs(cv2.blur(each, (3, 3))[inner] - exact).mean()
            for each in (found.rgb(i), decode(before[f"{stamp_ns}.jpg"]))
        )
        assert (off < 0.3 * off_before) if i % 2 else (off == off_before)
    assert main(["align", str(folder), "--restore"]) == 0
    assert {path.name: path.read_bytes() for path in (folder / "rgb").iterdir()} == before


@pytest.mark.slow
def test_photographs_straight_down_keep_the_focal_length_of_their_tags(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Left free it comes out at 700 pixels (README of the data)."""
    photos = real_data / "aerial_brighton_beach" / "images"
    assert main(["convert", str(photos), str(tmp_path / "out"), "--align"]) == 0
    assert "the recorded one is kept" in capsys.readouterr().out
    found = Dataset(tmp_path / "out")
    assert len(found) == 18
    assert found.camera.fx == pytest.approx(591.7, abs=0.5)

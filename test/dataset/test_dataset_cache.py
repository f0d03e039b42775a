"""The frame cache: right pixels, the right camera for them, and never a stale or half-built one."""

from __future__ import annotations

import os
import shutil

import cv2
import numpy as np
import pytest

from pose2rgbd_ros.dataset.reader import Dataset, frame_cache
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import resize_depth


def folders(path):
    return sorted(p.name for p in (path / ".cache").iterdir() if p.is_dir())


def test_frames_are_resized_in_order(toy, make_dataset):
    dataset = Dataset(make_dataset(6))
    cache = frame_cache(dataset, 8)
    assert len(cache) == 6
    assert cache.rgb.dtype == np.uint8
    assert cache.depth.dtype == np.float32
    for i in range(6):
        np.testing.assert_array_equal(cache.rgb[i], cv2.resize(dataset.rgb(i), (8, 8), interpolation=cv2.INTER_AREA))
        np.testing.assert_array_equal(cache.depth[i], resize_depth(dataset.depth(i), 8, 8))
    with pytest.raises(ValueError, match="read-only"):
        cache.rgb[0] = 0


def test_unknown_depth_stays_unknown(toy, make_dataset):
    cache = frame_cache(Dataset(make_dataset(2)), 24, "crop")
    assert np.isfinite(cache.depth).all(), "the unknown column lies outside the centre square"
    cache = frame_cache(Dataset(make_dataset(2, name="other")), 32)
    assert np.isnan(cache.depth[:, :, 0]).all()
    assert np.isfinite(cache.depth[:, :, 1:]).all()


@pytest.mark.parametrize("fit", ["square", "crop"])
def test_the_camera_fits_the_pixels(tmp_path, toy, fit):
    """A bright spot where a point projects to in the stored image is where it projects to in the cached one."""
    camera = Camera(320, 240, 300.0, 310.0, 150.0, 118.0)
    point = np.array([0.1, -0.12, 1.3])
    u, v = camera.project(point)
    y, x = np.mgrid[:240, :320]
    spot = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 9.0**2))
    image = np.repeat((255 * spot).astype(np.uint8)[..., None], 3, axis=2)
    with DatasetWriter(tmp_path / "set", toy.meta(None, camera=camera)) as writer:
        writer.add(toy.stamp(0), toy.pose(toy.stamp(0)), image)
    cache = frame_cache(Dataset(tmp_path / "set"), 64, fit)
    weight = cache.rgb[0, ..., 0].astype(float)
    y, x = np.mgrid[:64, :64]
    centre = [(weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()]
    np.testing.assert_allclose(cache.camera.project(point), centre, atol=0.05)
    assert (cache.camera.width, cache.camera.height) == (64, 64)
    ratio = cache.camera.fx / cache.camera.fy
    assert ratio == pytest.approx(300 / 310 * (1 if fit == "crop" else 0.75))


def test_depth_of_another_size_covers_the_same_view(tmp_path, toy):
    half = np.zeros((12, 16), np.float32)
    half[:, 8:] = 3.0
    half[:, :8] = 2.0
    with DatasetWriter(tmp_path / "set", toy.meta()) as writer:
        writer.add(toy.stamp(0), toy.pose(toy.stamp(0)), toy.rgb(0), half)
    cache = frame_cache(Dataset(tmp_path / "set"), 12, "crop")
    np.testing.assert_allclose(cache.depth[0], np.where(np.arange(12) < 6, 2.0, 3.0)[None].repeat(12, axis=0))


def test_it_is_built_once_and_again_when_the_dataset_changes(toy, make_dataset):
    path = make_dataset(4)
    frame_cache(Dataset(path), 8)
    first = folders(path)
    (built,) = (path / ".cache").glob("*/rgb.u8")
    then = built.stat().st_mtime_ns
    frame_cache(Dataset(path), 8)
    assert built.stat().st_mtime_ns == then

    with DatasetWriter(path, toy.meta(), resume=True) as writer:
        t = toy.stamp(4)
        writer.add(t, toy.pose(t), toy.rgb(t), toy.depth_sample(t))
    cache = frame_cache(Dataset(path), 8)
    assert len(cache) == 5
    assert len(folders(path)) == 1, "the stale one is gone"
    assert folders(path) != first

    cv2.imwrite(str(path / Dataset(path).records[0].rgb), np.zeros((24, 32, 3), np.uint8))
    assert not frame_cache(Dataset(path), 8).rgb[0].any()

    frame_cache(Dataset(path), 8, "crop")
    frame_cache(Dataset(path), 4)
    assert len(folders(path)) == 3, "other sizes and fits live side by side"


def test_a_half_built_cache_is_built_again(make_dataset):
    path = make_dataset(4)
    expected = frame_cache(Dataset(path), 8).rgb.copy()
    (folder,) = (p for p in (path / ".cache").iterdir() if p.is_dir())
    (folder / "done.json").unlink()
    (folder / "rgb.u8").write_bytes(b"\0" * 10)
    np.testing.assert_array_equal(frame_cache(Dataset(path), 8).rgb, expected)


def test_a_deleted_cache_is_no_loss(make_dataset):
    path = make_dataset(3)
    expected = frame_cache(Dataset(path), 8).rgb.copy()
    shutil.rmtree(path / ".cache")
    np.testing.assert_array_equal(frame_cache(Dataset(path), 8).rgb, expected)
    (images,) = (path / ".cache").glob("*/rgb.u8")
    images.unlink()
    np.testing.assert_array_equal(frame_cache(Dataset(path), 8).rgb, expected)
    (depths,) = (path / ".cache").glob("*/depth.f32")
    os.truncate(depths, 100)
    assert np.isfinite(frame_cache(Dataset(path), 8).depth).any()


def test_processes_that_build_at_once_agree(make_dataset):
    path = make_dataset(60)
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                cache = frame_cache(Dataset(path), 16)
                status = 0 if len(cache) == 60 and cache.rgb.any(axis=(1, 2, 3)).all() else 2
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert len(folders(path)) == 1


def test_a_dataset_that_cannot_be_written_is_cached_elsewhere(make_dataset, monkeypatch, tmp_path):
    path = make_dataset(3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    writable = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: p != path and writable(p, mode))  # root may write anywhere
    assert len(frame_cache(Dataset(path), 8)) == 3
    assert not (path / ".cache").exists()
    assert len(list((tmp_path / "home").rglob("done.json"))) == 1


def test_a_full_disk_is_told_before_training_starts(small_disk, make_dataset):
    shutil.copytree(make_dataset(20), small_disk / "set")
    with pytest.raises(UserError, match="no space left for the frame cache"):
        frame_cache(Dataset(small_disk / "set"), 256)
    assert not list((small_disk / "set/.cache").glob("*/rgb.u8"))


def test_bad_wishes_and_damaged_images_are_named(make_dataset):
    path = make_dataset(3)
    with pytest.raises(UserError, match="at least 1"):
        frame_cache(Dataset(path), 0)
    with pytest.raises(UserError, match="fit is 'round'"):
        frame_cache(Dataset(path), 8, "round")
    name = Dataset(path).records[1].rgb
    (path / name).write_bytes(b"\x89PNG damaged")
    with pytest.raises(UserError, match=name):
        frame_cache(Dataset(path), 8)

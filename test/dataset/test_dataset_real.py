"""Real Kinect frames through the folder and the cache."""

from __future__ import annotations

import cv2
import numpy as np

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.dataset.reader import Dataset, frame_cache
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample

FRAMES = 12


def test_kinect_frames_are_kept_to_the_bit_and_agree_with_each_other(real_data, tmp_path):
    folder = real_data / "rgbd_7scenes_redkitchen" / "seq-01"
    sources = sorted(folder.glob("*.color.jpg"))[:FRAMES]
    stamps = [1_600_000_000_000_000_000 + i * 66_666_667 for i in range(FRAMES)]
    meta = DatasetMeta(Camera(640, 480, 585.0, 585.0, 320.0, 240.0), depth=DepthMeta())
    poses, counts = [], []
    with DatasetWriter(tmp_path / "set", meta) as writer:
        for stamp, source in zip(stamps, sources, strict=True):
            poses.append(np.loadtxt(str(source).replace("color.jpg", "pose.txt")))
            depth = cv2.imread(str(source).replace("color.jpg", "depth.png"), cv2.IMREAD_UNCHANGED)
            counts.append(np.where(depth == 65535, 0, depth).astype(np.uint16))
            image = ImageSample.from_compressed(stamp, "camera", source.read_bytes())
            writer.add(stamp, poses[-1], image, DepthSample.from_counts(stamp, "camera", counts[-1]))
    dataset = Dataset(tmp_path / "set")
    for i, record in enumerate(dataset.records):
        assert (dataset.path / record.rgb).read_bytes() == sources[i].read_bytes()
        stored = cv2.imread(str(dataset.path / record.depth), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(stored, counts[i])
        np.testing.assert_allclose(dataset.T_map_cam[i], poses[i], atol=5e-4)  # the source's are not quite rotations
    assert dataset.meta.depth == DepthMeta("metric", "counts", 0.001)

    cache = frame_cache(dataset, 128)
    norm = Normalization.fit(dataset.T_map_cam, cache.depth)
    np.testing.assert_allclose(norm.decode_depth(norm.encode_depth(cache.depth)), cache.depth, atol=1e-5)

    # Camera, poses and depth of the cache belong together: one frame's depth lands on another frame's.
    first, last = 0, FRAMES - 1
    points = (cache.camera.rays() * cache.depth[first][..., None])[np.isfinite(cache.depth[first])]
    T_last_first = se3.compose(se3.inverse(dataset.T_map_cam[last]), dataset.T_map_cam[first])
    moved = se3.transform_points(T_last_first, points)
    u, v = np.rint(cache.camera.project(moved)).T
    seen = (u >= 0) & (u < 128) & (v >= 0) & (v < 128)
    there = cache.depth[last][v[seen].astype(int), u[seen].astype(int)]
    assert np.nanmedian(np.abs(there - moved[seen, 2])) < 0.015

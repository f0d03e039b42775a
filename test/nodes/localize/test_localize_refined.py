"""Network and renderer together over DDS: both learnt the place in seconds, and the rendering makes the pose exact."""

from __future__ import annotations

import numpy as np
import pytest
from pose2rgbd.msg import LocalizationStatus
from support.blockworld import BlockWorld
from support.camera_stream import CameraStream
from support.localizing import matrix, seen, send_until
from support.orbit_place import SHARP

from pose2rgbd_ros.localization.localizer import Localizer
from pose2rgbd_ros.nodes.common import conversions

pytestmark = pytest.mark.ros
LARGE = SHARP.resized(96, 96)


def test_poses_are_corrected_by_rendering_and_another_place_is_refused(bench, orbit_place, localize_node):
    camera = CameraStream(bench, LARGE)
    localize_node(renderer=str(orbit_place.relief))
    camera.wait_for_listener(bench)
    poses = orbit_place.T[::4]
    truth: dict[int, np.ndarray] = {}
    answers = lambda: len(bench.poses) + len(seen(bench, LocalizationStatus.REJECTED))  # noqa: E731
    for count, T in enumerate(poses, 1):
        truth[camera.send(orbit_place.view(T, LARGE))] = T
        bench.wait(lambda: answers() >= count, what="an answer to the image")  # noqa: B023
    assert len(bench.poses) >= 0.8 * len(poses)
    off_m = []
    for message in bench.poses:
        error = matrix(message)[:3, 3] - truth[conversions.stamp_ns(message.header.stamp)][:3, 3]
        off_m.append(np.linalg.norm(error))
        covariance = np.reshape(message.pose.covariance, (6, 6))
        assert np.linalg.eigvalsh(covariance).min() > 0
    rough = Localizer(orbit_place.model)
    before_m = [
        np.linalg.norm(rough.find(orbit_place.view(T, LARGE), LARGE).T_map_cam[:3, 3] - T[:3, 3]) for T in poses
    ]
    assert np.median(off_m) < np.median(before_m) / 4
    assert np.median(off_m) < 0.6
    told = seen(bench, LocalizationStatus.OK)
    assert all(one.refined and one.verification >= 0.6 and one.refine_ms > 0 for one in told)
    assert 0 < np.median([one.position_sigma_m for one in told]) < 1.0

    elsewhere = BlockWorld(seed=9).render(poses[2], LARGE, max_depth_m=45.0)[0]
    accepted = len(bench.poses)
    send_until(bench, lambda: camera.send(elsewhere), lambda: seen(bench, LocalizationStatus.REJECTED, "likeness"))
    assert len(bench.poses) == accepted

"""Inertial measurements and velocities of recorded messages."""

from __future__ import annotations

import numpy as np
import pytest

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.messages import MessageFactory


@pytest.fixture(params=["1", "2"])
def make(request) -> MessageFactory:
    return MessageFactory(request.param)


def imu(make: MessageFactory, quat_xyzw=None):
    return make.imu(5, "/imu_link", (0.1, 0.2, 0.3), (0.0, 0.0, 9.8), np.eye(3), np.eye(3), quat_xyzw, np.eye(3))


def test_an_imu_with_orientation(make: MessageFactory) -> None:
    sample = decode.imu_sample(imu(make, (0.0, 0.0, 0.6, 0.8)), 7)
    assert (sample.stamp_ns, sample.frame_id) == (7, "imu_link")
    np.testing.assert_array_equal(sample.angular_radps, [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(sample.specific_force_mps2, [0.0, 0.0, 9.8])
    np.testing.assert_array_equal(sample.quat_xyzw, [0.0, 0.0, 0.6, 0.8])


@pytest.mark.parametrize("quat_xyzw", [None, (0.0, 0.0, 0.0, 0.0), (np.nan, 0.0, 0.0, 1.0)])
def test_an_imu_without_orientation(make: MessageFactory, quat_xyzw) -> None:
    """Covariance -1 (REP-145), and what drivers send that forget it."""
    assert decode.imu_sample(imu(make, quat_xyzw), 7).quat_xyzw is None


def test_an_imu_without_gyroscope(make: MessageFactory) -> None:
    message = imu(make)
    message.angular_velocity_covariance[0] = -1
    assert np.isnan(decode.imu_sample(message, 7).angular_radps).all()

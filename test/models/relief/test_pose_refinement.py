"""Corrections of training poses that are learnt beside the place."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.models.relief.learner import PoseCorrections, rotation_matrix

angles = st.floats(-1.0, 1.0)


@given(angles, angles, angles)
def test_rotation_matrix_is_that_of_the_vector(x, y, z):
    found = rotation_matrix(torch.tensor([[x, y, z]], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(found, Rotation.from_rotvec([x, y, z]).as_matrix(), atol=1e-12)


def test_no_correction_at_first_but_a_slope():
    T = torch.from_numpy(se3.make([[1.0, 2.0, 3.0]], [[0.0, 0.0, 0.6, 0.8]]))
    corrections = PoseCorrections(5, np.arange(5))
    moved = corrections(T, np.array([2]))
    torch.testing.assert_close(moved, T)
    moved.sum().backward()
    assert torch.isfinite(corrections.residual.grad).all()
    assert corrections.residual.grad[2].abs().min() > 0


def test_poses_stay_rigid_and_on_average_where_they_were():
    rng = np.random.default_rng(0)
    T = torch.from_numpy(se3.make(rng.normal(size=(6, 3)), rng.normal(size=(6, 4))))
    corrections = PoseCorrections(6, np.arange(6))
    with torch.no_grad():
        corrections.residual.copy_(torch.from_numpy(rng.normal(1.0, 0.5, (6, 6))))
    moved = corrections(T, np.arange(6)).detach()
    R = moved[:, :3, :3]
    torch.testing.assert_close(R @ R.mT, torch.eye(3).double().expand(6, 3, 3))
    shift = (moved - T)[:, :3, 3]
    torch.testing.assert_close(shift.mean(dim=0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    sizes = corrections.sizes()
    assert abs(sizes["position_m"] - float(shift.square().sum(dim=1).mean().sqrt())) < 1e-3
    assert 0 < sizes["angle_deg"] < 3


def test_it_finds_shifts_from_what_a_plane_shows():
    """Cameras over a sloping pattern: the corrections undo the noise on their positions."""
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.uniform(-5, 5, (20, 3)))
    noise = torch.from_numpy(rng.normal(0, 0.4, (20, 3)))
    noise -= noise.mean(dim=0)
    T = torch.eye(4).double().repeat(20, 1, 1)
    T[:, :3, 3] = truth + noise
    corrections = PoseCorrections(20, np.arange(20))
    optimizer = torch.optim.Adam(corrections.parameters(), lr=0.02)
    indices = np.arange(20)
    for _ in range(300):
        optimizer.zero_grad()
        seen = torch.sin(corrections(T, indices)[:, :3, 3])
        ((seen - torch.sin(truth)).square().mean() + corrections.penalty(indices)).backward()
        optimizer.step()
    left = (corrections(T, indices)[:, :3, 3] - truth).detach()
    # The median: near its crests the pattern tells two places apart no longer.
    assert left.abs().median() < 0.2 * noise.abs().median()

"""Six numbers to a motion and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.geometry import se3

TWISTS = torch.tensor(
    [
        [0.3, -0.2, 0.5, 0.4, -1.1, 0.7],
        [1.0, 2.0, -3.0, 0.0, 0.0, 0.0],
        [0.1, 0.2, 0.3, 2e-4, -1e-4, 3e-4],
        [0.1, 0.2, 0.3, 1e-9, 0.0, 0.0],
        [0.5, -0.4, 0.2, 1.8, -2.2, 0.9],  # 2.98 rad
        [-0.2, 0.1, 0.4, 0.0, 3.0, 0.0],
        [-0.2, 0.1, 0.4, 9e-4, 4e-4, 1e-4],  # about where series and closed form meet
    ],
    dtype=torch.float64,
)


def test_the_exponential_is_that_of_numpy_and_the_logarithm_its_inverse() -> None:
    T = rigid.exponential(TWISTS)
    assert np.allclose(T.numpy(), se3.exponential(TWISTS.numpy()), atol=1e-12)
    assert torch.allclose(rigid.logarithm(T), TWISTS, atol=1e-9)
    assert torch.allclose(rigid.inverse(T) @ T, torch.eye(4, dtype=torch.float64).expand(7, 4, 4), atol=1e-12)


def test_float32_is_exact_to_its_digits() -> None:
    T = rigid.exponential(TWISTS.float())
    assert np.allclose(T.numpy(), se3.exponential(TWISTS.numpy()), atol=2e-6)
    assert torch.allclose(rigid.logarithm(T).double(), TWISTS, atol=2e-5)


def test_euler_angles_turn_about_x_of_what_y_and_z_turned() -> None:
    vectors = torch.tensor([[0.1, -0.2, 0.3, 0.4, -0.5, 0.6]], dtype=torch.float64)
    T = rigid.from_euler(vectors)[0].numpy()
    assert np.allclose(T[:3, :3], Rotation.from_euler("XYZ", [0.4, -0.5, 0.6]).as_matrix())
    assert np.allclose(T[:, 3], [0.1, -0.2, 0.3, 1.0])


@pytest.mark.parametrize("of", [rigid.exponential, rigid.from_euler, lambda t: rigid.logarithm(rigid.exponential(t))])
def test_gradients_agree_with_differences(of) -> None:
    assert gradcheck(of, (TWISTS.clone().requires_grad_(),))


def test_standing_still_has_a_gradient() -> None:
    still = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    assert gradcheck(rigid.exponential, (still,))
    assert gradcheck(lambda t: rigid.logarithm(rigid.exponential(t)), (still,))

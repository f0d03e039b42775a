"""What every network that finds a pose can do, whatever is inside."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from pose2rgbd_ros.dataset.normalization import Normalization


class PoseEstimates(NamedTuple):
    """What a network reads from B images.

    T_map_cam: (B, 4, 4) float64.
    features: (B, F), the trunk's output before the pose is read from it: alike for images of like content.
    realism: (B,) the discriminator's verdict, above 0 for "recorded"; None for networks without one.
    """

    T_map_cam: Tensor
    features: Tensor
    realism: Tensor | None


@runtime_checkable
class PoseModel(Protocol):
    """Networks of models/registry.py that find poses: an ``nn.Module`` with these."""

    image_size: int  # side in pixels of the square images it takes

    def poses(self, rgb: Tensor, normalization: Normalization) -> PoseEstimates:
        """Poses of images (B, 3, S, S) in [0, 1], S = image_size, as the checkpoint's camera sees; call ``eval()`` first."""
        ...

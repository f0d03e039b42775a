"""What every renderer of a place can do, whatever is inside: show what a camera at a pose would see."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.camera import Camera

# What every network that finds a pose can do, whatever is inside.


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
        """Poses of images (B, 3, S, S) in [0, 1], S = image_size, as the checkpoint's camera sees; call ``eval()``
        first.
        """
        ...


class RenderTensors(NamedTuple):
    """What a model shows of B views; None for what it does not predict.

    rgb: (B, 3, H, W) in [0, 1].
    depth: (B, H, W) along the optical axis in the dataset's unit, NaN where the model does not know.
    confidence: (B, h, w). Slice networks: the sum of the slices, 1 ideal, 0 no slice claims the pixel, above 1
        ambiguous. Renderers with geometry: 0..1, how sure the surface is.
    """

    rgb: Tensor | None
    depth: Tensor | None
    confidence: Tensor | None


@runtime_checkable
class RenderModel(Protocol):
    """Every network of models/registry.py: an ``nn.Module`` with these."""

    any_camera: bool  # renders any intrinsics; otherwise only those it was trained with
    has_confidence: bool

    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> RenderTensors:
        """Render poses (B, 4, 4) float64 on the model's device, as `camera` sees them; call ``eval()`` first.

        `camera` is the trained one unless ``any_camera``; `normalization` is that of the training set.
        """
        ...

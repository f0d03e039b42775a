"""The exported graph gives the network's images, for every network and option there is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.backends import OnnxBackend
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.models.pose2rgbd.network import confidence, split_image
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint, save_checkpoint

ALL = [
    {"variant": variant, "output": output, "pose_dim": pose_dim}
    for variant, outputs in (("base", ("depth", "rgb", "rgbd")), ("slice", ("depth", "rgbd")))
    for output in outputs
    for pose_dim in (7, 6)
]
OPTIONS = [
    {"final": "sigmoid"},
    {"final": "none"},
    {"activation": "leaky_relu"},
    {"dense_activation": False},
    {"pose_frequencies": 3},
    {"pose_frequencies": 2, "pose_dim": 6},
    {"width": 1 / 64},
    {"variant": "slice", "slice_features": "first"},
    {"variant": "slice", "slice_resolution": "full"},
    {"variant": "slice", "final": "none", "slices": 2},
    {"size": 64},
    {"size": 64, "variant": "slice"},
    {"size": 128, "width": 1 / 16},
    {"size": 512, "width": 1 / 16},
]


def network_images(path: Path, T_map_cam: np.ndarray) -> dict[str, np.ndarray]:
    """What the network says, finished here and not by the code under test; colour not yet rounded."""
    checkpoint = load_checkpoint(path)
    model, normalization = checkpoint.build_model(), checkpoint.normalization
    with torch.inference_mode():
        prediction = model(torch.from_numpy(normalization.encode_pose(T_map_cam)))
    rgb, depth = split_image(prediction.image, model.config)
    images = {}
    if rgb is not None:
        images["rgb"] = np.moveaxis(rgb.numpy(), 1, -1) * 255
    if depth is not None:
        images["depth"] = normalization.decode_depth(depth.numpy())
    if prediction.slices is not None:
        total = confidence(prediction.slices).numpy()
        factor = model.config.size // total.shape[-1]
        images["confidence"] = np.kron(total, np.ones((1, factor, factor)))
    return images


@pytest.mark.parametrize("config", ALL + OPTIONS, ids=str)
@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_images_are_the_networks(make_checkpoint: Any, poses: np.ndarray, backend: str, config: dict[str, Any]) -> None:
    path = make_checkpoint(**config)
    expected = network_images(path, poses)
    found = Renderer(path, device="cpu", backend=backend).render(poses).present()
    assert found.keys() == expected.keys()
    for name, tolerance in (("rgb", 0.501), ("depth", 27e-5), ("confidence", 1e-4)):
        if name in expected:
            assert expected[name].std() > 0.01 * np.ptp(expected[name]) > 0  # a flat image would match anything
            np.testing.assert_allclose(found[name], expected[name], atol=tolerance, rtol=0)


def test_every_option_is_covered() -> None:
    """A new option of the network needs a line in OPTIONS, or the export may silently ignore it."""
    tried = {name for config in ALL + OPTIONS for name in config}
    assert tried == {field.name for field in dataclasses.fields(Pose2RGBDConfig)}


def test_rgb_needs_no_depth_range(make_checkpoint: Any, poses: np.ndarray) -> None:
    images = Renderer(make_checkpoint(output="rgb"), device="cpu", backend="onnx").render(poses)
    assert images.depth is None
    assert images.confidence is None


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("final", ["tanh", "sigmoid", "none"])
def test_depth_stays_in_its_range(make_checkpoint: Any, poses: np.ndarray, backend: str, final: str) -> None:
    """Even where the last layer is driven far out of its range."""
    path = make_checkpoint(final=final)
    checkpoint = load_checkpoint(path)
    checkpoint.state_dict["image_head.weight"] *= 1e4
    save_checkpoint(path, checkpoint)
    renderer = Renderer(path, device="cpu", backend=backend)
    lowest, highest = renderer.depth_range or (np.nan, np.nan)
    depth = renderer.render(poses).depth
    assert depth is not None
    rounding = 4e-6  # one unit in the last place of a float32 at 31 m is 2e-6
    assert lowest - rounding <= depth.min() < lowest + 0.1
    assert highest - 0.1 < depth.max() <= highest + rounding


def test_damaged_graph_is_told(make_checkpoint: Any) -> None:
    with pytest.raises(UserError, match="cannot run the graph"):
        OnnxBackend(b"\x08\x09 no graph", normalization=None)  # type: ignore[arg-type]

"""Compiled rendering of a relief in tiles shows what the network shows, makes ready what it meets, and says what it
cannot.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.random_relief import random_relief, relief_checkpoint, views
from support.relief_tiles import cut

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import empty_images
from pose2rgbd_ros.models.relief import kernels
from pose2rgbd_ros.models.relief.backend import TiledReliefBackend
from pose2rgbd_ros.models.torch_backend import TorchBackend
from pose2rgbd_ros.training.checkpoint import load_checkpoint

CAMERA = Camera.from_fov(48, 40, 80.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = cut(random_relief(), 2, 2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("logits"):
                parameter.normal_(0.0, 0.05)
    return relief_checkpoint(tmp_path_factory.mktemp("tiles") / "checkpoint", model, CAMERA)  # type: ignore[arg-type]


@pytest.mark.skipif(not kernels.HAS_NUMBA, reason="numba is not installed")
@pytest.mark.parametrize(
    "camera", [CAMERA, Camera(45, 33, 30.0, 31.0, 22.0, 15.0, "plumb_bob", (-0.1, 0.02, 0.0, 0.0))]
)
def test_compiled_and_plain_show_the_same(folder: Path, camera: Camera) -> None:
    checkpoint, T = load_checkpoint(folder), views()
    expected, found = (empty_images(checkpoint, camera, len(T)) for _ in range(2))
    TorchBackend(checkpoint.build_model(), checkpoint.normalization).render(T, camera, expected)
    TiledReliefBackend(checkpoint.config(), checkpoint.state_dict, threads=1).render(T, camera, found)
    assert found.rgb is not None
    assert expected.rgb is not None
    off = (np.abs(found.rgb.astype(int) - expected.rgb) > 1).any(-1)
    for name, most in (("depth", 1e-3), ("confidence", 1e-4)):
        values, wanted = getattr(found, name), getattr(expected, name)
        off |= ~np.isclose(values, wanted, rtol=0, atol=most, equal_nan=True)
    assert off.mean() <= 2e-3
    assert np.isfinite(found.depth).mean() > 0.3


@pytest.mark.skipif(not kernels.HAS_NUMBA, reason="numba is not installed")
def test_a_view_of_one_tile_makes_no_other_ready(folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    config = checkpoint.config()
    backend = TiledReliefBackend(config, checkpoint.state_dict, threads=1)
    middle = config.corner_m(3) + np.array(config.size_m) / 2
    eye = (config.T_map_vol @ [*middle[:2], 30.0, 1.0])[:3]
    T, camera = se3.look_at(eye[None], eye[None] - [[0.0, 0.1, 30.0]]), Camera.from_fov(32, 32, 20.0)
    backend.render(T, camera, empty_images(checkpoint, camera, 1))
    assert set(backend._ready) == {0, 3}  # the first is made ready at the start

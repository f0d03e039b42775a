"""Splats on a CPU: drawn as the reference draws them, and read from the files that trainers of splats write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y
from support import splat_reference

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.gsplat.config import GsplatConfig
from pose2rgbd_ros.models.gsplat.network import SH_C0, GsplatModel
from pose2rgbd_ros.models.gsplat.ply import read_ply, write_ply
from pose2rgbd_ros.models.gsplat.rasterizer import Splats, rasterize

CAMERA = Camera(28, 20, 24.0, 26.0, 13.1, 9.7)
INTRINSICS, SIZE = (CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy), (CAMERA.width, CAMERA.height)
FEW = settings(max_examples=30, derandomize=True, deadline=None)


def some_splats(seed: int, count: int = 12, degree: int = 1) -> Splats:
    """In front of a camera at the origin, of all sizes and opacities."""
    rng = np.random.default_rng(seed)
    means = rng.uniform([-2, -1.5, 2], [2, 1.5, 9], (count, 3))
    sh = np.concatenate([rng.normal(0.5, 1, (count, 1, 3)), rng.normal(0, 0.3, (count, (degree + 1) ** 2 - 1, 3))], 1)
    parts = means, rng.normal(size=(count, 4)), rng.lognormal(-1.5, 0.7, (count, 3)), rng.uniform(0.02, 0.99, count), sh
    return Splats(*(np.ascontiguousarray(part, np.float32) for part in parts))


@FEW
@given(st.integers(0, 2**32 - 1))
def test_it_draws_what_the_reference_draws(seed: int) -> None:
    """But for what covers less than 1/255, which it leaves out: of each splat at most that, and 12 of them."""
    splats = some_splats(seed)
    T = se3.make([0.1, -0.2, 0.3], [0.02, 0.03, -0.05, 0.998])
    K = torch.tensor([[CAMERA.fx, 0, CAMERA.cx + 0.5], [0, CAMERA.fy, CAMERA.cy + 0.5], [0, 0, 1]], dtype=torch.float32)
    images, alpha, _ = splat_reference.rasterization(
        *(torch.from_numpy(part) for part in splats), torch.from_numpy(T)[None].float(), K[None], *SIZE,
        sh_degree=1, render_mode="RGB+ED",
    )  # fmt: skip
    rgb, depth, stopped = rasterize(splats, T, INTRINSICS, SIZE)
    np.testing.assert_allclose(stopped, alpha[0, ..., 0], atol=0.02)
    np.testing.assert_allclose(rgb, images[0, ..., :3], atol=0.04)
    solid = stopped > 0.5
    np.testing.assert_allclose(depth[solid], images[0, ..., 3][solid], rtol=0.05)


def test_one_splat_by_hand() -> None:
    """Round, 4 m ahead, of 0.2 m: its covariance in the picture is (f 0.2 / 4)² and 0.3 px² more."""
    colour = np.array([0.9, 0.4, 0.1])
    splats = Splats(
        *(np.array(part, np.float32) for part in (
            [[0.5, -0.25, 4.0]], [[2.0, 0, 0, 0]], [[0.2, 0.2, 0.2]], [0.8], [[(colour - 0.5) / SH_C0]]
        ))
    )  # fmt: skip
    camera = Camera(64, 48, 40.0, 40.0, 31.5, 23.5)
    rgb, depth, stopped = rasterize(splats, np.eye(4), (40.0, 40.0, 31.5, 23.5), (64, 48))
    u, v = camera.project(np.array([0.5, -0.25, 4.0]))
    M = 40.0 / 4 * np.array([[1, 0, -0.125], [0, 1, 0.0625]])  # the affine map at the mean
    S = np.linalg.inv(0.2**2 * M @ M.T + 0.3 * np.eye(2))
    d = np.stack(np.meshgrid(np.arange(64) - u, np.arange(48) - v), axis=-1)
    expected = 0.8 * np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", d, S, d))
    expected[expected < 1 / 255] = 0
    np.testing.assert_allclose(stopped, expected, atol=2e-6)
    np.testing.assert_allclose(rgb, expected[..., None] * colour, atol=2e-6)
    np.testing.assert_allclose(depth[expected > 0], 4.0, rtol=1e-5)


def test_colours_turn_with_the_direction_as_spherical_harmonics_do() -> None:
    """Against SciPy's, of which 3D Gaussian splatting takes the imaginary parts for negative orders."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        at = rng.normal(size=3) * [1, 1, 0.5] + [0, 0, 4]
        x, y, z = at / np.linalg.norm(at)
        theta, phi = np.arccos(z), np.arctan2(y, x)
        for place, (degree, order) in enumerate((n, m) for n in range(4) for m in range(-n, n + 1)):
            value = sph_harm_y(degree, abs(order), theta, phi)
            basis = value.real if order == 0 else np.sqrt(2) * (value.imag if order < 0 else value.real)
            sh = np.zeros((1, 16, 3), np.float32)
            sh[0, 0] = 8.0  # bright, so that nothing is cut off at black
            sh[0, place] += [0.5, -0.5, 1.0]
            parts = at[None], np.array([[1, 0, 0, 0]]), np.full((1, 3), 0.5), np.array([0.999]), sh
            splats = Splats(*(np.ascontiguousarray(part, np.float32) for part in parts))
            rgb, _, stopped = rasterize(splats, np.eye(4), (9.0, 9.0, 10.0, 10.0), (21, 21))
            middle = np.unravel_index(stopped.argmax(), stopped.shape)
            found = rgb[middle] / stopped[middle] - 0.5 - SH_C0 * 8.0
            np.testing.assert_allclose(found, basis * np.array([0.5, -0.5, 1.0]), atol=1e-4)


def test_what_is_behind_or_nothing_is_not_drawn() -> None:
    behind = some_splats(0)._replace(means=np.array([[0, 0, -3.0]] * 12, np.float32))
    clear = some_splats(0)._replace(opacities=np.full(12, 0.003, np.float32))
    broken = some_splats(0)._replace(scales=np.full((12, 3), np.nan, np.float32))
    for splats in (behind, clear, broken):
        rgb, depth, stopped = rasterize(splats, np.eye(4), INTRINSICS, SIZE)
        assert not rgb.any()
        assert not depth.any()
        assert not stopped.any()


def a_model(degree: int) -> GsplatModel:
    splats = some_splats(3, degree=degree)
    model = GsplatModel(GsplatConfig(splats=12, sh_degree=degree))
    with torch.no_grad():
        model.means.copy_(torch.from_numpy(splats.means))
        model.quats.copy_(torch.from_numpy(splats.quats_wxyz))
        model.log_scales.copy_(torch.from_numpy(splats.scales).log())
        model.opacity_logits.copy_(torch.from_numpy(splats.opacities).logit())
        model.sh_0.copy_(torch.from_numpy(splats.sh[:, :1]))
        model.sh_rest.copy_(torch.from_numpy(splats.sh[:, 1:]))
        model.origin_m.copy_(torch.tensor([100.0, -50.0, 7.0]))
    return model.eval()


@pytest.mark.parametrize("degree", range(4))
def test_a_file_read_again_shows_the_same(degree: int, tmp_path: Path) -> None:
    model = a_model(degree)
    write_ply(tmp_path / "splats.ply", model)
    back = read_ply(tmp_path / "splats.ply")
    T = torch.from_numpy(se3.make([100.0, -50.0, 7.0], [0, 0, 0, 1]))[None]
    with torch.no_grad():
        model.background.copy_(back.background)
    for mine, other in zip(model.pictures(T, CAMERA, None), back.pictures(T, CAMERA, None), strict=True):  # type: ignore[arg-type]
        assert mine is not None
        assert other is not None
        np.testing.assert_allclose(mine.numpy(), other.numpy(), atol=1e-6)
        assert bool(torch.isfinite(mine).any())
    assert float(model.pictures(T, CAMERA, None).confidence.max()) > 0.5  # type: ignore[arg-type,union-attr]


def test_splats_without_numbers_are_left_out_and_properties_may_come_in_any_order(tmp_path: Path) -> None:
    write_ply(tmp_path / "splats.ply", a_model(0))
    head, _, body = (tmp_path / "splats.ply").read_bytes().partition(b"end_header\n")
    names = [line.split()[-1].decode() for line in head.splitlines() if line.startswith(b"property")]
    table = np.frombuffer(body, [(name, "<f4") for name in names]).copy()
    table["opacity"][4] = np.nan
    turned = table[names[::-1]].copy().astype([(name, "<f4") for name in names[::-1]])
    lines = head.decode().splitlines()
    kept = [line for line in lines if not line.startswith("property")]
    header = "\n".join([*kept, *(f"property float {name}" for name in names[::-1]), "end_header", ""])
    (tmp_path / "turned.ply").write_bytes(header.encode() + turned.tobytes())
    back = read_ply(tmp_path / "turned.ply")
    np.testing.assert_array_equal(back.means.detach(), np.delete(a_model(0).means.detach().numpy(), 4, axis=0))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: b"obj" + data, "is no PLY file"),
        (lambda data: data[:50], "is no PLY file"),
        (lambda data: data.replace(b"binary_little_endian", b"ascii"), "only binary_little_endian is read"),
        (lambda data: data[:-1], "is no whole file of splats"),
        (lambda data: data.replace(b"vertex 12", b"vertex 999999999"), "is no whole file of splats"),
        (lambda data: data.replace(b"float rot_3", b"float spin_"), "has no property rot_3"),
        (lambda data: data.replace(b"float f_rest_8", b"float g_rest_8"), "has 8 properties f_rest_"),
        (lambda data: data.replace(b"float x", b"list x"), "is no whole file of splats"),
    ],
)
def test_other_files_are_one_line(spoil: object, message: str, tmp_path: Path) -> None:
    write_ply(tmp_path / "splats.ply", a_model(1))
    data = (tmp_path / "splats.ply").read_bytes()
    (tmp_path / "splats.ply").write_bytes(spoil(data))  # type: ignore[operator]
    with pytest.raises(UserError, match=message) as error:
        read_ply(tmp_path / "splats.ply")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_ply(tmp_path / "nothing.ply")

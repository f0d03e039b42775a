"""What is used of the package gsplat, with the same calls, in plain PyTorch and for tiny scenes.

The rasteriser, after Zwicker et al., "EWA splatting" (2001), and Kerbl et al. (2023): each splat's covariance is taken
to the picture by the local affine map, splats are blended front to back, every splat at every pixel. The strategy
does to parameters and moments what gsplat's does; copies share the opacity, not the size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SH_C0, SH_C1 = 0.28209479177387814, 0.4886025119029199


def rasterization(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float = 0.01,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    render_mode: str = "RGB",
    backgrounds: Tensor | None = None,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Images (C, H, W, 3 or 4) and alpha (C, H, W, 1), for "RGB" and "RGB+ED"."""
    assert render_mode in ("RGB", "RGB+ED")
    assert sh_degree in (0, 1)
    views = [
        _view(
            means, _covariances(quats, scales), opacities, colors, T, K, (width, height), near_plane, eps2d, sh_degree
        )
        for T, K in zip(viewmats, Ks, strict=True)
    ]
    rgb, depth, alpha = (torch.stack(each) for each in zip(*views, strict=True))
    if backgrounds is not None:
        rgb = rgb + (1 - alpha)[..., None] * backgrounds[:, None, None]
    expected = (depth / alpha.clamp(min=1e-10))[..., None]
    images = rgb if render_mode == "RGB" else torch.cat([rgb, expected], dim=-1)
    return images, alpha[..., None], {}


def _view(means, covariances, opacities, colors, T, K, size, near, eps2d, degree):
    p = means @ T[:3, :3].T + T[:3, 3]
    order = torch.argsort(p[:, 2])
    order = order[p[order, 2] > near]
    p, opacity = p[order], opacities[order]
    x, y, z = p.unbind(dim=1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    zero = torch.zeros_like(z)
    J = torch.stack([fx / z, zero, -fx * x / z**2, zero, fy / z, -fy * y / z**2], dim=1).reshape(-1, 2, 3)
    M = J @ T[:3, :3]
    spread = M @ covariances[order] @ M.transpose(1, 2) + eps2d * torch.eye(2)
    # gsplat's pixel (column, row) has its centre at + 0.5, ours and OpenCV's at the integer.
    centre = torch.stack([x / z * fx + cx, y / z * fy + cy], dim=1)
    v, u = torch.meshgrid(torch.arange(size[1]) + 0.5, torch.arange(size[0]) + 0.5, indexing="ij")
    d = torch.stack([u, v], dim=-1)[None] - centre[:, None, None]
    S = torch.linalg.inv(spread)[:, :, :, None, None]
    power = S[:, 0, 0] * d[..., 0] ** 2 + 2 * S[:, 0, 1] * d[..., 0] * d[..., 1] + S[:, 1, 1] * d[..., 1] ** 2
    a = (opacity[:, None, None] * torch.exp(-power / 2)).clamp(max=0.999)
    behind = torch.log1p(-a).cumsum(dim=0).exp()  # the light left behind each splat
    through = torch.cat([torch.ones_like(a[:1]), behind])
    weight = a * through[:-1]
    directions = torch.nn.functional.normalize(means[order] + T[:3, :3].T @ T[:3, 3], dim=1)
    rgb = _colour(colors[order], directions, degree)
    return torch.einsum("nhw,nc->hwc", weight, rgb), torch.einsum("nhw,n->hw", weight, z), 1 - through[-1]


def _colour(sh: Tensor, direction: Tensor, degree: int) -> Tensor:
    value = SH_C0 * sh[:, 0] + 0.5
    if degree > 0:
        x, y, z = (direction[:, i : i + 1] for i in range(3))
        value = value + SH_C1 * (-y * sh[:, 1] + z * sh[:, 2] - x * sh[:, 3])
    return value.clamp(min=0)


def _covariances(quats: Tensor, scales: Tensor) -> Tensor:
    w, x, y, z = torch.nn.functional.normalize(quats, dim=1).unbind(dim=1)
    R = torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        dim=1,
    ).reshape(-1, 3, 3)  # fmt: skip
    M = R * scales[:, None]
    return M @ M.transpose(1, 2)


@dataclass
class MCMCStrategy:
    """Moves splats of hardly any opacity onto others, drawn by opacity, and shakes the faint ones."""

    cap_max: int
    noise_lr: float
    refine_start_iter: int = 500
    refine_stop_iter: int = 25_000
    refine_every: int = 100
    min_opacity: float = 0.005

    def initialize_state(self) -> dict[str, Any]:
        return {}

    def step_post_backward(self, params, optimizers, state, step: int, info, lr: float) -> None:
        assert params.keys() == optimizers.keys() >= {"means", "scales", "quats", "opacities"}
        assert all(len(optimizer.param_groups) == 1 for optimizer in optimizers.values())
        assert len(params["means"]) == self.cap_max
        if self.refine_start_iter < step < self.refine_stop_iter and step % self.refine_every == 0:
            self._relocate(params, optimizers)
        faint = torch.sigmoid(100 * (1 - params["opacities"].sigmoid() - 0.995))
        noise = torch.randn_like(params["means"]) * faint[:, None] * lr * self.noise_lr
        covariances = _covariances(params["quats"], params["scales"].exp())
        params["means"].add_(torch.einsum("nij,nj->ni", covariances, noise))

    def _relocate(self, params, optimizers) -> None:
        opacity = params["opacities"].sigmoid()
        idle, busy = (torch.nonzero(part)[:, 0] for part in (opacity <= self.min_opacity, opacity > self.min_opacity))
        if len(idle) == 0:
            return
        onto = busy[torch.multinomial(opacity[busy], len(idle), replacement=True)]
        copies = torch.bincount(onto)[onto] + 1
        shared = torch.logit((1 - (1 - opacity[onto]) ** (1 / copies)).clamp(self.min_opacity, 1 - 1e-7))
        for name, optimizer in optimizers.items():
            old, new = params[name], params[name].clone()
            if name == "opacities":
                new[onto] = shared
            new[idle] = new[onto]
            moments = optimizer.state.pop(old)
            for key in moments.keys() - {"step"}:
                moments[key][onto] = 0
            params[name] = torch.nn.Parameter(new)
            optimizer.param_groups[0]["params"], optimizer.state[params[name]] = [params[name]], moments

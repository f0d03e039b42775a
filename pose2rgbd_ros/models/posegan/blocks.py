"""Residual blocks of generator and discriminator, and the convolutions that change the resolution within them.

Figure 1 of the paper names their layers (BN, ReLU, Conv); the shortcuts and where the resolution changes are those of
Miyato et al., "Spectral Normalization for Generative Adversarial Networks" (2018), which it follows: a reconstruction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

POWER_ITERATIONS = 15  # at the start; one at each forward pass while training


class SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value, found by power iteration (Miyato et al., 2018, algorithm 1).

    `gain` multiplies it again; 1 is the paper's. A random kernel of norm one makes signals smaller, so that ten layers
    leave a fiftieth of them to learn from.
    """

    u: Tensor

    def __init__(self, weight: Tensor, gain: float = 1.0) -> None:
        super().__init__()
        self._gain = gain
        self.register_buffer("u", functional.normalize(torch.randn(len(weight)), dim=0))
        if not weight.is_meta:
            for _ in range(POWER_ITERATIONS):
                self._step(weight.detach())

    def forward(self, weight: Tensor) -> Tensor:
        """The normalised weight; gradients see the singular vectors as constants. In full precision, always."""
        with torch.autocast(weight.device.type, enabled=False):
            with torch.no_grad():
                u, v = self._step(weight) if self.training else self._vectors(weight)
            return weight * (self._gain / torch.dot(u, weight.flatten(1) @ v))

    def _step(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """A step of the power iteration."""
        _, v = self._vectors(weight)
        u = weight.flatten(1) @ v
        u /= torch.linalg.vector_norm(u)
        self.u.copy_(u)
        return u, v

    def _vectors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Left and right singular vector; a running average of the left one would have less than unit length."""
        u = self.u / torch.linalg.vector_norm(self.u)
        v = u @ weight.flatten(1)
        return u, v / torch.linalg.vector_norm(v)


class Linear(nn.Linear):
    """A linear layer, with spectral normalisation unless told otherwise. Its bias begins at zero, as in Miyato et al.

    PyTorch's begins at up to 1 / sqrt(inputs), beside weights of which the normalisation leaves little: of what the
    generator's first batch normalisation is given at 128 pixels, a hundredth would then depend on the pose.
    """

    def __init__(self, inputs: int, outputs: int, spectral: bool = True) -> None:
        super().__init__(inputs, outputs)
        nn.init.zeros_(self.bias)
        self.norm = SpectralNorm(self.weight) if spectral else nn.Identity()

    def used_weight(self) -> Tensor:
        """The weight as it is used."""
        weight: Tensor = self.norm(self.weight)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.used_weight(), self.bias)


class Conv(nn.Conv2d):
    """A convolution with padding. `resize`: "down" averages 2 x 2 pixels after it, "up" repeats them before it.

    Both are one strided convolution with the weights summed over the 2 x 2 pixels: the same function at less than half
    the cost of a 3 x 3 kernel. With spectral normalisation unless told otherwise.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        resize: str = "",
        spectral: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self.resize = resize
        nn.init.xavier_uniform_(self.weight, gain=2**0.5 if kernel > 1 else 1.0)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]
        self.norm = SpectralNorm(self.weight, gain) if spectral else nn.Identity()

    def used_weight(self) -> Tensor:
        """The weight as it is used, before any summing for a resize."""
        weight: Tensor = self.norm(self.weight)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        weight = self.used_weight()
        if not self.resize:
            return functional.conv2d(x, weight, self.bias, padding=self.padding)
        if self.kernel_size == (1, 1):  # linear, so the order does not matter; this one touches fewer values
            if self.resize == "down":
                return functional.conv2d(functional.avg_pool2d(x, 2), weight, self.bias)
            return functional.interpolate(functional.conv2d(x, weight, self.bias), scale_factor=2.0)
        if self.resize == "down":
            return functional.conv2d(x, spread_kernel(weight) / 4, self.bias, stride=2, padding=1)
        kernel = spread_kernel(weight.flip(2, 3)).transpose(0, 1)
        return functional.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


def spread_kernel(weight: Tensor) -> Tensor:
    """(O, I, 3, 3) -> (O, I, 4, 4): the kernel summed over 2 x 2 shifts."""
    padded = functional.pad(weight, (1, 1, 1, 1))
    rows = padded[:, :, 1:] + padded[:, :, :-1]
    return rows[..., 1:] + rows[..., :-1]


class GBlock(nn.Module):
    """(B, inputs, H, W) -> (B, outputs, 2 H, 2 W): twice BN, ReLU, Conv beside a 1 x 1 shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = Conv(inputs, outputs, 3, "up")
        self.conv2 = Conv(outputs, outputs, 3)
        self.shortcut = Conv(inputs, outputs, 1, "up")

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(functional.relu(self.norm1(x)))
        h = self.conv2(functional.relu(self.norm2(h)))
        out: Tensor = h + self.shortcut(x)
        return out


class DBlock(nn.Module):
    """(B, inputs, H, W) -> (B, outputs, H / 2, W / 2): twice ReLU, Conv beside a 1 x 1 shortcut.

    `first`: the input is the image, so no ReLU before the first convolution. `spectral` False has batch normalisation
    instead, for PoseNet on the same trunk.
    """

    def __init__(
        self, inputs: int, outputs: int, first: bool, spectral: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.first = first
        self.norm1 = nn.Identity() if spectral or first else nn.BatchNorm2d(inputs)
        self.norm2 = nn.Identity() if spectral else nn.BatchNorm2d(outputs)
        self.conv1 = Conv(inputs, outputs, 3, "", spectral, gain)
        self.conv2 = Conv(outputs, outputs, 3, "down", spectral, gain)
        self.shortcut = Conv(inputs, outputs, 1, "down", spectral, gain)

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.first else functional.relu(self.norm1(x))
        h = self.conv2(functional.relu(self.norm2(self.conv1(h))))
        out: Tensor = h + self.shortcut(x)
        return out

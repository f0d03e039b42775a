"""PoseGAN: generator and discriminator as one network, which shows poses and finds them; and PoseNet."""

from __future__ import annotations

import copy
import itertools
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.pose2rgbd.network import fourier_features
from pose2rgbd_ros.models.posegan.config import CHANNELS_OF, PoseGANConfig, PoseNetConfig, channels_of
from pose2rgbd_ros.models.strided import StridedPointwise
from pose2rgbd_ros.training.families import PoseEstimates, RenderTensors

# Residual blocks of generator and discriminator, and the convolutions that change the resolution within them.
#
# Figure 1 of the paper names their layers (BN, ReLU, Conv); the shortcuts and where the resolution changes are those of
# Miyato et al., "Spectral Normalization for Generative Adversarial Networks" (2018), which it follows: a
# reconstruction.

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
        self, inputs: int, outputs: int, kernel: int, resize: str = "", spectral: bool = True, gain: float = 1.0
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

    def __init__(self, inputs: int, outputs: int, first: bool, spectral: bool = True, gain: float = 1.0) -> None:
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


# A discriminator or regressor with its weights worked out: the same answers, without normalising them at each query.


M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def plain(module: M) -> M:
    """A copy in evaluation mode: spectral normalisation divided out, strided kernels summed."""
    made = copy.deepcopy(module).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for parent in list(made.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, Conv) and part.kernel_size == (3, 3) and part.resize in ("", "down"):
                setattr(parent, name, _convolution(part))
            elif isinstance(part, (Conv, Linear)):
                part.weight.copy_(part.used_weight())
                part.norm = nn.Identity()
    return made.requires_grad_(False)


def _convolution(part: Conv) -> nn.Module:
    assert part.bias is not None
    weight, stride = part.used_weight(), 1
    if part.resize == "down":
        weight, stride = spread_kernel(weight) / 4, 2
    made = nn.Conv2d(part.in_channels, part.out_channels, weight.shape[-1], stride, padding=1, device=weight.device)
    made.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
    made.bias = part.bias
    return made


class PlainCopy:
    """Keeps the copy between queries; whoever changes the network calls `forget`."""

    def __init__(self) -> None:
        self._made: Any = None

    def of(self, module: M) -> M:
        """The network itself while it learns or somebody wants gradients, else its copy."""
        if module.training or torch.is_grad_enabled():
            return module
        if self._made is None:
            self._made = plain(module)
        made: M = self._made
        return made

    def forget(self) -> None:
        self._made = None

    def __deepcopy__(self, memo: Any) -> PlainCopy:
        return PlainCopy()


# ResNet-18 and -34 as trunks of PoseNet, written after He et al., "Deep Residual Learning for Image
# Recognition" (2016).


STAGES = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
FIRST_CHANNELS = 64


class BasicBlock(nn.Module):
    """Twice conv 3 x 3 and BN, added to what came in; a 1 x 1 convolution fits that where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            pointwise = StridedPointwise(inputs, outputs, stride, bias=False)
            self.shortcut = nn.Sequential(pointwise, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


class ResNet(nn.Module):
    """Images (B, 3, S, S) -> features (B, F), F = 512 at width 1: the network without its last layer."""

    def __init__(self, name: str, width: float) -> None:
        super().__init__()
        channels = [max(4, round((FIRST_CHANNELS << stage) * width)) for stage in range(4)]
        self.start = nn.Sequential(
            nn.Conv2d(3, channels[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks: list[nn.Module] = []
        before = channels[0]
        for stage, count in enumerate(STAGES[name]):
            for index in range(count):
                blocks.append(BasicBlock(before, channels[stage], 2 if stage and index == 0 else 1))
                before = channels[stage]
        self.blocks = nn.Sequential(*blocks)
        self.features = before
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        pooled: Tensor = torch.mean(self.blocks(self.start(image)), dim=(2, 3))
        return pooled


# D: an image in; whether it was recorded, and the pose it was taken at, out (Eq. 3 of the paper).


class Verdict(NamedTuple):
    """What the discriminator says of B images.

    pose: (B, P) encoded, phi3(phi1(x)), which the paper calls F(x).
    realism: (B,) varphi(phi1(x)); above 0 for recorded.
    features: (B, F) phi1(x).
    """

    pose: Tensor
    realism: Tensor
    features: Tensor


class Trunk(nn.Module):
    """phi1: DBlocks, ReLU, and the last map summed over its pixels (or flattened)."""

    def __init__(
        self, inputs: int, size: int, blocks: int, width: float, pool: str, spectral: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        widths = channels_of(blocks, width)
        stages = enumerate(itertools.pairwise([inputs, *widths]))
        self.blocks = nn.Sequential(
            *(DBlock(before, after, first=i == 0, spectral=spectral, gain=gain) for i, (before, after) in stages)
        )
        self._pool = pool
        self.features = widths[-1] * ((size >> blocks) ** 2 if pool == "flatten" else 1)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, S, S) in [-1, 1] -> features (B, F)."""
        last = functional.relu(self.blocks(image))
        return last.flatten(1) if self._pool == "flatten" else last.sum(dim=(2, 3))


class Discriminator(nn.Module):
    """phi1, phi3 and varphi. With depth it takes two more channels: depth, and where it is known."""

    def __init__(self, config: PoseGANConfig) -> None:
        super().__init__()
        inputs = 5 if config.has_depth else 3
        self.trunk = Trunk(inputs, config.size, config.blocks, config.width, config.pool, gain=config.gain)
        self.pose = Linear(self.trunk.features, config.pose_dim)
        self.realism = Linear(self.trunk.features, 1)

    def forward(self, image: Tensor) -> Verdict:
        """Images (B, C, S, S) in [-1, 1]."""
        features = self.trunk(image)
        return Verdict(self.pose(features), self.realism(features)[:, 0], features)


# G: an encoded pose in, the image a camera there would take out.


class Generator(nn.Module):
    """A linear layer to the smallest map, GBlocks, and BN, ReLU, Conv, tanh."""

    def __init__(self, config: PoseGANConfig) -> None:
        super().__init__()
        self._config = config
        widths = channels_of(config.blocks, config.generator_width)[::-1]  # the discriminator's, backwards
        inputs = config.pose_dim * (1 + 2 * config.pose_frequencies)
        self.linear = Linear(inputs, widths[0] * config.bottom**2)
        stages = itertools.pairwise([widths[0], *widths])
        self.blocks = nn.Sequential(*(GBlock(before, after) for before, after in stages))
        self.image = nn.Sequential(
            nn.BatchNorm2d(widths[-1]), nn.ReLU(), Conv(widths[-1], CHANNELS_OF[config.output], 3), nn.Tanh()
        )

    def forward(self, pose: Tensor) -> Tensor:
        """Encoded poses (B, P) -> images (B, C, S, S) in [-1, 1]; channels R, G, B and, if generated, depth."""
        bottom = self._config.bottom
        start = self.linear(fourier_features(pose, self._config.pose_frequencies))
        image: Tensor = self.image(self.blocks(start.reshape(len(pose), -1, bottom, bottom)))
        return image


F = TypeVar("F", bound="PoseFinder")


class PoseFinder(nn.Module):
    """What PoseGAN and PoseNet have in common: queries go to a copy of the network that is quicker.

    Without gradients and in evaluation mode, that is. The copy is made anew after ``eval``, ``to`` or
    ``load_state_dict``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._plain = PlainCopy()

    def train(self: F, mode: bool = True) -> F:
        self._plain.forget()
        return super().train(mode)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        self._plain.forget()
        return super().load_state_dict(state_dict, strict, assign)

    def _apply(self: F, fn: Any, recurse: bool = True) -> F:
        self._plain.forget()
        return super()._apply(fn, recurse)


class PoseGAN(PoseFinder):
    """A RenderModel by its generator and a PoseModel by its discriminator."""

    any_camera = False
    has_confidence = False

    def __init__(self, config: PoseGANConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.size
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, part: str, inputs: Tensor) -> Any:
        """One of the two players: "generator" or "discriminator"."""
        return self.generator(inputs) if part == "generator" else self.discriminator(inputs)

    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> RenderTensors:
        """See :class:`RenderModel`. The camera is not looked at: this network knows the trained one only."""
        pose = torch.from_numpy(normalization.encode_pose(T_map_cam.cpu().numpy())).to(T_map_cam.device)
        image = self.generator(pose).float()
        depth = None
        if self.config.has_depth:
            lowest, highest = normalization.depth_min, normalization.depth_max
            depth = (image[:, 3] + 1) / 2 * (highest - lowest) + lowest  # type: ignore[operator]
        return RenderTensors((image[:, :3] + 1) / 2, depth, None)

    def poses(self, rgb: Tensor, normalization: Normalization) -> PoseEstimates:
        """See :class:`PoseModel`. A network with depth is shown none, as it was in a part of its training."""
        image = rgb * 2 - 1
        if self.config.has_depth:
            image = functional.pad(image, (0, 0, 0, 0, 0, 2))
        verdict = self._plain.of(self.discriminator)(image)
        return PoseEstimates(decoded(verdict.pose, normalization), verdict.features.float(), verdict.realism.float())


def decoded(pose: Tensor, normalization: Normalization) -> Tensor:
    """Encoded poses (B, P) -> T_map_cam (B, 4, 4) float64 on the same device."""
    T_map_cam = normalization.decode_pose(pose.detach().double().cpu().numpy())
    return torch.from_numpy(T_map_cam).to(pose.device)


# PoseNet: a regressor of poses, after Kendall et al., "PoseNet: A Convolutional Network for Real-Time 6-DOF Camera
# Relocalization" (2015), on PoseGAN's trunk or a ResNet.


class Regressor(nn.Module):
    """Trunk and linear layer."""

    def __init__(self, config: PoseNetConfig) -> None:
        super().__init__()
        if config.trunk == "posegan":
            self.trunk: Trunk | ResNet = Trunk(
                3, config.size, config.blocks, config.width, config.pool, config.spectral, config.gain
            )
        else:
            self.trunk = ResNet(config.trunk, config.width)
        self.pose = Linear(self.trunk.features, config.pose_dim, config.spectral)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(image)
        return self.pose(features), features


class PoseNet(PoseFinder):
    """A trunk and a linear layer: a PoseModel. With `spectral` it is PoseGAN's discriminator, no varphi (config A)."""

    def __init__(self, config: PoseNetConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.size
        self.regressor = Regressor(config)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S) in [-1, 1] -> encoded poses (B, P), features (B, F)."""
        found: tuple[Tensor, Tensor] = self.regressor(image)
        return found

    def poses(self, rgb: Tensor, normalization: Normalization) -> PoseEstimates:
        """See :class:`PoseModel`."""
        pose, features = self._plain.of(self.regressor)(rgb * 2 - 1)
        return PoseEstimates(decoded(pose, normalization), features.float(), None)


NETWORKS = {"posegan": (PoseGANConfig, PoseGAN), "posenet": (PoseNetConfig, PoseNet)}

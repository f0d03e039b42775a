"""The families of models, a folder of models/ each; and what a model of any of them can do.

Families of places learn what is seen from where, those of video how deep a picture is and how the camera moved.

A family's folder holds these modules, imported when they are needed (docs/tutorials/model_family.md)::

    config.py    Settings: a TrainConfig (of places) or VideoConfig (of video) with the family's own settings and its
                 recipes; loads no torch
    network.py   NETWORKS: {name: (configuration, network)}, by the names of the family's line below
    learner.py   make(config, recipe, data, device): the Learner of a run
    backend.py   where there is a quicker way than PyTorch on a CPU: make(directory, checkpoint, threads), a Backend. It
                 loads no torch, which an aircraft may lack; config.py then has NETWORK_CONFIGS, {name: configuration},
                 and a configuration says what its network can do (any_camera, has_confidence) and weight_shapes()
    export.py    where there is something to export: export(checkpoint, force), the lines to print; with a backend it is
                 what that needs where there is no torch, and the trainer calls it at the end of a run
    pretrained.py  where others publish weights: ours(tensors) and architecture(...), see training/pretrained.py
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.training.config import RunConfig, TrainConfig, VideoConfig

if TYPE_CHECKING:  # the command line lists the families before it needs torch
    from torch import Tensor, nn


Kind = Literal["place", "video"]


class Family(NamedTuple):
    """The names of a family's models (N: a number) and of its networks in checkpoints, what they are and learn from."""

    models: tuple[str, ...]
    networks: tuple[str, ...]
    text: str
    kind: Kind = "place"


MODELS = "pose2rgbd_ros.models"
POSEGAN = ("posegan", "posegan-a", "posegan-b", "posegan-c", "posenet", "posenet-resnet")
# The registry: folder of models/ -> its line.
FAMILIES = {
    "pose2rgbd": Family(("base", "slice-N"), ("pose2rgbd",), "the paper's: pose -> whole image; N slices of depth"),
    "relief": Family(("relief",), ("relief", "relief-tiles"), "the geometry of the place inside; renders any camera"),
    "warp": Family(("warp-N",), ("warp",), "the N nearest frames, warped; nothing is learnt"),
    "gsplat": Family(("gsplat",), ("gsplat",), "Gaussian splats; trained on a GPU"),
    "posegan": Family(POSEGAN, ("posegan", "posenet"), "finds the poses of images; posegan, -b and -c show images too"),
    "sfmlearner": Family(
        ("sfmlearner",), ("sfmlearner",), "depth and motion by view synthesis, a pose network beside it", "video"
    ),
    "trianflow": Family(
        ("trianflow", "posenet-video", "posenet-flow"),
        ("trianflow", "posenet-video"),
        "depth and motion from video by optical flow and triangulation; baselines with a PoseNet",
        "video",
    ),
    "deepv2d": Family(
        ("deepv2d",),
        ("deepv2d",),
        "depth of several views, taught by true depth and poses; with known poses in metres",
        "video",
    ),
}
# What finds poses without a training (evaluation/poses.py).
UNTRAINED = ("retrieval", "retrieval-inter", "structure", "mean-pose")


def families(kind: Kind) -> dict[str, Family]:
    """Those that learn from places or from video."""
    return {name: family for name, family in FAMILIES.items() if family.kind == kind}


def family_of(model: str) -> str:
    """The family of a model's name; UserError for an unknown one."""
    for family, line in FAMILIES.items():
        if any(re.fullmatch(re.escape(name).replace("N", r"[1-9]\d{0,3}"), model) for name in line.models):
            return family
    if model in UNTRAINED:
        raise UserError(
            f"{model} is not trained: train a model that finds poses (pose2rgbd train posenet DATASET), then "
            f"`pose2rgbd evaluate RUN DATASET --finders {model}` sets it beside that one, made from the same frames"
        )
    raise UserError(f"unknown model {model!r}; choose {model_names()}")


def model_names(kind: Kind | None = None) -> str:
    """All models, or those of a kind, in words."""
    names = [name for family in (FAMILIES if kind is None else families(kind)).values() for name in family.models]
    numbered = " (N: a number, such as slice-10 or warp-12)" if any("N" in name for name in names) else ""
    return ", ".join(names) + numbered


def has_part(family: str, part: str) -> bool:
    """Whether the family's folder holds a module."""
    return importlib.util.find_spec(f"{MODELS}.{family}.{part}") is not None


def part_of(family: str, part: str) -> ModuleType:
    """A module of the family's folder."""
    return importlib.import_module(f"{MODELS}.{family}.{part}")


def settings_of(model: str) -> type[TrainConfig]:
    """The class of the settings of a place's model. UserError: an unknown model, or one that learns from video."""
    found: type[TrainConfig] = _settings_of(model, "place")
    return found


def video_settings_of(model: str) -> type[VideoConfig]:
    """The class of the settings of a model of video. UserError: an unknown model, or one that learns a place."""
    found: type[VideoConfig] = _settings_of(model, "video")
    return found


def _settings_of(model: str, kind: Kind) -> Any:
    family = family_of(model)
    if FAMILIES[family].kind != kind:
        command = {"place": "pose2rgbd train", "video": "pose2rgbd depth train"}
        wrong = {"place": "a place, from poses", "video": "depth, from video"}[FAMILIES[family].kind]
        raise UserError(f"{model} learns {wrong}: {command[FAMILIES[family].kind]} {model}; here: {model_names(kind)}")
    return part_of(family, "config").Settings


def train_config(model: str, **values: Any) -> TrainConfig:
    """The settings of a model's training. UserError: an unknown model, a setting that it does not have, a bad value."""
    return _with_values(settings_of(model), model, values)


def video_config(model: str, **values: Any) -> VideoConfig:
    """The same of a model of video."""
    return _with_values(video_settings_of(model), model, values)


C = TypeVar("C", bound=RunConfig)


def _with_values(cls: type[C], model: str, values: dict[str, Any]) -> C:
    unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
    if unknown:
        raise UserError(f"{model} has no setting {', '.join(unknown)}")
    return cls(model=model, **values)


# A checkpoint's `architecture` mapping says which network is built.


def network_family(network: str) -> str:
    """The family of a network's name in a checkpoint; UserError for an unknown one."""
    for family, line in FAMILIES.items():
        if network in line.networks:
            return family
    known = ", ".join(name for family in FAMILIES.values() for name in family.networks)
    raise UserError(f"unknown network {network!r}; known: {known} (a newer pose2rgbd may know it)")


def build_model(architecture: dict[str, Any], device: str | None = None) -> nn.Module:
    """Network of an architecture mapping ``{"network": name, **configuration}``.

    `device`: where; None: PyTorch's current one.

    Raises:
        UserError: unknown network, unknown or out-of-bounds settings; there is no PyTorch.
    """
    if not isinstance(architecture, dict) or "network" not in architecture:
        raise UserError("the architecture names no network; is this a pose2rgbd model?")
    values = dict(architecture)
    name = values.pop("network")
    try:
        import torch

        config_class, network = part_of(network_family(name), "network").NETWORKS[name]
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        without = [family.models[0] for folder, family in FAMILIES.items() if has_part(folder, "backend")]
        raise UserError(
            f"{name} runs on PyTorch, which is not installed here: install torch, or use one of "
            f"{', '.join(without)} (N: a number)"
        ) from error
    config = settings.from_yaml_dict(config_class, values, where=f"architecture of {name}")
    with torch.device(device) if device else contextlib.nullcontext():
        model: nn.Module = network(config)
    return model


def config_without_torch(architecture: dict[str, Any]) -> Any | None:
    """The configuration of a network whose family renders without PyTorch, else None. UserError: as `build_model`."""
    values = dict(architecture)
    name = values.pop("network")
    family = network_family(name)
    if not has_part(family, "backend"):
        return None
    return settings.from_yaml_dict(
        part_of(family, "config").NETWORK_CONFIGS[name], values, where=f"architecture of {name}"
    )


def architecture_of(model: nn.Module) -> dict[str, Any]:
    """The mapping from which :func:`build_model` makes this network again (without its weights)."""
    for family in FAMILIES:
        for name, (_, network) in part_of(family, "network").NETWORKS.items():
            if isinstance(model, network):
                config: Any = model.config
                values = config.architecture() if hasattr(config, "architecture") else vars(config)
                return {"network": name, **values}
    raise UserError(f"{type(model).__name__} is not a registered network")


# What every renderer of a place can do, whatever is inside: show what a camera at a pose would see.


class RenderTensors(NamedTuple):
    """What a model shows of B views; None for what it does not predict.

    Attributes:
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
    """A network that shows images: an ``nn.Module`` with these."""

    any_camera: bool  # renders any intrinsics; otherwise only those it was trained with
    has_confidence: bool

    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> RenderTensors:
        """Render poses (B, 4, 4) float64 on the model's device, as `camera` sees them; call ``eval()`` first.

        `camera` is the trained one unless ``any_camera``; `normalization` is that of the training set.
        """
        ...


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
    """A network that finds poses: an ``nn.Module`` with these."""

    image_size: int  # side in pixels of the square images it takes

    def poses(self, rgb: Tensor, normalization: Normalization) -> PoseEstimates:
        """Poses of images (B, 3, S, S) in [0, 1], S = image_size, as the checkpoint's camera sees; call ``eval()``
        first.
        """
        ...


# What every network can do that knows depth and motion from images alone, whatever is inside.


@runtime_checkable
class VideoModel(Protocol):
    """A network that knows depth and motion from video: an ``nn.Module`` with these."""

    image_size: tuple[int, int]  # (height, width) in pixels of the images it was trained with

    def depth(self, images: Tensor) -> Tensor:
        """Depth (B, H, W) along the optical axis, positive and in no unit, of images (B, 3, H, W) in [0, 1]; call
        ``eval()`` first. One that needs several views says what it can."""
        ...

    def motions(self, images: Tensor, K: Tensor) -> Tensor:
        """T_tgt_i (B, N, 4, 4) of snippets (B, N, 3, H, W) in time order: the pose of each image's camera in the
        camera of the target, which is the middle one (of two the first) and has the identity.

        K (B, 3, 3): intrinsics of these images, pixel centres at integers, no distortion. Translations are in the unit
        of :meth:`depth`.
        """
        ...


class ViewsDepth(NamedTuple):
    """What B snippets of N images show.

    depth: (B, H, W) of the target along the optical axis, NaN unknown. confidence: (B, H, W) 0..1, 1 throughout from a
        network that does not say where it guesses. T_tgt_i: (B, N, 4, 4) the motions it rests on, as found or as given;
        None from a network that looks at the target alone.
    """

    depth: Tensor
    confidence: Tensor
    T_tgt_i: Tensor | None


@runtime_checkable
class MultiViewModel(Protocol):
    """A VideoModel whose depth is that of several views, with these beside."""

    def from_views(
        self,
        images: Tensor,
        K: Tensor,
        T_tgt_i: Tensor | None = None,
        iterations: int | None = None,
        start: Tensor | Literal["motion", "flat"] = "motion",
    ) -> ViewsDepth:
        """Depth of the targets of snippets, which are as :meth:`VideoModel.motions` has them; call ``eval()`` first.

        Args:
            T_tgt_i: (B, N, 4, 4) motions where they are known: depth is then in their unit, metres. None: found along
                with depth, in the unit that was learnt, which is not to be trusted as metres.
            iterations: times that motions and depth are found from each other; None: as many as it was trained for.
            start: what comes first: motions at sight, the same depth everywhere, or depth (B, H, W) of another model,
                in any unit.
        """
        ...


def depth_of_snippets(model: Any, images: Tensor, K: Tensor, **how: Any) -> ViewsDepth:
    """Depth of the targets of snippets (B, N, 3, H, W) by any VideoModel.

    `how`: see :meth:`MultiViewModel.from_views`; one that looks at the target alone heeds none of it.
    """
    if isinstance(model, MultiViewModel):
        return model.from_views(images, K, **how)
    depth = model.depth(images[:, (images.shape[1] - 1) // 2])
    return ViewsDepth(depth, depth.new_ones(depth.shape), None)

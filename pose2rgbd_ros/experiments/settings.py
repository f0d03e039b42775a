"""Settings of the experiments; nothing here loads torch, so that their help is quick."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.posegan.config import CONFIGS, POSENETS, SIZES, PoseGANSettings
from pose2rgbd_ros.models.posegan.config import Settings as PoseGANTraining
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.families import UNTRAINED, train_config

# Settings tried side by side.


SET_BY_THE_EXPERIMENT = frozenset({"model", "size", "seed", "split", "keep", "device", "clock", "output", "rotation"})
VARIANTS_HELP = (
    "settings to try beside the others, each a row of its own, such as alpha=0.1 or alpha=1,gain=1; the names are "
    "those of pose2rgbd train"
)


def varied(config: TrainConfig, variant: str, option: str = "--variants") -> TrainConfig | None:
    """A training with a variant's settings in place of its own; None where they mean nothing to its model.

    Args:
        variant: NAME=VALUE, and more of them after commas; "" changes nothing. A name without the part in front
            (alpha, for posegan.alpha) will do.
        option: where it was given, for messages.

    Raises:
        UserError: no such setting, one that the experiment sets, a value out of its bounds.
    """
    fields = settings.flat_fields(type(config))
    known = {name.rpartition(".")[2]: name for name in fields} | {name: name for name in fields}
    values = settings.to_flat(config)
    used = not variant
    for part in filter(None, variant.split(",")):
        own, equals, text = part.partition("=")
        name = known.get(own.strip().replace("-", "_"), "")
        if not equals or not name or name in SET_BY_THE_EXPERIMENT:
            reason = "the experiment sets it" if name else f"no setting{settings.nearest(own, known)}"
            raise UserError(f"{option} has {part!r} ({reason}); write NAME=VALUE with a setting of pose2rgbd train")
        values[name] = _read(part, text, fields[name].type, option)
        used = used or config.uses(name)
    return settings.from_flat(type(config), values) if used else None


def configured(word: str, **values: Any) -> TrainConfig:
    """The training of a model as --models has it: its name, and after commas settings of its own (relief,memory=auto).

    Raises:
        UserError: an unknown model; what :func:`varied` raises; settings that mean nothing to the model.
    """
    model, _, variant = word.partition(",")
    config = varied(train_config(model, **values), variant, "--models")
    if config is None:
        raise UserError(f"--models has {word!r}: {variant} means nothing to {model}")
    return config


def _read(part: str, text: str, kind: Any, option: str) -> Any:
    """A value in the type of its setting."""
    value, kinds = yaml.safe_load(text), set(get_args(kind)) or {kind}
    if any(get_origin(each) is Literal for each in kinds):  # choices are checked with the settings
        return value
    if float in kinds and not isinstance(value, bool):
        try:
            return None if value is None else float(value)  # 2e-05 is text to PyYAML
        except ValueError:
            raise UserError(f"{option} has {part!r}; its value must be a number") from None
    plain = kinds & {int, bool, str, NoneType}
    if plain and type(value) not in plain:
        raise UserError(f"{option} has {part!r}; its value must be of type {min(each.__name__ for each in plain)}")
    return value


# The models of a comparison, side by side.


COMPARED = ("base", "slice-10", "relief", "warp-12")
LEAST_SIZE, MOST_SIZE = 32, 4096


@dataclass(frozen=True)
class CompareConfig:
    """Settings of `pose2rgbd experiments compare`."""

    models: tuple[str, ...] = setting(
        COMPARED,
        "the models, such as base or warp-12; relief@512 is relief trained and measured at 512 px, relief,memory=auto "
        "relief with a setting of pose2rgbd train",
    )
    minutes: float = setting(
        10.0, "training time of each run in minutes of the processor (on a GPU: of the wall)", ge=0.0
    )
    epochs: int | None = setting(None, "at most so many epochs a run", ge=1)
    seeds: int = setting(3, "runs of each model, with seeds 0, 1, ...", ge=1, le=100)
    size: int = setting(
        128, "side of the images in pixels, where the model's name has none", ge=LEAST_SIZE, le=MOST_SIZE
    )
    render_sizes: tuple[int, ...] = setting(
        (128, 256, 512), "sides of the pictures whose rendering is timed; Base and Slice have one size only"
    )
    render_threads: int = setting(1, "threads of the processor that render", ge=1)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to train and render")

    def __post_init__(self) -> None:
        settings.check(self)
        if not self.models:
            raise UserError("no models to compare; such as --models relief warp-12")
        if len({(entry.model, entry.size) for entry in self.entries()}) < len(self.models):
            raise UserError("a model is named twice in --models, with the same size")
        for entry in self.entries():
            if not configured(entry.model).shows_images:
                raise UserError(f"{entry.model} shows no pictures; compare poses with experiments localization")
        if not all(LEAST_SIZE <= size <= MOST_SIZE for size in self.render_sizes):
            raise UserError(f"--render-sizes must lie in {LEAST_SIZE}..{MOST_SIZE}: {self.render_sizes}")

    def entries(self) -> list[Entry]:
        """The models, in the order given."""
        return [_entry(name, self.size) for name in self.models]


@dataclass(frozen=True)
class Entry:
    """A row of the comparison: a model, as :func:`configured` takes it, and the side of its images in pixels."""

    name: str
    model: str
    size: int


def _entry(name: str, size: int) -> Entry:
    match = re.fullmatch(r"([^@,]+)(?:@([1-9]\d{1,3}))?(,[^@]+)?", name)
    if match is None or not LEAST_SIZE <= int(match[2] or size) <= MOST_SIZE:
        raise UserError(f"--models has {name!r}; write a model, model@pixels (relief@512), or one,NAME=VALUE")
    return Entry(name, match[1] + (match[3] or ""), int(match[2] or size))


# The league: renderers for a CPU at growing budgets.


OPENSPLAT = "opensplat"


@dataclass(frozen=True)
class LeagueConfig:
    """Settings of `pose2rgbd experiments league`."""

    models: tuple[str, ...] = setting(
        ("relief", "relief,memory=auto", "warp-12", "base", "slice-10", OPENSPLAT),
        "who takes part beside the nearest frame, a model or one with settings of pose2rgbd train; opensplat is a "
        "program of others, and left out where there is none",
    )
    minutes: tuple[float, ...] = setting(
        (1.5, 5.0, 15.0), "budgets of a training, in minutes of one thread of the processor"
    )
    steps: int | None = setting(None, "steps of each training, in place of --minutes", ge=1)
    sizes: tuple[int, ...] = setting((128, 256, 512), "sides of the images in pixels")
    seeds: int = setting(3, "runs of each row, with seeds 0, 1, ...", ge=1, le=100)
    frames: int = setting(600, "frames of each flight that is simulated where no dataset is given", ge=20)
    opensplat: str = setting(OPENSPLAT, "the program: its name on PATH, or its path")
    opensplat_points: int = setting(20_000, "points it begins from, of recorded depth", ge=100, le=10_000_000)
    opensplat_arguments: str = setting(
        "--num-downscales 0",
        "its further arguments; by default it trains at full size at once, for budgets end before its schedule does",
    )

    def __post_init__(self) -> None:
        settings.check(self)
        for option, given in (("--models", self.models), ("--minutes", self.minutes), ("--sizes", self.sizes)):
            if not given or len(set(given)) < len(given):
                raise UserError(f"{option}: {'something is there twice' if given else 'nothing is there'}")
        if not all(minutes > 0 for minutes in self.minutes):
            raise UserError(f"--minutes must be above 0: {' '.join(f'{each:g}' for each in self.minutes)}")
        if not all(LEAST_SIZE <= size <= MOST_SIZE for size in self.sizes):
            raise UserError(f"--sizes must lie in {LEAST_SIZE}..{MOST_SIZE}: {' '.join(map(str, self.sizes))}")
        if not self.ours:
            raise UserError(f"--models has {OPENSPLAT} alone; name one of ours beside it, such as relief")
        for model in self.ours:
            if not configured(model).shows_images:
                raise UserError(f"{model} shows no pictures; compare poses with experiments localization")

    @property
    def ours(self) -> tuple[str, ...]:
        """The models that we train."""
        return tuple(model for model in self.models if model != OPENSPLAT)

    @property
    def budgets(self) -> tuple[float | None, ...]:
        """Minutes of each training, growing; one None where steps end it."""
        return (None,) if self.steps is not None else tuple(sorted(self.minutes))


# Ways of finding a camera, side by side.


NETWORKS = (*CONFIGS, *POSENETS)


@dataclass(frozen=True)
class LocalizationConfig:
    """Settings of `pose2rgbd experiments localization`."""

    models: tuple[str, ...] = setting(NETWORKS, "the networks to train")
    finders: tuple[str, ...] = setting(UNTRAINED, "what is compared with them and not trained")
    sizes: tuple[int, ...] = setting((32, 64), "sides of the networks' images in pixels: 32, 64, 128, 256")
    seeds: int = setting(3, "runs of each model and size, with seeds 0, 1, ...", ge=1, le=100)
    recipe: Literal["default", "paper"] = setting(
        "default",
        "optimisation, and weights of the losses; paper: PoseGAN's own and its 100,000 steps for every network",
    )
    steps: int | None = setting(None, "steps of each run, so that all learn from equally many images", ge=1)
    minutes: float | None = setting(
        None,
        "training time of each run, in minutes of the clock; 5 where neither --steps nor the recipe ends it",
        ge=0.0,
    )
    epochs: int | None = setting(None, "at most so many epochs a run", ge=1)
    variants: tuple[str, ...] = setting((), VARIANTS_HELP)
    clock: Literal["auto", "cpu", "wall"] = setting(
        "auto", "what --minutes counts; auto: processor time on a CPU, time on the wall on a GPU"
    )
    width: float = setting(0.5, "factor on the networks' channels (1: the paper's)", ge=1 / 32, le=4.0)
    split: Literal["auto", "dataset", "segments", "random"] = setting(
        "auto",
        "held-out frames; dataset: its own (7-Scenes and Cambridge: the official one); segments: stretches of track; "
        "auto: the first, where there is one",
    )
    frames: int = setting(1500, "frames of the flight that is simulated where no dataset is given", ge=20)
    saliency: int = setting(3, "held-out frames of a saliency sheet; 0: no sheets", ge=0, le=20)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to train")
    posegan: PoseGANSettings = field(default_factory=PoseGANSettings)

    def __post_init__(self) -> None:
        settings.check(self)
        for given, known, option in (
            (self.models, NETWORKS, "--models"),
            (self.finders, UNTRAINED, "--finders"),
            (self.sizes, SIZES, "--sizes"),
        ):
            wrong = [each for each in given if each not in known]
            if wrong or len(set(given)) < len(given):
                problem = f"{wrong[0]!r} is unknown" if wrong else "something is there twice"
                raise UserError(f"{option}: {problem}; choose from {', '.join(map(str, known))}")
        if not self.sizes or not (self.models or self.finders):
            raise UserError("nothing to compare; give --sizes, and --models or --finders")
        if self.steps is not None and self.epochs is not None:
            raise UserError("--steps and --epochs both say how long to train; leave one out")
        if len({*self.variants, ""}) <= len(self.variants):
            raise UserError("--variants: something is there twice, or empty")
        for variant in self.variants:
            if not any(varied(train_config(model), variant) for model in self.models):
                raise UserError(f"--variants: {variant} means nothing to {', '.join(self.models) or 'no network'}")
        if self.posegan.width not in (1.0, self.width):
            raise UserError(f"give the width as --width {self.posegan.width:g}, not with --posegan.width")

    @property
    def length(self) -> tuple[int | None, float | None]:
        """Steps and minutes that end a run; None: they do not."""
        steps = self.steps
        if steps is None and self.minutes is None and self.epochs is None and self.recipe == "paper":
            steps = PoseGANTraining.RECIPES["paper"].steps
        return steps, 5.0 if steps is None and self.minutes is None else self.minutes

    def clock_on(self, device: str) -> Literal["cpu", "wall"]:
        """The clock of the trainings on "cpu" or "cuda"."""
        if self.clock == "auto":
            return "cpu" if device == "cpu" else "wall"
        return self.clock


# The paper's tables.


@dataclass(frozen=True)
class TablesConfig:
    """Settings of `pose2rgbd experiments tables`."""

    scale: Literal["cpu", "paper"] = setting(
        "cpu", "cpu: 128 px, 1,500 frames, some processor minutes a row; paper: 512 px, 11,085 frames, 100 epochs (GPU)"
    )
    tables: Literal["all", "1", "2", "3"] = setting("all", "which of the paper's tables")
    minutes: float | None = setting(
        None, "training time of each row in minutes of the processor (on a GPU: of the wall); cpu scale: 5", ge=0.0
    )
    epochs: int | None = setting(
        None, "so many epochs a row, at equal epochs where --minutes is not given too; paper scale: 100", ge=1
    )
    size: int | None = setting(None, "side of the images in pixels; cpu scale: 128, paper scale: 512", ge=32)
    width: float = setting(1.0, "factor on the networks' channels (1: the paper's)", ge=1 / 64)
    frames: int | None = setting(
        None, "frames of each flight that is simulated; cpu scale: 1,500, paper scale: 11,085", ge=20
    )
    recipe: Literal["default", "paper"] | None = setting(
        None, "optimisation; cpu scale: default, which is further after minutes; paper scale: paper"
    )
    bce_reduction: Literal["mean", "sum"] = setting("mean", "cross entropy over the slices, of the Slice rows")
    variants: tuple[str, ...] = setting((), VARIANTS_HELP)
    adversarial_weight: float = setting(0.003, "of the rows with the adversarial loss", ge=0.0)
    consistency_weight: float = setting(0.5, "of the rows with the consistency loss", ge=0.0)
    further: bool = setting(True, "add the rows of the paper's further work to table 2")
    seed: int = setting(0, "of the weights, the split, the order of the frames and the flights", ge=0)
    seeds: int = setting(
        1, "runs of each row, with seeds --seed and the following, over the same flights", ge=1, le=100
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to train")
    precision: Literal["32", "bf16"] = setting("32", "bf16 needs a GPU")
    force: bool = setting(False, "paper scale without a GPU, which takes weeks")

    def __post_init__(self) -> None:
        settings.check(self)
        if len({*self.variants, ""}) <= len(self.variants):
            raise UserError("--variants: something is there twice, or empty")
        for variant in self.variants:
            varied(train_config("slice-10"), variant)

    def resolved(self) -> TablesConfig:
        """With the scale's own values for what was not given."""
        own: dict[str, Any] = (
            {"minutes": 5.0, "size": 128, "frames": 1500, "recipe": "default"}
            if self.scale == "cpu"
            else {"epochs": 100, "size": 512, "frames": 11085, "recipe": "paper"}
        )
        missing = {name: value for name, value in own.items() if getattr(self, name) is None}
        if self.epochs is not None:
            missing.pop("minutes", None)
        return dataclasses.replace(self, **missing)

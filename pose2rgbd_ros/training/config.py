"""Settings that every training has, and the recipes that fill in what is not given. Families add their own to them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import setting

Output = Literal["depth", "rgb", "rgbd"]
# Minutes of training in `pose2rgbd run`, of all models together: a demo's worth, and that of pictures which must give
# the shape of the place, too; and how long measuring, calibrating and starting nodes take beside.
DEMO_MINUTES, PICTURES_MINUTES, AROUND_MINUTES = 1.5, 3.0, 1.5


@dataclass(frozen=True)
class Recipe:
    """How the weights are optimised; each field can be overridden by the setting of the same name."""

    learning_rate: float
    schedule: str
    warmup: float
    batch_size: int
    epochs: int
    weight_decay: float
    ema_decay: float = 0.0
    image_loss: str = "charbonnier"  # of families that have no loss of their own
    pose_frequencies: int = 0
    steps: int | None = None  # in place of epochs


UNLIMITED_EPOCHS = 10**6  # the time ends the run


@dataclass(frozen=True)
class RunConfig:
    """Settings of every training, whatever it learns from."""

    RECIPES: ClassVar[dict[str, Recipe]]  # by the choices of `recipe`; "default" is there

    model: str  # as `pose2rgbd train MODEL` has it
    epochs: int | None = setting(None, "passes over the training frames (unlimited under --max-minutes)", ge=1)
    steps: int | None = setting(None, "steps of the optimiser, in place of epochs", ge=1)
    max_minutes: float | None = setting(None, "stop after so many minutes; the schedule is fitted to it", ge=0.0)
    clock: Literal["wall", "cpu"] = setting(
        "wall", "what --max-minutes counts: time on the wall, or processor time (fair on a shared machine)"
    )
    learning_rate: float | None = setting(None, "the optimiser's peak learning rate", ge=0.0)
    schedule: Literal["fixed", "cosine"] | None = setting(None, "learning rate over the run")
    warmup: float | None = setting(None, "share of the run in which the learning rate rises", ge=0.0, le=0.9)
    batch_size: int | None = setting(None, "images a step, over all processes", ge=1)
    weight_decay: float | None = setting(None, "AdamW's weight decay", ge=0.0)
    ema_decay: float | None = setting(None, "average of the weights over steps; 0: none", ge=0.0, le=0.99999)

    test_fraction: float = setting(
        0.2,
        "share of the frames held out, where the dataset does not say; of these, half choose and half judge",
        ge=0.01,
        le=0.9,
    )
    seed: int = setting(0, "of the weights, the split and the order of the frames", ge=0)
    validate_every: int | None = setting(None, "epochs between validations (as often as 10 % of the time allows)", ge=1)
    early_stop: int = setting(0, "stop after so many validations without a new best; 0: never", ge=0)
    stop_collapsed: bool = setting(
        True,
        "stop a run that answers nearly alike whatever its input, after a third of it; where a falling rate could "
        "still free it, after four fifths",
    )
    keep: Literal["best", "last"] = setting(
        "best",
        "weights in checkpoint/; best: by (at most 96 of) the held-out frames that choose, never by those that judge; "
        "last: the latest, also where too few frames are held out to choose by",
    )

    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to train")
    precision: Literal["32", "bf16"] = setting("32", "bf16 needs a GPU")
    tensorboard: bool = setting(True, "write TensorBoard logs to tb/")

    def __post_init__(self) -> None:
        settings.check(self)
        if self.epochs is not None and self.steps is not None:
            raise UserError("--epochs and --steps both say how long to train; leave one out")
        if self.keep == "last" and self.early_stop:
            raise UserError(
                "--early-stop chooses when to stop by held-out frames, --keep last chooses nothing; leave one out"
            )

    @property
    def recipe_name(self) -> str:
        return str(getattr(self, "recipe", "default"))

    @property
    def leaves_unused(self) -> bool:
        """Whether there are parameters that the loss does not depend on, which DDP has to know."""
        return False

    def uses(self, name: str) -> bool:
        """Whether a setting, such as posegan.alpha, means anything to this model's training."""
        return True

    def resolved(self) -> dict[str, Any]:
        """A run's settings as it keeps them, ready for YAML."""
        return settings.to_yaml_dict(self)

    def with_defaults(self, values: dict[str, Any]) -> dict[str, Any]:
        """The settings of an earlier run of this model, those that came later than it at their defaults.

        So it was trained. Runs from before the families had settings of their own keep those of all families, whose
        names and places are the same; what this model does not have is left as it is, and never looked at.
        """
        return _filled(values, type(self)(model=self.model).resolved())


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Settings of a training that learns a place; a run keeps them in its config.yaml.

    A family's `Settings` (models/FAMILY/config.py) is this class with the family's own settings and recipes; one with
    a choice among its recipes has a setting `recipe`.
    """

    finds_poses: ClassVar[bool] = False  # then it learns from crops of larger frames, and of colour alone by default

    output: Literal["auto", "depth", "rgb", "rgbd"] = setting(
        "auto", "what to learn; auto: rgbd, or rgb without depth and for models that find poses"
    )
    size: int = setting(128, "side of the images in pixels, a power of two (the paper: 512)", ge=32)
    fit: Literal["square", "crop"] = setting("square", "how frames become square: squeezed as in the paper, or cropped")
    rotation: Literal["quaternion", "euler"] = setting("quaternion", "rotation of encoded poses (6DoF-Quat or 6DoF)")
    max_depth: float | None = setting(
        None, "depth beyond this, in the dataset's unit, counts as unknown (a far horizon takes all the range)", ge=0.0
    )

    pose_range: Literal["axis", "joint"] = setting(
        "axis",
        "what the numbers of an encoded pose span; axis: each its own extremes, as in the paper; joint: one range for "
        "the axes of position and one for the rotation, so that jitter weighs as little as it moves",
    )

    split: Literal["auto", "dataset", "segments", "random", "lines+random"] = setting(
        "auto",
        "dataset: its own (split.txt); segments: held-out stretches of track; random: the paper's 80/20; "
        "lines+random: the first two's frames and a random share of the others, scored apart; "
        "auto: the dataset's own, or else segments",
    )

    @property
    def shows_images(self) -> bool:
        return True

    def check_trainable(self, has_depth: bool) -> None:
        """UserError: impossible settings for a dataset with or without depth, before its frames are read."""
        self.output_for(has_depth)

    def output_for(self, has_depth: bool) -> Output:
        """What the model is to predict. UserError: depth asked of a dataset without it."""
        output: Output = (
            ("rgbd" if has_depth and not self.finds_poses else "rgb") if self.output == "auto" else self.output
        )
        if output != "rgb" and not has_depth:
            raise UserError(f"the dataset has no depth, so output {output!r} cannot be learnt; use output rgb")
        return output


@dataclass(frozen=True)
class VideoConfig(RunConfig):
    """Settings of a training that learns depth and motion from video; families add their own."""

    supervised: ClassVar[bool] = False  # whether it learns from true depth and poses; most see images alone

    image_width: int = setting(128, "width of the images in pixels", ge=16)
    image_height: int | None = setting(
        None, "their height in pixels (default: in the shape of the first source's images, a multiple of 32)", ge=16
    )
    frames: int = setting(3, "images of a snippet; the middle one's depth is learnt, of 2 the first's", ge=2)
    stride: int = setting(1, "a snippet takes every so many frames", ge=1)
    augment: bool = setting(True, "change training images at random, as the recipe says: enlarged, cropped, mirrored")
    weights: tuple[Path, ...] = setting(
        (), "files of weights to begin with: safetensors, or state dicts that others published"
    )
    hfov_deg: float | None = setting(
        None, "horizontal field of view in degrees, of sources that do not know their lens", ge=1.0, le=179.0
    )
    max_depth: float | None = setting(None, "true depth beyond this does not count where a run is judged by it", ge=0.0)
    split: Literal["auto", "dataset", "segments"] = setting(
        "auto",
        "dataset: its own (split.txt); segments: held-out stretches of track; auto: the source's own, or else segments",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames != 2 and self.frames % 2 == 0:
            raise UserError(f"frames is {self.frames}; a snippet has 2 images or an odd number, whose middle counts")


@dataclass(frozen=True)
class ViewSettings:
    """How a model of several views finds depth; models of one image know none of it."""

    views: int | None = setting(None, "images that one depth is made from, as trained or otherwise", ge=2)
    iterations: int | None = setting(
        None, "times that depth and motions are found from each other (as trained)", ge=0, le=100
    )
    start: str = setting(
        "motion",
        "what comes first: motion, found at sight; flat: the same depth everywhere; or the run of another model of "
        "video, whose depth it is",
    )

    @property
    def is_default(self) -> bool:
        return self == ViewSettings()


def _filled(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    parts = {
        name: _filled(value, defaults[name])
        for name, value in values.items()
        if isinstance(value, dict) and isinstance(defaults.get(name), dict)
    }
    return {**defaults, **values, **parts}


def resolve_recipe(config: RunConfig) -> Recipe:
    """The recipe with the user's own settings on top.

    Under ``max_minutes`` the default recipe's epochs do not end the run; the paper's 100 do.
    """
    names = [field.name for field in dataclasses.fields(Recipe)]
    given = {name: value for name in names if (value := getattr(config, name, None)) is not None}
    if config.epochs is not None:
        given["steps"] = None
    elif config.max_minutes is not None and config.recipe_name == "default":
        given["epochs"] = UNLIMITED_EPOCHS
    return dataclasses.replace(config.RECIPES[config.recipe_name], **given)

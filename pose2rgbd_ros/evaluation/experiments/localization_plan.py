"""Which ways of finding a camera are compared, at which cost."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.experiments.run import Job
from pose2rgbd_ros.evaluation.finders import NAMES as FINDERS
from pose2rgbd_ros.models.posegan.config import CONFIGS, POSENETS, SIZES, PoseGANSettings
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.device import pick_device

MODELS = (*CONFIGS, *POSENETS)
TITLES = {
    "posegan": "PoseGAN",
    "posegan-a": "PoseGAN-configA",
    "posegan-b": "PoseGAN-configB",
    "posegan-c": "PoseGAN-configC",
    "posenet": "PoseNet on PoseGAN's trunk",
    "posenet-resnet": "PoseNet on ResNet-34",
    "retrieval": "retrieval",
    "retrieval-inter": "retrieval + interpolation",
    "structure": "structure",
    "mean-pose": "mean training pose",
}


@dataclass(frozen=True)
class LocalizationConfig:
    """Settings of `pose2rgbd experiments localization`."""

    models: tuple[str, ...] = setting(MODELS, "the networks to train")
    finders: tuple[str, ...] = setting(FINDERS, "what is compared with them and not trained")
    sizes: tuple[int, ...] = setting((32, 64), "sides of the networks' images in pixels: 32, 64, 128, 256")
    seeds: int = setting(3, "runs of each model and size, with seeds 0, 1, ...", ge=1, le=100)
    minutes: float = setting(5.0, "training time of each run, in minutes of the clock", ge=0.0)
    epochs: int | None = setting(None, "at most so many epochs a run", ge=1)
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
            (self.models, MODELS, "--models"),
            (self.finders, FINDERS, "--finders"),
            (self.sizes, SIZES, "--sizes"),
        ):
            wrong = [each for each in given if each not in known]
            if wrong or len(set(given)) < len(given):
                problem = f"{wrong[0]!r} is unknown" if wrong else "something is there twice"
                raise UserError(f"{option}: {problem}; choose from {', '.join(map(str, known))}")
        if not self.sizes or not (self.models or self.finders):
            raise UserError("nothing to compare; give --sizes, and --models or --finders")
        if self.posegan.width not in (1.0, self.width):
            raise UserError(f"give the width as --width {self.posegan.width:g}, not with --posegan.width")

    def clock_on(self, device: str) -> Literal["cpu", "wall"]:
        """The clock of the trainings on "cpu" or "cuda"."""
        if self.clock == "auto":
            return "cpu" if device == "cpu" else "wall"
        return self.clock


def job(model: str, size: int, seed: int, dataset: Path, config: LocalizationConfig) -> Job:
    """One training. All are given the same time, by the same clock; the frames they are measured on choose nothing."""
    chosen = TrainConfig(
        model=model,
        size=size,
        max_minutes=config.minutes,
        epochs=config.epochs,
        clock=config.clock_on(pick_device(config.device)),
        split=config.split,
        seed=seed,
        keep="last",
        device=config.device,
        tensorboard=False,
        posegan=dataclasses.replace(config.posegan, width=config.width),
    )
    return Job(f"{place_name(dataset)}-{model}-{size}-seed{seed}", dataset, chosen)


def place_name(dataset: Path) -> str:
    """A dataset in the names of its runs."""
    return dataset.resolve().name

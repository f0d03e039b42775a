"""Which trainings a comparison of models is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.experiments.run import Job
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import TrainConfig, family_of

MODELS = ("base", "slice-10", "relief", "warp-12")
LEAST_SIZE, MOST_SIZE = 32, 4096


@dataclass(frozen=True)
class CompareConfig:
    """Settings of `pose2rgbd experiments compare`."""

    models: tuple[str, ...] = setting(
        MODELS, "the models, such as base or warp-12; relief@512 is relief trained and measured at 512 px"
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
            if family_of(entry.model) == "posenet":
                raise UserError(
                    f"{entry.model} shows no pictures; compare poses with experiments localization"
                )
        if not all(LEAST_SIZE <= size <= MOST_SIZE for size in self.render_sizes):
            raise UserError(f"--render-sizes must lie in {LEAST_SIZE}..{MOST_SIZE}: {self.render_sizes}")

    def entries(self) -> list[Entry]:
        """The models, in the order given."""
        return [_entry(name, self.size) for name in self.models]


@dataclass(frozen=True)
class Entry:
    """A row of the comparison: a model and the side of its images in pixels."""

    name: str
    model: str
    size: int


def jobs(entry: Entry, dataset: Path, config: CompareConfig, clock: str) -> list[Job]:
    """One training a seed. All are given the same time by the same clock ("cpu" or "wall")."""
    return [
        Job(
            f"{entry.model}-{entry.size}-seed{seed}",
            dataset,
            TrainConfig(
                model=entry.model,
                size=entry.size,
                max_minutes=config.minutes,
                epochs=config.epochs,
                clock=clock,  # type: ignore[arg-type]
                split="lines+random",
                seed=seed,
                device=config.device,
                tensorboard=False,
            ),
        )
        for seed in range(config.seeds)
    ]


def _entry(name: str, size: int) -> Entry:
    match = re.fullmatch(r"([^@]+)(?:@([1-9]\d{1,3}))?", name)
    if match is None or not LEAST_SIZE <= int(match[2] or size) <= MOST_SIZE:
        raise UserError(f"--models has {name!r}; write a model, or model@pixels such as relief@512")
    return Entry(name, match[1], int(match[2] or size))

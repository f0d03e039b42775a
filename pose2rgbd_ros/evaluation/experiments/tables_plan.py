"""Which trainings make up the paper's tables 1, 2 and 3, and what the paper printed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.settings import setting

Place = Literal["synthetic", "real"]
OUTPUTS = {"Depth": "depth", "RGB": "rgb", "RGBD": "rgbd"}
INPUTS = {"6DoF": "euler", "6DoF-Quat": "quaternion"}


@dataclass(frozen=True)
class TablesConfig:
    """Settings of `pose2rgbd experiments tables`."""

    scale: Literal["cpu", "paper"] = setting(
        "cpu",
        "cpu: 128 px, 1,500 frames, some processor minutes a row; paper: 512 px, 11,085 frames, 100 epochs (GPU)",
    )
    tables: Literal["all", "1", "2", "3"] = setting("all", "which of the paper's tables")
    minutes: float | None = setting(
        None,
        "training time of each row in minutes of the processor (on a GPU: of the wall); cpu scale: 5",
        ge=0.0,
    )
    epochs: int | None = setting(None, "at most so many epochs a row; paper scale: 100", ge=1)
    size: int | None = setting(None, "side of the images in pixels; cpu scale: 128, paper scale: 512", ge=32)
    width: float = setting(1.0, "factor on the networks' channels (1: the paper's)", ge=1 / 64)
    frames: int | None = setting(
        None, "frames of each flight that is simulated; cpu scale: 1,500, paper scale: 11,085", ge=20
    )
    recipe: Literal["default", "paper"] | None = setting(
        None, "optimisation; cpu scale: default, which is further after minutes; paper scale: paper"
    )
    adversarial_weight: float = setting(0.003, "of the rows with the adversarial loss", ge=0.0)
    consistency_weight: float = setting(0.5, "of the rows with the consistency loss", ge=0.0)
    further: bool = setting(True, "add the rows of the paper's further work to table 2")
    seed: int = setting(0, "of the weights, the split, the order of the frames and the flights", ge=0)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to train")
    precision: Literal["32", "bf16"] = setting("32", "bf16 needs a GPU")
    force: bool = setting(False, "paper scale without a GPU, which takes weeks")

    def __post_init__(self) -> None:
        settings.check(self)

    def resolved(self) -> TablesConfig:
        """With the scale's own values for what was not given."""
        own: dict[str, Any] = (
            {"minutes": 5.0, "size": 128, "frames": 1500, "recipe": "default"}
            if self.scale == "cpu"
            else {"epochs": 100, "size": 512, "frames": 11085, "recipe": "paper"}
        )
        missing = {name: value for name, value in own.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)


@dataclass(frozen=True)
class Row:
    """One training: its cells in front, what the paper printed (RGB of 255, depth; None: not there), its settings."""

    cells: tuple[str, ...]
    paper: tuple[float | None, float | None]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """The run's folder; rows of equal settings share it, as Base does in tables 1 and 2."""
        further = [key.removesuffix("_weight") for key in self.settings if key.endswith("_weight")]
        return "-".join(
            [self.settings["model"], self.settings["rotation"], self.settings["output"], *further]
        )


@dataclass(frozen=True)
class Table:
    """A table of the paper. `columns` name the rows' cells."""

    number: int
    title: str
    columns: tuple[str, ...]
    place: Place
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = field(default_factory=tuple)


def tables(config: TablesConfig) -> list[Table]:
    """The tables asked for."""
    chosen = [_table_1(), _table_2(config), _table_3()]
    return [table for table in chosen if config.tables in ("all", str(table.number))]


def _row(
    model: str,
    output: str,
    paper: tuple[float | None, float | None],
    inputs: str = "6DoF-Quat",
    label: str | None = None,
    further: dict[str, float] | None = None,
) -> Row:
    """`label` stands in front; by default the model in the paper's words."""
    settings = {"model": model, "rotation": INPUTS[inputs], "output": OUTPUTS[output], **(further or {})}
    return Row((label or model.capitalize(), output), paper, settings)


def _table_1() -> Table:
    paper = {
        ("6DoF", "Depth"): (None, 8.2),
        ("6DoF", "RGB"): (20.96, None),
        ("6DoF", "RGBD"): (21.45, 8.85),
        ("6DoF-Quat", "Depth"): (None, 8.02),
        ("6DoF-Quat", "RGB"): (20.78, None),
        ("6DoF-Quat", "RGBD"): (21.13, 8.41),
    }
    rows = tuple(
        _row("base", output, figures, inputs, label=inputs) for (inputs, output), figures in paper.items()
    )
    return Table(
        1, "Euler angles (6DoF) against quaternion (6DoF-Quat), Base", ("Input", "Output"), "synthetic", rows
    )


def _table_2(config: TablesConfig) -> Table:
    paper = {
        ("base", "Depth"): (None, 8.02),
        ("base", "RGBD"): (21.13, 8.41),
        ("slice-10", "Depth"): (None, 7.23),
        ("slice-10", "RGBD"): (20.71, 7.01),
        ("slice-32", "Depth"): (None, 6.31),
        ("slice-32", "RGBD"): (20.39, 6.97),
        ("slice-64", "Depth"): (None, 6.64),
        ("slice-64", "RGBD"): (20.37, 7.1),
    }
    rows = [_row(model, output, figures) for (model, output), figures in paper.items()]
    if config.further:
        adversarial = {"adversarial_weight": config.adversarial_weight}
        consistency = {"consistency_weight": config.consistency_weight}
        for label, losses in (
            ("Base + adversarial", adversarial),
            ("Base + consistency", consistency),
            ("Base + both", adversarial | consistency),
        ):
            rows.append(_row("base", "RGBD", (None, None), label=label, further=losses))
    remarks = (
        "The rows with + are the further work that the paper names and does not measure; how they are done here is a "
        f"reconstruction (weights: adversarial {config.adversarial_weight:g}, consistency "
        f"{config.consistency_weight:g}).",
    )
    return Table(
        2, "Base against Slice", ("Model", "Output"), "synthetic", tuple(rows), remarks * config.further
    )


def _table_3() -> Table:
    paper = {
        ("base", "Depth"): (None, 0.01874),
        ("base", "RGBD"): (24.91, 0.01915),
        ("slice-10", "Depth"): (None, 0.0147),
        ("slice-10", "RGBD"): (24.82, 0.01449),
    }
    rows = tuple(_row(model, output, figures) for (model, output), figures in paper.items())
    remark = (
        "Depth here is relative: an error has no unit and is not comparable with another dataset's, nor with the paper's, "
        "whose depths came from a network of unknown scale. It compares the rows."
    )
    return Table(3, "Base against Slice, relative depth", ("Model", "Output"), "real", rows, (remark,))

"""`pose2rgbd experiments compare DATASET`: models side by side, at equal training time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.evaluation.experiments.compare_plan import CompareConfig


@dataclasses.dataclass
class Arguments:
    """Train each model for the same time, measure all on the same held-out frames. Ctrl-C saves; the same command
    goes on."""

    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="the dataset's folder")]
    out: Annotated[Path, tyro.conf.arg(help="folder of the comparison and its runs")] = Path("runs/compare")
    options: Annotated[CompareConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=CompareConfig
    )


def main(argv: list[str]) -> int:
    """Print the comparison and where it is. Exit status 1 when a model could not be trained."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd experiments compare")
    from pose2rgbd_ros.evaluation.experiments.compare import compare  # torch only once it is needed
    from pose2rgbd_ros.evaluation.experiments.compare_report import markdown

    comparison = compare(arguments.dataset, arguments.out, arguments.options)
    print(markdown(comparison))
    print(f"look at {arguments.out / 'compare.png'}; {arguments.out / 'compare.md'} is the text above")
    return 1 if any(each.error for each in comparison.models) else 0

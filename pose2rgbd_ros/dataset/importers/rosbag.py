"""Recordings to a dataset: two passes per bag (poses first, then images streaming by), in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pose2rgbd_ros import settings
from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.dataset.importers import mount
from pose2rgbd_ros.dataset.importers.config import ConvertConfig as ConvertConfig
from pose2rgbd_ros.dataset.importers.recording import Recording
from pose2rgbd_ros.dataset.importers.report import ConvertReport as ConvertReport
from pose2rgbd_ros.dataset.importers.target import Target
from pose2rgbd_ros.dataset.layout import require_distinct
from pose2rgbd_ros.errors import UserError, counted

_WAYS_OUT = {
    "pose_gap": "--max-pose-gap-s bridges longer silences of the poses",
    "no_depth": "--depth-tolerance-s allows larger differences of the stamps, --depth-topic none does without depth",
    "depth_unreadable": "--depth-topic picks another topic, or none",
    "depth_size": "--depth-topic picks another topic, or none",
    "image_unreadable": "--image-topic picks another topic",
}


def convert(
    bags: Sequence[Path | str], out: Path | str, config: ConvertConfig | None = None
) -> ConvertReport:
    """Convert recordings of one place into the dataset `out`.

    Images that cannot become frames are counted by reason; the report is also written to `out`/convert_report.yaml.
    An interrupted conversion (Ctrl-C, kill -9, disk full) is continued with `resume`.

    Raises:
        UserError: a recording cannot be read, lacks a topic, no image has a pose, or the disk is full. Frames
            written before stay.
    """
    config = config or ConvertConfig()
    settings.check(config)
    if config.body_to_camera != "auto":
        mount.parse(config.body_to_camera)
    if not bags:
        raise UserError("no recording was given")
    require_distinct(map(Path, bags))
    report = ConvertReport(str(out), settings.to_yaml_dict(config))
    target = Target(Path(out), config)
    with target.closing(report):
        for bag in bags:
            part = report.begin(bag)
            with open_bag(bag) as reader:
                Recording(target, reader, part).run()
        if not report.frames_written and not report.frames_already_there:
            raise UserError(_why_nothing(report))
    return report


def _why_nothing(report: ConvertReport) -> str:
    """One line on why there is not one frame."""
    hints = [bag.clock_hint for bag in report.bags if bag.clock_hint]
    if hints:
        return hints[0]
    images = sum(bag.images for bag in report.bags)
    counts = ", ".join(f"{count} {reason}" for reason, count in report.rejects.items())
    examples = {run.example: None for bag in report.bags for run in bag.rejected if run.example}
    example = f"; for example: {next(iter(examples))}" if examples else ""
    commonest = max(report.rejects, key=lambda reason: report.rejects[reason], default="")
    way_out = f"; {_WAYS_OUT[commonest]}" if commonest in _WAYS_OUT else ""
    return f"none of {counted(images, 'image')} became a frame ({counts or 'no image could be read'}){example}{way_out}"

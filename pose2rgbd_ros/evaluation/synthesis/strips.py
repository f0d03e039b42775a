"""Sheets of strips: a row of pictures for each thing compared, beside a map where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray

TILE_INCH = 1.35
Rings = Sequence[tuple[float, float, float]]  # x, y and radius in pixels


@dataclass
class Strip:
    """Pictures in a row: `titles` above them, `rings` drawn in red on each; both may be empty."""

    label: str
    images: Sequence[AnyArray]
    titles: Sequence[str] = ()
    rings: Sequence[Rings] = field(default_factory=list)


def draw_strips(
    path: Path, strips: Sequence[Strip], title: str, beside: Callable[[Axes], None] | None = None
) -> None:
    """Write a PNG or JPEG; `beside` draws a map left of the strips. UserError when it cannot be written."""
    columns, rows = max(len(strip.images) for strip in strips), len(strips)
    titled = sum(bool(strip.titles) for strip in strips)
    high = TILE_INCH * rows + 0.2 * titled + 0.45
    map_inch = min(high - 0.6, 4.6) if beside else 0.0
    left = map_inch + (0.75 if beside else 0.1)
    wide = left + 0.25 + TILE_INCH * columns + 0.05
    figure = Figure(figsize=(wide, high), dpi=110)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9, y=1 - 0.1 / high, va="top", parse_math=False)
    if beside:
        middle = (high - 0.35) / 2 + 0.1
        place = (0.55 / wide, (middle - map_inch / 2 + 0.15) / high, map_inch / wide, (map_inch - 0.1) / high)
        beside(figure.add_axes(place))
    top = high - 0.4
    for strip in strips:
        top -= 0.2 * bool(strip.titles)
        for column, image in enumerate(strip.images):
            x = left + 0.25 + TILE_INCH * column
            side = TILE_INCH - 0.04
            axes = figure.add_axes((x / wide, (top - side) / high, side / wide, side / high))
            _draw_tile(axes, strip, column, image)
        top -= TILE_INCH
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror or error})") from error


def _draw_tile(axes: Axes, strip: Strip, column: int, image: AnyArray) -> None:
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    if column == 0:
        axes.set_ylabel(strip.label, fontsize=7)
    if strip.titles:
        axes.set_title(strip.titles[column], fontsize=7, pad=2)
    for x, y, radius in strip.rings[column] if strip.rings else ():
        axes.add_patch(Circle((x, y), radius, fill=False, color="red", linewidth=1.1))

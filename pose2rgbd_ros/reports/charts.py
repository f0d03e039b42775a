"""Charts for pages: Matplotlib's drawings as inline SVG, whose colours and letters are the page's own, light and dark.

@styled()
def errors(time_s, error):
    figure, axes = chart()
    axes.plot(time_s, error, color=COLOURS["model"])
    return Chart(svg(figure), "error over time")
"""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure

# Colours that Matplotlib draws with, each of which becomes a variable of the page's style sheet.
_NAMES = (
    "ink", "quiet", "line", "paper", "raised", "good", "bad", "neutral", "model", "nearest", "mean", "train", "choose",
    "judge", "guard", "reject",
)  # fmt: skip
COLOURS = {name: f"#0102{number + 16:02x}" for number, name in enumerate(_NAMES)}
_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "pose2rgbd", "font.size": 8.8, "axes.titlesize": 9.5,
    "axes.titlelocation": "left", "axes.labelsize": 8.8, "legend.fontsize": 8.5, "legend.frameon": False,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": COLOURS["quiet"], "axes.labelcolor": COLOURS["ink"], "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["quiet"], "ytick.color": COLOURS["quiet"], "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"], "axes.facecolor": "none", "figure.facecolor": "none", "grid.linewidth": 0.6,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": COLOURS["line"], "lines.linewidth": 1.4,
    "text.parse_math": False,
}  # fmt: skip
WIDTH_INCH, WIDE_INCH = 5.0, 10.4  # of a chart beside another, and of one as wide as the page


def styled() -> Any:
    """Decorates a function that draws: axes, letters and grids as in all charts."""
    return rc_context(_STYLE)  # type: ignore[arg-type]


def chart(height_inch: float = 2.6, wide: bool = False, rows: int = 1) -> tuple[Figure, Any]:
    """A figure and its axes (an array of them for several rows, which share x)."""
    figure = Figure(figsize=(WIDE_INCH if wide else WIDTH_INCH, height_inch), layout="constrained")
    return figure, figure.subplots(rows, 1, sharex=True)


def svg(figure: Figure) -> str:
    """The drawing for a page. Deterministic: the same drawing is the same text."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r' width="[\d.]+pt"| height="[\d.]+pt"| version="1.1"| xmlns(:xlink)?="[^"]*"', "", text, count=5)
    text = re.sub(r'<g id="[A-Za-z_.\d]*_\d+"', "<g", text)  # of several drawings in a page they would clash
    text = text.replace("xlink:href", "href")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r"<!--.*?-->\n?|<style type=\"text/css\">.*?</style>", "", text, flags=re.S)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return re.sub(r"\n\s*", "\n", text).strip()


def error_colours() -> Colormap:
    """For errors over a place: from blue (small) over violet to yellow (large), each visible on white and on black."""
    return LinearSegmentedColormap.from_list("error", colormaps["plasma"](np.linspace(0.12, 0.93, 64)))


def gradient(colours: Colormap | str, steps: int = 12) -> str:
    """A colour map as the stops of a CSS gradient."""
    found = colormaps[colours] if isinstance(colours, str) else colours
    return ", ".join(to_hex(found(share)) for share in np.linspace(0.0, 1.0, steps))


def tile_url(image: np.ndarray, colours: str | None = None, low: float = 0.0, high: float = 1.0) -> str:
    """An image as a `data:` address: uint8 (H, W, 3) as it is, or values (H, W) by a colour map, NaN transparent.

    Enlarged to at least 128 pixels, whole pixels each, so that small ones stay sharp.
    """
    from PIL import Image

    if image.ndim == 2:
        with np.errstate(invalid="ignore"):
            share = (np.asarray(image, np.float64) - low) / max(high - low, 1e-12)
        image = colormaps[colours or "viridis"](np.clip(share, 0, 1), bytes=True)
        image[~np.isfinite(share), 3] = 0
    times = max(1, -(-128 // image.shape[1]))
    buffer = io.BytesIO()
    large = np.ascontiguousarray(image.repeat(times, axis=0).repeat(times, axis=1))
    Image.fromarray(large).save(buffer, "WEBP", quality=82, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def colour_bar(figure: Figure, drawn: Any, axes: Any, label: str) -> None:
    """A thin bar beside the axes, which says what the colours of `drawn` are, with the unit in its label."""
    bar = figure.colorbar(drawn, ax=axes, shrink=0.85, aspect=28, pad=0.02, extend="max")
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    bar.set_label(label)


def even(axes: Any) -> None:
    """The same scale on both axes, with a margin around all that is drawn; a place that has no extent gets a metre."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    if right - left < 1.0 and top - bottom < 1.0:
        axes.plot([(left + right) / 2 - 0.5, (left + right) / 2 + 0.5], [(bottom + top) / 2] * 2, alpha=0.0)
    axes.margins(0.06)
    axes.autoscale()
    axes.set_aspect("equal", adjustable="datalim")

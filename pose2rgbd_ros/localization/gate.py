"""Accept or reject: an image that is none of the place must not become a pose.

Two checks, both made of recorded frames alone; no image of another place is needed. First the image itself: brightness,
contrast and sharpness may lie a little beyond those of the training frames, no more. Then a score of how unlike it is:
the mean over the doubts (evidence.py) of their excess above the usual, each in units of its own spread among held-out
frames. Its limit lets a wanted share of the held-out frames pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.localization.evidence import DOUBTS

# What image_figures tells: (what is too little, what is too much, factors by which it may lie beyond the training frames).
FIGURES = {
    "mean": ("too dark", "overexposed", 0.75, 1.3),
    "contrast": ("almost without contrast", "of too much contrast", 0.6, 1.6),
    "sharpness": ("blurred", "sharper than an image of the place", 0.6, 1.7),
}
TAIL = 0.005  # share of the training frames on each side that does not count
LEAST_CONTRAST = 2.0  # grey levels; less is nothing at all, calibrated or not


@dataclass(frozen=True, eq=False)
class Gate:
    """least, most: (3,) of image_figures among training frames. usual, spread: (5,) of the doubts among held-out frames.
    limit: of the score."""

    least: Float64
    most: Float64
    usual: Float64
    spread: Float64
    limit: float

    @classmethod
    def fit(cls, figures: Float64, doubts: Float64, true_accept: float) -> Gate:
        """Of image figures (N, 3) of training and held-out frames and doubts (M, 5) of held-out ones."""
        least, most = np.quantile(figures, (TAIL, 1 - TAIL), axis=0)
        usual, high = np.quantile(doubts, (0.5, 0.9), axis=0)
        gate = cls(least, most, usual, high - usual, np.inf)
        scores = np.array([gate.score(one) for one in doubts])
        return cls(least, most, usual, gate.spread, float(np.quantile(scores, true_accept, method="higher")))

    def look(self, figures: Float64) -> str:
        """What is wrong with an image of these figures (3,); empty when nothing is."""
        for value, least, most, (name, (low, high, shrink, grow)) in zip(
            figures, self.least, self.most, FIGURES.items(), strict=True
        ):
            what = low if value < shrink * least else high if value > grow * most else ""
            if what:
                return f"the image is {what}: {name} {value:.3g}, training frames {least:.3g} to {most:.3g}"
        return ""

    def score(self, doubts: Float64) -> float:
        """Of doubts (5,): 0 for an image without unusual ones."""
        return float(np.mean(self._excess(doubts)))

    def reason(self, doubts: Float64) -> str:
        """Why doubts (5,) are too many; empty when the score is within the limit."""
        score = self.score(doubts)
        if score <= self.limit:
            return ""
        largest = list(DOUBTS.values())[int(np.argmax(self._excess(doubts)))]
        return f"not like the place: {largest} (score {score:.2f}, limit {self.limit:.2f})"

    def _excess(self, doubts: Float64) -> Float64:
        told = self.spread > 1e-9  # a doubt that is the same for all frames tells nothing
        return np.where(told, np.maximum(doubts - self.usual, 0.0) / np.where(told, self.spread, 1.0), 0.0)


def blank(figures: Float64) -> str:
    """Why an image of these figures shows nothing, whatever the place; empty when it shows something."""
    mean, contrast = float(figures[0]), float(figures[1])
    if contrast >= LEAST_CONTRAST:
        return ""
    what = "black" if mean < 64 else "overexposed" if mean > 192 else "blank"
    return f"the image is {what}: mean {mean:.0f} of 255, contrast {contrast:.1f}"

"""How far depth is off: the measures of Eigen, Puhrsch and Fergus, "Depth Map Prediction from a Single Image", 2014.

Plain formulas, for whoever trains and whoever judges; which pixels count, and after which scaling, is a protocol's
matter (`evaluation/depth_metrics.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray

THRESHOLD = 1.25  # of a1; a2 and a3 are its square and cube


@dataclass(frozen=True)
class ErrorSums:
    """Sums over pixels, so that those of several images make those of all their pixels."""

    pixels: float = 0.0
    abs_rel: float = 0.0
    sq_rel: float = 0.0
    square: float = 0.0
    log: float = 0.0
    log_square: float = 0.0
    log10: float = 0.0
    a1: float = 0.0
    a2: float = 0.0
    a3: float = 0.0

    @classmethod
    def of(cls, predicted: AnyArray, truth: AnyArray) -> ErrorSums:
        """Of pixels (P,), all positive and finite, in one unit."""
        p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
        off, log = p - t, np.log(p) - np.log(t)
        ratio = np.maximum(p / t, t / p)
        return cls(
            pixels=float(p.size),
            abs_rel=float((abs(off) / t).sum()),
            sq_rel=float((off**2 / t).sum()),
            square=float((off**2).sum()),
            log=float(log.sum()),
            log_square=float((log**2).sum()),
            log10=float(abs(log).sum() / np.log(10)),
            a1=float((ratio < THRESHOLD).sum()),
            a2=float((ratio < THRESHOLD**2).sum()),
            a3=float((ratio < THRESHOLD**3).sum()),
        )

    def __add__(self, other: ErrorSums) -> ErrorSums:
        return ErrorSums(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def metrics(self) -> dict[str, float]:
        """abs_rel, sq_rel (in the unit), rmse (in the unit), rmse_log, log10, sc_inv, a1, a2, a3; NaN of no pixels.

        sc_inv is the standard deviation of the logarithms' difference, which no scale changes (Eigen's Eq. 3 with
        lambda 1, under a root).
        """
        n = self.pixels or float("nan")
        mean_log = self.log / n
        return {
            "abs_rel": self.abs_rel / n,
            "sq_rel": self.sq_rel / n,
            "rmse": float(np.sqrt(self.square / n)),
            "rmse_log": float(np.sqrt(self.log_square / n)),
            "log10": self.log10 / n,
            "sc_inv": float(np.sqrt(max(self.log_square / n - mean_log**2, 0.0))) if self.pixels else n,
            "a1": self.a1 / n,
            "a2": self.a2 / n,
            "a3": self.a3 / n,
        }


def depth_errors(predicted: AnyArray, truth: AnyArray) -> dict[str, float]:
    """The measures of images of equal size, over the pixels where both depths are finite and positive."""
    p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    both = np.isfinite(p) & np.isfinite(t) & (p > 0) & (t > 0)
    return ErrorSums.of(p[both], t[both]).metrics()

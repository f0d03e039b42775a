"""Whether what the paper concludes from its tables holds in ours: counted, not judged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pose2rgbd_ros.evaluation.experiments.localization import Place, Row

ORDER = (
    "posegan",
    "posegan-c",
    "posegan-b",
    "posegan-a",
)  # the paper's, best first, in every scene's position error
LETTERS = {"posegan": "full", "posegan-c": "C", "posegan-b": "B", "posegan-a": "A"}


def findings(place: Place) -> Iterator[str]:
    """Sentences: the order of the ablation, and how much worse grey images make each network; none too early."""
    for size in dict.fromkeys(row.size for row in place.rows if row.size):
        rows = [row for row in place.rows if row.size == size and not row.error]
        medians = {method: _by_seed(rows, method) for method in ORDER}
        if all(medians.values()):
            yield _order(size, medians)
        risen = {method: _risen(rows, method) for method in ("posegan", "posenet", "posenet-resnet")}
        told = [
            f"{method} by a factor of {factor:.2f}" for method, factor in risen.items() if factor is not None
        ]
        if len(told) > 1:
            yield f"Grey images raise the median position error at {size} px: {', '.join(told)}."


def _order(size: int, medians: dict[str, dict[int, float]]) -> str:
    means = {method: float(np.mean(list(values.values()))) for method, values in medians.items()}
    ours = " < ".join(LETTERS[method] for method in sorted(means, key=lambda method: means[method]))
    held = total = 0
    for i, better in enumerate(ORDER):
        for worse in ORDER[i + 1 :]:
            seeds = set(medians[better]) & set(medians[worse])
            held += sum(medians[better][seed] < medians[worse][seed] for seed in seeds)
            total += len(seeds)
    return (
        f"Position error at {size} px: {ours}; the paper has full < C < B < A. Of its six comparisons, seed by seed, "
        f"{held} of {total} hold."
    )


def _by_seed(rows: list[Row], method: str) -> dict[int, float]:
    return {
        row.seed: float(row.scores["colour"]["median_position_m"]) for row in rows if row.method == method
    }


def _risen(rows: list[Row], method: str) -> float | None:
    """The median over the seeds of grey's error over colour's."""
    name = "median_position_m"
    shares = [row.scores["grey"][name] / row.scores["colour"][name] for row in rows if row.method == method]
    return float(np.median(shares)) if shares else None

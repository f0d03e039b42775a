"""How far a run is, in steps or in time, and the learning rate that follows from it."""

from __future__ import annotations

import math
import time

MIN_LEARNING_RATE = 1e-7


class Progress:
    """Share of the run that is done: by steps, by time, or the larger of both.

    Time spent before a resumed run was interrupted counts; time between does not.
    """

    def __init__(
        self, total_steps: int, budget_s: float | None, elapsed_before_s: float = 0.0, clock: str = "wall"
    ) -> None:
        """`clock`: "wall", or "cpu" for the processor time of this process, all its threads together."""
        self.total_steps = total_steps
        self.budget_s = budget_s
        self._now_s = time.process_time if clock == "cpu" else time.monotonic
        self._start_s = self._now_s() - elapsed_before_s

    @property
    def elapsed_s(self) -> float:
        return self._now_s() - self._start_s

    def share(self, step: int, reserve_s: float = 0.0) -> float:
        """0..1 after `step` steps; `reserve_s` of the budget is kept for what comes after the last step."""
        by_steps = step / self.total_steps
        if self.budget_s is None:
            return min(1.0, by_steps)
        by_time = self.elapsed_s / max(self.budget_s - reserve_s, 1e-9)
        return min(1.0, max(by_steps, by_time))


def learning_rate(peak: float, schedule: str, warmup: float, share: float) -> float:
    """ "fixed" stays at the peak after the warm-up; "cosine" then falls to zero by the end of the run."""
    if share < warmup:
        return max(peak * share / warmup, MIN_LEARNING_RATE)
    if schedule == "fixed":
        return peak
    fall = (share - warmup) / (1.0 - warmup)
    return max(peak * 0.5 * (1.0 + math.cos(math.pi * fall)), MIN_LEARNING_RATE)

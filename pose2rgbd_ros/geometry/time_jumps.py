"""Clocks that are set back while stamps are taken by them."""

from __future__ import annotations

import itertools

import numpy as np

from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64

# Stamps that go back by more are a clock set back or a recording that starts again, not messages out of order.
JUMP_NS = 1_000_000_000
# One stamp alone that leaps ahead by more is wrong, not a clock set forward and back.
_LEAP_NS = 10_000_000_000


def restarts(stamps_ns: Int64) -> list[int]:
    """Where, in stamps (N,) as they were received, time begins anew.

    Two in a row that are older than what was there by more than a second, the second newer than the first, are a jump
    back; one alone is a straggler.
    """
    newest = np.maximum.accumulate(stamps_ns)
    if not np.any(stamps_ns < newest - JUMP_NS):
        return []
    found: list[int] = []
    newest_ns, behind = int(stamps_ns[0]), -1
    for i, stamp_ns in enumerate(stamps_ns.tolist()):
        if stamp_ns >= newest_ns - JUMP_NS:
            newest_ns, behind = max(newest_ns, stamp_ns), -1
        elif behind >= 0 and stamp_ns > stamps_ns[behind]:
            found.append(behind)
            newest_ns, behind = stamp_ns, -1
        else:
            behind = i
    return found


def passed_once(stamps_ns: Int64, values: Float64) -> Bool:
    """Which stamps (N,), as they were received, are of times that the clock passed only once.

    A recording that was merely played again, the same `values` (N, K) at the same stamps, counts as one. A single
    stamp far ahead of those before and after it says nothing of theirs.
    """
    known = ~_leaps(stamps_ns)
    once = np.ones(len(stamps_ns), dtype=np.bool_)
    once[known] = _passed_once(stamps_ns[known], values[known])
    return once


def _leaps(stamps_ns: Int64) -> Bool:
    """Which stamps (N,) leap ahead alone: the next one goes on from where the one before was."""
    alone = np.zeros(len(stamps_ns), dtype=np.bool_)
    before, at, after = stamps_ns[:-2], stamps_ns[1:-1], stamps_ns[2:]
    alone[1:-1] = (at - before > _LEAP_NS) & (at - after > _LEAP_NS) & (after > before - JUMP_NS)
    return alone


def _passed_once(stamps_ns: Int64, values: Float64) -> Bool:
    once = np.ones(len(stamps_ns), dtype=np.bool_)
    starts = restarts(stamps_ns)
    for start, end in itertools.pairwise([*starts, len(stamps_ns)]):
        before, again = stamps_ns[:start], stamps_ns[start:end]
        first = max(before.min(), again.min())
        last = min(before.max(), again.max())
        twice = start + np.flatnonzero((again >= first) & (again <= last))
        order = np.argsort(before, kind="stable")
        partner = order[np.minimum(np.searchsorted(before[order], stamps_ns[twice]), start - 1)]
        a, b = values[partner], values[twice]
        same = (stamps_ns[partner] == stamps_ns[twice]) & ((a == b) | (np.isnan(a) & np.isnan(b))).all(axis=1)
        if not same.all():
            once &= (stamps_ns < first) | (stamps_ns > last)
    return once

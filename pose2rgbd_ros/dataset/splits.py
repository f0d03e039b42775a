"""Which frames train, which choose and which judge.

Frames that are held out from training have two uses that exclude each other. Those that *choose* may decide anything:
which weights are kept, when to stop, which model is served, how it is calibrated. Those that *judge* decide nothing, so
that the figures published of them are honest. Both are whole stretches of track wherever whole stretches are held out.

`random_split` is the paper's 80/20: neighbours of a held-out frame, a thirtieth of a second away, are trained on, so it
measures memory. `held_out_segments` is the honest one: whole stretches of track are unseen, and frames next to a
stretch, in time or by hardly having moved, are in no set. `own_split` is what a dataset says in its split.txt:
whole lines of a simulated flight.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.layout import read_split
from pose2rgbd_ros.errors import UserError

FEWEST_FRAMES = 5
FEWEST_IN_STRETCH = 4  # short data gets fewer stretches: a test frame between two training frames tests nothing
# Of the held-out frames, where there are at least twice as many as could choose; with fewer, all of them judge.
CHOOSE_FRACTION = 0.5
FEWEST_TO_CHOOSE = 8
# A split recorded before frames that choose and frames that judge were kept apart: all held-out frames did both.
ALL_CHOOSE = 1.0
# A pause this many times the usual one between frames parts two recordings (or a recording from its continuation).
GAP_FACTOR = 10.0
# How far, as a share of the track's extent, the camera must be from a segment's end before frames train again.
GUARD_EXTENT_SHARE = 0.01


@dataclass(frozen=True)
class Split:
    """Frame indices (sorted, disjoint) and what is needed to make the same split again.

    Attributes:
        train: what weights, normalisation and baselines are made from.
        choose: held out from training; may decide anything else. Empty where too few frames are held out.
        judge: held out from every decision.
        groups: parts of the held-out frames that are scored apart, by name.
    """

    train: NDArray[np.int64]
    choose: NDArray[np.int64]
    judge: NDArray[np.int64]
    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        together = np.concatenate([self.train, self.choose, self.judge])
        if len(np.unique(together)) != len(together):
            raise ValueError(f"split {self.name!r}: a frame is in two of the sets that train, choose and judge")

    @property
    def test(self) -> NDArray[np.int64]:
        """All frames held out from training: those that choose and those that judge."""
        return np.sort(np.concatenate([self.choose, self.judge]))

    def to_dict(self) -> dict[str, Any]:
        """The recipe, for a checkpoint's provenance; :func:`split_from_dict` repeats it."""
        return {"name": self.name, **self.parameters}


def random_split(n: int, train_fraction: float = 0.8, seed: int = 0, choose_fraction: float = CHOOSE_FRACTION) -> Split:
    """Frames dealt at random (the paper's split). At least one frame trains and one is held out.

    UserError: fewer than 2 frames, a fraction outside its bounds.
    """
    _check_fraction("train_fraction", train_fraction)
    _check_choose_fraction(choose_fraction)
    if n < 2:
        raise UserError(f"{n} frame(s) cannot be split into a training and a test set; record at least 2")
    order = np.random.default_rng(seed).permutation(n)
    count = int(np.clip(round(n * train_fraction), 1, n - 1))
    held_out = order[count:].astype(np.int64)
    choosing = _how_many_choose(len(held_out), choose_fraction)
    return Split(
        np.sort(order[:count]).astype(np.int64),
        np.sort(held_out[:choosing]),
        np.sort(held_out[choosing:]),
        "random",
        {"train_fraction": train_fraction, "seed": seed, "choose_fraction": choose_fraction},
    )


def held_out_segments(
    stamps_ns: ArrayLike,
    position_m: ArrayLike,
    fraction: float = 0.2,
    segments: int = 5,
    guard_frames: int | None = None,
    seed: int = 0,
    recording: ArrayLike | None = None,
    choose_fraction: float = CHOOSE_FRACTION,
) -> Split:
    """Hold out `segments` stretches of track, each contiguous in time, together `fraction` of the frames.

    One stretch is placed at random in each of `segments` equal parts of the data, inside one recording; fewer where a
    stretch would fall below 4 frames. The guard on each side is at least `guard_frames` (default: a quarter of a
    stretch) and goes on while the camera is within 1 % of the track's extent of the stretch's end (a hovering drone
    sees the same for seconds), at most one stretch long. Whole stretches choose, and whole stretches judge.

    Args:
        stamps_ns: (N,) strictly increasing.
        position_m: (N, 3) camera positions in the map.
        recording: (N,) number of the recording each frame comes from; by default pauses part the recordings.
        choose_fraction: share of the held-out frames that choose.

    Raises:
        UserError: fewer than 5 frames, a fraction outside (0, 1), stamps that do not increase.
    """
    _check_choose_fraction(choose_fraction)
    stamps = np.asarray(stamps_ns, dtype=np.int64)
    position = np.asarray(position_m, dtype=np.float64)
    _check_fraction("fraction", fraction)
    _check_track(stamps, position, segments, guard_frames)
    runs = recordings(stamps) if recording is None else np.asarray(recording)
    # Recordings may overlap in time: put each one's frames side by side, then work on places in that order.
    order = np.lexsort((stamps, runs))
    runs, position = runs[order], position[order]
    test = _place(runs, fraction, segments, np.random.default_rng(seed))
    excluded = _guarded(test, runs, position, guard_frames)
    parameters = {
        "fraction": fraction,
        "segments": segments,
        "guard_frames": guard_frames,
        "seed": seed,
        "choose_fraction": choose_fraction,
    }
    choose, judge = _by_stretches(np.flatnonzero(test), choose_fraction)
    train = np.sort(order[~test & ~excluded])
    return Split(train, np.sort(order[choose]), np.sort(order[judge]), "held_out_segments", parameters)


def own_split(folder: Path, stamps_ns: ArrayLike, choose_fraction: float = CHOOSE_FRACTION) -> Split:
    """What the split.txt of the dataset in `folder` says of its frames at `stamps_ns`, (N,) strictly increasing.

    Where it names frames that choose, those it holds out for testing judge; else whole held-out lines choose.

    UserError: as of `read_split`, and when it leaves nothing to train or to test on.
    """
    _check_choose_fraction(choose_fraction)
    path = folder / layout.SPLIT
    words = read_split(path, stamps_ns)
    for word in ("train", "test"):
        if word not in words:
            raise UserError(f"{path}: no frame is {word!r}; choose split 'segments'")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return split_of_words(words, {"sha256": digest}, choose_fraction)


def split_of_words(
    words: ArrayLike, parameters: dict[str, Any] | None = None, choose_fraction: float = CHOOSE_FRACTION
) -> Split:
    """The split of frames (N,) that each have a word of split.txt, as of :func:`own_split`."""
    words = np.asarray(words)
    train, test = (np.flatnonzero(words == word).astype(np.int64) for word in ("train", "test"))
    choose, judge = np.flatnonzero(words == "choose").astype(np.int64), test
    if len(choose) == 0:
        choose, judge = _by_stretches(test, choose_fraction)
    return Split(train, choose, judge, "dataset", {**(parameters or {}), "choose_fraction": choose_fraction})


def default_split(
    folder: Path, stamps_ns: ArrayLike, position_m: ArrayLike, fraction: float = 0.2, seed: int = 0
) -> Split:
    """The dataset's own split where it brings one that holds something out, else held-out segments.

    UserError: as of `read_split` and `held_out_segments`.
    """
    path = folder / layout.SPLIT
    if path.exists() and {"train", "test"} <= set(read_split(path, stamps_ns)):
        return own_split(folder, stamps_ns)
    return held_out_segments(stamps_ns, position_m, fraction=fraction, seed=seed)


def with_random_frames(held_out: Split, fraction: float = 0.2, seed: int = 0) -> Split:
    """Hold out a random `fraction` of a split's training frames as well: one training shows memory and honesty apart.

    Its groups are "random" and "held-out lines"; neither trains, and each has frames that choose and frames that judge.
    """
    choose_fraction = held_out.parameters.get("choose_fraction", CHOOSE_FRACTION)
    dealt = random_split(len(held_out.train), 1.0 - fraction, seed, choose_fraction)
    return Split(
        held_out.train[dealt.train],
        np.sort(np.concatenate([held_out.choose, held_out.train[dealt.choose]])),
        np.sort(np.concatenate([held_out.judge, held_out.train[dealt.judge]])),
        "lines+random",
        {"lines": held_out.to_dict(), "random_fraction": fraction, "random_seed": seed},
        {"random": held_out.train[dealt.test], "held-out lines": held_out.test},
    )


def split_from_dict(
    values: dict[str, Any],
    stamps_ns: ArrayLike,
    position_m: ArrayLike,
    recording: ArrayLike | None = None,
    folder: Path | None = None,
) -> Split:
    """Repeat the split a checkpoint names, on the same frames.

    Args:
        values: what `Split.to_dict` gave; without a "choose_fraction" all held-out frames chose.
        folder: the dataset's, for a split of its own. It is read again: its sha256 says whether it is still the same.

    Raises:
        UserError: an unknown name or parameter; a dataset without the split of its own.
    """
    parameters = {key: value for key, value in values.items() if key != "name"}
    if values.get("name") in ("random", "held_out_segments", "dataset"):
        parameters.setdefault("choose_fraction", ALL_CHOOSE)
    try:
        if values.get("name") == "random":
            return random_split(len(np.asarray(stamps_ns)), **parameters)
        if values.get("name") == "held_out_segments":
            return held_out_segments(stamps_ns, position_m, recording=recording, **parameters)
    except TypeError as error:
        raise UserError(f"split {values.get('name')!r}: {error}") from error
    if values.get("name") == "dataset" and folder is not None:
        return own_split(folder, stamps_ns, parameters["choose_fraction"])
    if values.get("name") == "lines+random" and isinstance(parameters.get("lines"), dict):
        lines = split_from_dict(parameters["lines"], stamps_ns, position_m, recording, folder)
        return with_random_frames(lines, parameters.get("random_fraction", 0.2), parameters.get("random_seed", 0))
    known = "random, held_out_segments, dataset, lines+random"
    raise UserError(f"unknown split {values.get('name')!r}; known ones: {known}")


def recordings(stamps_ns: ArrayLike) -> NDArray[np.int64]:
    """Number (N,) of the recording of each frame, parted by pauses of 10 times the median step or more."""
    steps = np.diff(np.asarray(stamps_ns, dtype=np.int64))
    if len(steps) == 0:
        return np.zeros(len(steps) + 1, dtype=np.int64)
    pauses = steps > GAP_FACTOR * np.median(steps)
    return np.concatenate([[0], np.cumsum(pauses)]).astype(np.int64)


def _place(runs: NDArray[Any], fraction: float, segments: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark the test frames: one stretch in each equal part, not across recordings.

    Where in its part a stretch lies is drawn from strata dealt at random: on a flight in loops, independent draws
    often put all stretches on the same side, and then that side is not learned at all.
    """
    n = len(runs)
    wanted = int(np.clip(round(n * fraction), 1, n - 2))
    segments = max(1, min(segments, wanted // FEWEST_IN_STRETCH))
    test = np.zeros(n, dtype=bool)
    lengths = np.diff(np.linspace(0, wanted, segments + 1).round().astype(int))
    where = (rng.permutation(segments) + rng.random(segments)) / segments
    for part, length, place in zip(np.array_split(np.arange(n), segments), lengths, where, strict=True):
        length = min(int(length), len(part))
        starts = part[: len(part) - length + 1]
        inside = starts[runs[starts] == runs[starts + length - 1]]
        if len(inside):
            start = int(inside[int(place * len(inside))])
            test[start : start + length] = True
        else:  # recordings shorter than a stretch: take the longest one here, whole
            _, first, count = np.unique(runs[part], return_index=True, return_counts=True)
            longest = int(count.argmax())
            start = int(part[0] + first[longest])
            test[start : start + min(length, int(count[longest]))] = True
    return test


def _guarded(
    test: NDArray[np.bool_], runs: NDArray[Any], position: NDArray[np.float64], guard_frames: int | None
) -> NDArray[np.bool_]:
    """Frames too near a test stretch to train on. The guard shrinks where little else would be left to train on."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], test, [False]]).astype(int)))
    stretches = list(zip(edges[::2], edges[1::2], strict=True))
    reach_m = GUARD_EXTENT_SHARE * float(np.linalg.norm(position.max(axis=0) - position.min(axis=0)))
    for shrink in (1.0, 0.5, 0.25, 0.0):
        excluded = np.zeros(len(test), dtype=bool)
        for start, stop in stretches:
            length = stop - start
            guard = max(1, length // 4) if guard_frames is None else guard_frames
            for last, step in ((start, -1), (stop - 1, 1)):
                least, most = int(guard * shrink), int(max(guard, length) * shrink)
                _exclude_from(excluded, int(last), step, least, most, runs, position, reach_m)
        excluded &= ~test
        if (~test & ~excluded).sum() >= max(1, (~test).sum() // 2):
            break
    return excluded


def _exclude_from(
    excluded: NDArray[np.bool_],
    last: int,
    step: int,
    least: int,
    most: int,
    runs: NDArray[Any],
    position: NDArray[np.float64],
    reach_m: float,
) -> None:
    """Walk away from a stretch's last frame and exclude: `least` frames, then while near, `most` frames in all."""
    for walked in range(1, most + 1):
        here = last + step * walked
        if not 0 <= here < len(excluded) or runs[here] != runs[last]:
            return
        if walked > least and np.linalg.norm(position[here] - position[last]) > reach_m:
            return
        excluded[here] = True


def _how_many_choose(held_out: int, fraction: float) -> int:
    """Of frames dealt at random: none where there are too few of them, except where all do."""
    if fraction in (0.0, 1.0):
        return round(held_out * fraction)
    count = round(held_out * fraction)
    return count if min(count, held_out - count) >= FEWEST_TO_CHOOSE else 0


def _by_stretches(held_out: NDArray[np.int64], fraction: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Held-out places (ascending) -> those that choose, those that judge: whole stretches of consecutive places.

    The longest stretch is dealt first, each to the set that lacks more of its share. Where that leaves a set less than
    half its share, the longest stretch is cut in two, with an eighth of it between them in no set.
    """
    nothing = held_out[:0]
    if fraction in (0.0, 1.0) or _how_many_choose(len(held_out), fraction) == 0:
        return (held_out, nothing) if fraction == 1.0 else (nothing, held_out)
    stretches = np.split(held_out, np.flatnonzero(np.diff(held_out) > 1) + 1)
    while True:
        choose, judge = _deal(stretches, fraction)
        least = min(len(choose) / fraction, len(judge) / (1.0 - fraction))
        if 2 * least >= len(held_out):
            return (choose, judge) if min(len(choose), len(judge)) >= FEWEST_TO_CHOOSE else (nothing, held_out)
        longest = max(range(len(stretches)), key=lambda i: len(stretches[i]))
        stretch = stretches.pop(longest)
        gap = max(1, len(stretch) // 8)
        half = (len(stretch) - gap) // 2
        stretches[longest:longest] = [stretch[:half], stretch[half + gap :]]


def _deal(stretches: list[NDArray[np.int64]], fraction: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    total = sum(len(stretch) for stretch in stretches)
    sets: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    lacking = [fraction * total, (1.0 - fraction) * total]
    for stretch in sorted(stretches, key=len, reverse=True):
        which = 0 if lacking[0] > lacking[1] else 1
        sets[which].append(stretch)
        lacking[which] -= len(stretch)
    choose, judge = (np.sort(np.concatenate([*part, stretches[0][:0]])) for part in sets)
    return choose, judge


def _check_choose_fraction(value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise UserError(f"choose_fraction is {value}; it must lie between 0 and 1")


def _check_fraction(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise UserError(f"{name} is {value}; it must lie between 0 and 1")


def _check_track(
    stamps: NDArray[np.int64], position: NDArray[np.float64], segments: int, guard_frames: int | None
) -> None:
    if len(stamps) < FEWEST_FRAMES:
        raise UserError(f"{len(stamps)} frame(s) are too few to hold a stretch out; record at least {FEWEST_FRAMES}")
    if position.shape != (len(stamps), 3):
        raise UserError(f"{len(stamps)} stamps but positions of shape {position.shape}; expected ({len(stamps)}, 3)")
    if not (np.diff(stamps) > 0).all():
        raise UserError("the frames' stamps do not increase; sort the dataset and remove doubles")
    if segments < 1 or (guard_frames is not None and guard_frames < 0):
        raise UserError(f"segments is {segments} and guard_frames {guard_frames}; need at least 1 and 0")

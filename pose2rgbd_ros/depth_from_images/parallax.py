"""Whether a video can show depth at all: not without texture, not from one place, and not by turning alone."""

from __future__ import annotations

from collections import Counter

import numpy as np

from pose2rgbd_ros.depth_from_images.odometry import ClassicalFlow, Flow, fit_rotation
from pose2rgbd_ros.depth_from_images.snippets import TRAIN, SnippetData
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64

MOST_PLACES, FEWEST_PLACES = 24, 3  # looked at, in all and of one sequence
FARTHEST = 8  # times the span of a snippet, to which the other image may lie
LEAST_TEXTURED = 0.01  # share of the pixels
# What no rotation explains of the flow (median): below, it is what flow is wrong by, and the lens as it is known.
LEAST_PARALLAX_PX, LEAST_PARALLAX = 0.25, 0.02
STILL_PX = 1.0
SMALLEST = 32  # pixels a side: nothing can be said by smaller images
FEWEST_MATCHES, MOST_MATCHES, RETURN_PX = 30, 1000, 0.5
_WORDS = {
    "still": "hardly anything moves in the pictures",
    "rotation": "the camera only turns",
    "blank": "the pictures have no texture",
}
_MORE = "a larger --stride or larger images may show more"


def check_parallax(data: SnippetData) -> list[str]:
    """Look at some places of what trains; answers what is worth knowing, in words.

    Raises:
        UserError: no place shows parallax, so that neither depth nor the length of the way can be learnt.
    """
    if min(data.size) < SMALLEST:
        return []
    flow, notes, found = ClassicalFlow(), list[str](), Counter[str]()
    training = data.for_training()
    for number, sequence in enumerate(data.sequences):
        reaches = list[int]()
        seen = Counter[str]()
        for place in _places(data, number):
            kind, reach = _look(training, flow, int(place), number)
            seen[kind] += 1
            reaches += [reach] if kind == "parallax" else []
        found += seen
        none = sum(seen[kind] for kind in _WORDS)
        if none == seen.total() > 0:
            notes.append(f"{sequence.name}: depth is not observable, {_most(seen)}; {_MORE}")
        elif none > seen.total() / 2:
            where = f"{none} of {counted(seen.total(), 'place')} looked at"
            notes.append(f"{sequence.name}: at {where} depth is not observable, {_most(seen)}; {_MORE}")
        elif reaches and (times := float(np.median(reaches))) > 1:
            wanted = round(times * data.stride)
            notes.append(
                f"{sequence.name}: within a snippet the pictures hardly show parallax; --stride {wanted} shows more"
            )
    if found.total() and found.total() == sum(found[kind] for kind in _WORDS):
        where = ", ".join(each.name for each in data.sequences)
        raise UserError(
            f"{where}: neither depth nor scale is observable: {_most(found)}, at all {found.total()} places looked at; "
            f"take a recording in which the camera moves past things; {_MORE}"
        )
    return notes


def _most(seen: Counter[str]) -> str:
    return _WORDS[max(_WORDS, key=lambda kind: seen[kind])]


def _places(data: SnippetData, number: int) -> Int64:
    """Some frames of a sequence that train, evenly spaced."""
    targets = data.split.train[data.sequence[data.split.train] == number]
    count = min(len(targets), max(FEWEST_PLACES, MOST_PLACES // len(data.sequences)))
    return targets[np.linspace(0, len(targets) - 1, count).round().astype(int)] if count else targets


def _look(data: SnippetData, flow: ClassicalFlow, place: int, number: int) -> tuple[str, int]:
    """ "parallax", one of _WORDS or "unclear", and how many spans of a snippet apart the two images were."""
    K, start = data.camera_of(number).K, int(data.members(np.array([place]))[0, 0])
    first, verdict, reach = data.rgb(np.array([start]))[0], "unclear", 1
    while reach <= FARTHEST:
        other = start + reach * (data.frames - 1) * data.stride
        if other >= len(data) or data.runs[other] != data.runs[start] or data.sets[other] != TRAIN:
            break
        found = flow(first, data.rgb(np.array([other]))[0])
        textured = np.ones(data.size, bool) if found.valid is None else found.valid
        if textured.mean() < LEAST_TEXTURED:
            return "blank", reach
        pixels, moved = _returning(found, textured)
        if len(pixels) >= FEWEST_MATCHES:
            _, left = fit_rotation(pixels, pixels + moved, K)
            moved_px = float(np.median(np.linalg.norm(moved, axis=1)))
            if np.sqrt(np.median(left)) > max(LEAST_PARALLAX_PX, LEAST_PARALLAX * moved_px):
                return "parallax", reach
            verdict = "still" if moved_px < STILL_PX else "rotation"
        reach *= 2
    return verdict, reach


def _returning(flow: Flow, textured: Bool) -> tuple[Float64, Float64]:
    """Some pixels (M, 2) whose flow (M, 2) comes back to where it began."""
    at = np.argwhere(textured & np.isfinite(flow.forward).all(axis=-1))
    at = at[:: max(1, len(at) // MOST_MATCHES)]
    pixels, moved = at[:, ::-1].astype(np.float64), flow.forward[tuple(at.T)].astype(np.float64)
    there = np.rint(pixels + moved).astype(np.int64)
    inside = ((there >= 0) & (there < textured.shape[::-1])).all(axis=1)
    pixels, moved, there = pixels[inside], moved[inside], there[inside]
    back = flow.backward[there[:, 1], there[:, 0]]
    same = np.linalg.norm(moved + back, axis=1) < RETURN_PX
    return pixels[same], moved[same]

"""Which depth image an image gets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.dataset.importers.pairing import DepthPairing

MS = 1_000_000


def pairs(events: list[tuple[str, int, int]], tolerance_ms: int = 20) -> list[tuple[int, int | None]]:
    """Stamps in ms of images and their depths, for (kind, stamp, received) events in ms."""
    pairing = DepthPairing(tolerance_ms * MS)
    found = []
    for kind, stamp, received in events:
        add = pairing.add_image if kind == "image" else pairing.add_depth
        found += add(stamp * MS, received * MS, stamp)
    return [(image.message, depth) for image, depth in [*found, *pairing.finish()]]


def test_the_nearer_of_two_is_taken() -> None:
    events = [("depth", 90, 91), ("image", 100, 101), ("depth", 105, 106)]
    assert pairs(events) == [(100, 105)]
    assert pairs([("depth", 97, 98), *events[1:]]) == [(100, 97)]


def test_depth_may_come_before_or_after_its_image() -> None:
    assert pairs([("depth", 100, 101), ("image", 100, 102)]) == [(100, 100)]
    assert pairs([("image", 100, 101), ("depth", 100, 150)]) == [(100, 100)]


def test_beyond_the_tolerance_is_none() -> None:
    assert pairs([("image", 100, 101), ("depth", 121, 122)]) == [(100, None)]
    assert pairs([("image", 100, 101), ("depth", 120, 122)]) == [(100, 120)]


def test_one_depth_serves_two_images_when_it_is_slower() -> None:
    events = [("image", 0, 1), ("depth", 10, 11), ("image", 20, 21)]
    assert pairs(events) == [(0, 10), (20, 10)]


def test_a_silent_depth_topic_holds_nothing_up_for_long() -> None:
    pairing = DepthPairing(20 * MS)
    waiting, most = 0, 0
    for i in range(500):
        waiting += 1 - len(pairing.add_image(i * 33 * MS, i * 33 * MS, i))
        most = max(most, waiting)
    assert most <= 31
    assert waiting == len(pairing.finish())


@given(st.lists(st.tuples(st.sampled_from(["image", "depth"]), st.integers(0, 10**6)), max_size=80))
def test_every_image_comes_back_once_and_within_tolerance(events: list[tuple[str, int]]) -> None:
    result = pairs([(kind, stamp, received) for received, (kind, stamp) in enumerate(events)])
    assert [image for image, _ in result] == [stamp for kind, stamp in events if kind == "image"]
    assert all(depth is None or abs(depth - image) <= 20 for image, depth in result)

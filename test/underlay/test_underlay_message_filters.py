"""message_filters without a graph: caches, chains and the two synchronisers."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import message_filters
import pytest
from builtin_interfaces.msg import Time as TimeMessage
from hypothesis import given, settings
from hypothesis import strategies as st
from message_filters import ApproximateTimeSynchronizer, Cache, Chain, SimpleFilter, TimeSynchronizer
from rclpy.clock import ROSClock
from rclpy.duration import Duration
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import String

MS = 1_000_000


def message(stamp_ms: int, name: str = "") -> Image:
    image = Image()
    image.header.stamp = Time(nanoseconds=stamp_ms * MS).to_msg()
    image.header.frame_id = name
    return image


def ms_of(image: Image) -> int:
    return image.header.stamp.sec * 1000 + image.header.stamp.nanosec // MS


def at(stamp_ms: int) -> Time:
    return Time(nanoseconds=stamp_ms * MS, clock_type=ROSClock().clock_type)


def connected(kind, count, *args, **options):
    """Filters, a synchroniser of theirs, and the list of the stamps (ms) of what it hands on."""
    filters = [SimpleFilter() for _ in range(count)]
    synchronizer = kind(filters, *args, **options)
    sets = []
    synchronizer.registerCallback(lambda *messages: sets.append(tuple(map(ms_of, messages))))
    return filters, synchronizer, sets


def test_names():
    names = "SimpleFilter Subscriber Cache Chain TimeSynchronizer ApproximateTimeSynchronizer".split()
    assert all(hasattr(message_filters, name) for name in names)


def test_callbacks_are_called_in_order_with_their_own_arguments():
    calls = []
    source = SimpleFilter()
    numbers = [
        source.registerCallback(lambda *given: calls.append(given), "first", 1),
        source.registerCallback(lambda *given: calls.append(given), "second"),
    ]
    source.signalMessage("a", "b")
    assert numbers == [0, 1]
    assert calls == [("a", "b", "first", 1), ("a", "b", "second")]


# Cache


@pytest.fixture
def cache() -> Cache:
    source = SimpleFilter()
    cache = Cache(source, cache_size=5)
    for stamp_ms in (100, 200, 300, 400, 500, 600):
        source.signalMessage(message(stamp_ms))
    return cache


def test_a_cache_keeps_the_last(cache):
    assert [ms_of(m) for m in cache.cache_msgs] == [200, 300, 400, 500, 600]
    assert cache.getOldestTime() == at(200)
    assert cache.getLastestTime() == at(600)
    assert ms_of(cache.getLast()) == 600


def test_intervals_of_a_cache_include_their_ends(cache):
    assert [ms_of(m) for m in cache.getInterval(at(300), at(500))] == [300, 400, 500]
    assert [ms_of(m) for m in cache.getInterval(at(301), at(499))] == [400]
    assert cache.getInterval(at(700), at(900)) == []
    with pytest.raises(AssertionError):
        cache.getInterval(at(500), at(300))


def test_neighbours_in_a_cache(cache):
    assert ms_of(cache.getElemAfterTime(at(300))) == 300
    assert ms_of(cache.getElemAfterTime(at(301))) == 400
    assert ms_of(cache.getElemBeforeTime(at(300))) == 300
    assert ms_of(cache.getElemBeforeTime(at(399))) == 300
    assert cache.getElemAfterTime(at(601)) is None
    assert cache.getElemBeforeTime(at(199)) is None


def test_a_cache_is_in_the_order_of_arrival():
    source = SimpleFilter()
    cache = Cache(source, 3)
    for stamp_ms in (300, 100, 200):
        source.signalMessage(message(stamp_ms))
    assert cache.getOldestTime() == at(300)
    assert cache.getLastestTime() == at(200)
    assert ms_of(cache.getLast()) == 300  # came in first of those at or after 200
    assert ms_of(cache.getElemBeforeTime(at(250))) == 200
    assert [ms_of(m) for m in cache.getInterval(at(0), at(400))] == [300, 100, 200]


def test_an_empty_cache_has_nothing():
    cache = Cache(SimpleFilter())
    assert cache.getLast() is None
    assert cache.getLastestTime() is None
    assert cache.getOldestTime() is None
    assert cache.getElemAfterTime(at(0)) is None
    assert cache.getElemBeforeTime(at(0)) is None


def test_by_default_a_cache_keeps_one_and_hands_on_all():
    source, out = SimpleFilter(), []
    cache = Cache(source)
    cache.registerCallback(out.append)
    for stamp_ms in (1, 2, 3):
        source.signalMessage(message(stamp_ms))
    assert [ms_of(m) for m in cache.cache_msgs] == [3]
    assert [ms_of(m) for m in out] == [1, 2, 3]


@pytest.mark.parametrize("headerless", [String(data="no header"), SimpleNamespace(header=SimpleNamespace())])
def test_a_cache_refuses_what_has_no_stamp(headerless, capfd):
    source, out = SimpleFilter(), []
    cache = Cache(source)
    cache.registerCallback(out.append)
    source.signalMessage(headerless)
    assert cache.getLast() is None
    assert out == []
    warning = capfd.readouterr().err
    assert "message_filters_cache" in warning
    assert "allow_headerless" in warning


def test_a_cache_may_stamp_what_has_none():
    source = SimpleFilter()
    cache = Cache(source, allow_headerless=True)
    before = ROSClock().now()
    source.signalMessage(String(data="x"))
    assert before <= cache.getLastestTime() <= ROSClock().now()
    assert cache.getLast().data == "x"


def test_a_stamp_may_be_a_time():
    source = SimpleFilter()
    cache = Cache(source)
    source.signalMessage(SimpleNamespace(header=SimpleNamespace(stamp=at(7))))
    assert cache.getLastestTime() == at(7)


# Chain


def test_an_empty_chain_hands_on():
    chain, out = Chain(), []
    chain.registerCallback(out.append)
    chain.add("x")
    assert out == ["x"]


def test_a_chain_feeds_each_from_the_one_before():
    source, out = SimpleFilter(), []
    chain = Chain(source)
    first, second = Cache(SimpleFilter(), 2), Cache(SimpleFilter(), 3)
    chain.addFilter(first)
    chain.addFilter(second)
    chain.registerCallback(out.append)
    for stamp_ms in (1, 2, 3):
        source.signalMessage(message(stamp_ms))
    assert chain.getFilter(0) is first
    assert chain.getFilter(1) is second
    assert [ms_of(m) for m in first.cache_msgs] == [2, 3]
    assert [ms_of(m) for m in second.cache_msgs] == [1, 2, 3]
    assert [ms_of(m) for m in out] == [1, 2, 3]
    with pytest.raises(RuntimeError, match="Already connected"):
        chain.connectInput(SimpleFilter())


# Exact


def test_equal_stamps_meet_in_any_order():
    filters, _, sets = connected(TimeSynchronizer, 3, 10)
    for index, stamp_ms in [(0, 1), (2, 1), (0, 2), (1, 1), (1, 2), (2, 2)]:
        filters[index].signalMessage(message(stamp_ms))
    assert sets == [(1, 1, 1), (2, 2, 2)]


def test_a_full_queue_loses_its_oldest():
    filters, synchronizer, sets = connected(TimeSynchronizer, 2, 2)
    for stamp_ms in (3, 1, 2):
        filters[0].signalMessage(message(stamp_ms))
    assert sorted(synchronizer.queues[0]) == [2 * MS, 3 * MS]
    for stamp_ms in (1, 2, 3):
        filters[1].signalMessage(message(stamp_ms))
    assert sets == [(2, 2), (3, 3)]


def test_what_is_older_than_a_set_is_forgotten():
    """Since 4.11.10, as in C++."""
    filters, synchronizer, sets = connected(TimeSynchronizer, 2, 10)
    for index, stamp_ms in [(0, 1), (0, 2), (1, 2), (1, 1)]:
        filters[index].signalMessage(message(stamp_ms))
    assert sets == [(2, 2)]
    assert [sorted(queue) for queue in synchronizer.queues] == [[], [1 * MS]]


def test_one_nanosecond_apart_is_not_equal():
    filters, _, sets = connected(TimeSynchronizer, 2, 10)
    for source, nanosec in zip(filters, (5, 6), strict=True):
        image = Image()
        image.header.stamp = TimeMessage(sec=1, nanosec=nanosec)
        source.signalMessage(image)
    assert sets == []


@pytest.mark.parametrize(("kind", "args"), [(TimeSynchronizer, (5,)), (ApproximateTimeSynchronizer, (5, 0.1))])
def test_callbacks_run_under_the_lock(kind, args):
    """So a callback must not feed the synchroniser that calls it."""
    filters, synchronizer, _ = connected(kind, 2, *args)
    held = []
    synchronizer.registerCallback(lambda *_: held.append(synchronizer.lock.locked()))
    for source in filters:
        source.signalMessage(message(1))
    assert held == [True]
    assert not synchronizer.lock.locked()


# Approximate


def test_the_slop_itself_is_too_much():
    for gap_ms, expected in [(99, [(0, 99)]), (100, [])]:
        filters, _, sets = connected(ApproximateTimeSynchronizer, 2, 10, 0.1)
        filters[0].signalMessage(message(0))
        filters[1].signalMessage(message(gap_ms))
        assert sets == expected


def test_no_slop_matches_nothing():
    filters, _, sets = connected(ApproximateTimeSynchronizer, 2, 10, 0.0)
    for source in filters:
        source.signalMessage(message(1))
    assert sets == []


def test_the_nearest_is_taken():
    filters, synchronizer, sets = connected(ApproximateTimeSynchronizer, 2, 10, 0.1)
    for stamp_ms in (0, 40, 90):
        filters[0].signalMessage(message(stamp_ms))
    filters[1].signalMessage(message(50))
    assert sets == [(40, 50)]
    assert sorted(synchronizer.queues[0]) == [0, 90 * MS]  # older ones stay, unlike with equal stamps


def test_all_must_be_within_the_slop_of_each_other():
    filters, _, sets = connected(ApproximateTimeSynchronizer, 3, 10, 0.1)
    filters[0].signalMessage(message(0))
    filters[1].signalMessage(message(110))
    filters[2].signalMessage(message(50))  # near both, which are too far from one another
    assert sets == []
    filters[1].signalMessage(message(70))
    assert sets == [(0, 70, 50)]


def test_a_message_too_old_for_a_full_queue_matches_nothing():
    filters, _, sets = connected(ApproximateTimeSynchronizer, 2, 1, 0.1)
    filters[1].signalMessage(message(10))
    filters[0].signalMessage(message(500))
    filters[0].signalMessage(message(10))
    assert sets == []


def test_approximate_refuses_what_has_no_stamp(capfd):
    filters, synchronizer, _ = connected(ApproximateTimeSynchronizer, 2, 10, 0.1)
    filters[0].signalMessage(String())
    assert synchronizer.queues == [{}, {}]
    warning = capfd.readouterr().err
    assert "message_filters_approx" in warning
    assert "allow_headerless" in warning


def test_approximate_may_stamp_what_has_none():
    filters = [SimpleFilter(), SimpleFilter()]
    synchronizer = ApproximateTimeSynchronizer(filters, 10, 5.0, allow_headerless=True)
    pairs = []
    synchronizer.registerCallback(lambda *pair: pairs.append(pair))
    text, now = String(data="x"), Image()
    now.header.stamp = ROSClock().now().to_msg()
    filters[0].signalMessage(text)
    filters[1].signalMessage(now)
    assert pairs == [(text, now)]


def test_the_slop_can_be_changed():
    filters, synchronizer, sets = connected(ApproximateTimeSynchronizer, 2, 10, 0.01)
    synchronizer.slop = Duration(seconds=1.0)
    filters[0].signalMessage(message(0))
    filters[1].signalMessage(message(900))
    assert sets == [(0, 900)]


def test_fed_without_a_filter():
    """`add` without an index looks for partners in every queue, its own too."""
    _, synchronizer, sets = connected(ApproximateTimeSynchronizer, 2, 10, 0.1)
    synchronizer.add(message(5), synchronizer.queues[0])
    synchronizer.add(message(6), synchronizer.queues[1])
    assert sets == [(5, 6)]


def first_combination(queues, index, stamp_ms, slop_ms):
    """The rule in plain words: of all combinations, nearest to the arrival first, the first that is narrow enough."""
    near = [
        [stamp_ms]
        if i == index
        else sorted((t for t in q if abs(t - stamp_ms) <= slop_ms), key=lambda t: abs(t - stamp_ms))
        for i, q in enumerate(queues)
    ]
    narrow = (c for c in itertools.product(*near) if max(c) - min(c) < slop_ms)
    return next((c for c in narrow if all(t in q for t, q in zip(c, queues, strict=True))), None)


@given(
    count=st.integers(2, 4),
    size=st.integers(1, 6),
    slop_ms=st.integers(1, 40),
    arrivals=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200)), max_size=40),
)
@settings(max_examples=150)
def test_approximate_follows_the_rule(count, size, slop_ms, arrivals):
    filters, _, sets = connected(ApproximateTimeSynchronizer, count, size, slop_ms / 1000)
    queues, expected = [{} for _ in range(count)], []
    for source, stamp_ms in arrivals:
        index = source % count
        filters[index].signalMessage(message(stamp_ms))
        queues[index][stamp_ms] = True
        if len(queues[index]) > size:
            del queues[index][min(queues[index])]
        chosen = first_combination(queues, index, stamp_ms, slop_ms)
        if chosen:
            expected.append(chosen)
            for queue, t in zip(queues, chosen, strict=True):
                del queue[t]
    assert sets == expected


@given(order=st.permutations([(index, stamp_ms) for index in range(2) for stamp_ms in range(0, 60, 10)]))
@settings(max_examples=100)
def test_exact_follows_the_rule(order):
    """A set goes out when it is complete, and takes what has waited longer with it."""
    filters, _, sets = connected(TimeSynchronizer, 2, 10)
    waiting, expected = [set(), set()], []
    for index, stamp_ms in order:
        filters[index].signalMessage(message(stamp_ms))
        waiting[index].add(stamp_ms)
        if all(stamp_ms in w for w in waiting):
            expected.append((stamp_ms, stamp_ms))
            waiting = [{t for t in w if t > stamp_ms} for w in waiting]
    assert sets == expected

"""Taking turns: the newest view of everybody counts, nobody waits for two turns of another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.viewer.worker import TurnTaker

SOON_S = 20.0


class Stage:
    """Draws one picture each time it is let."""

    def __init__(self, rest_s: float = 0.0) -> None:
        self.drawn: queue.Queue[tuple[Hashable, int, bool]] = queue.Queue()
        self.let = threading.Semaphore(0)
        self.turns: TurnTaker[int] = TurnTaker(self._draw, rest_s)

    def _draw(self, viewer: Hashable, view: int, at_rest: bool) -> None:
        self.drawn.put((viewer, view, at_rest))
        self.let.acquire(timeout=SOON_S)

    def next(self) -> tuple[Hashable, int, bool]:
        self.let.release()
        return self.drawn.get(timeout=SOON_S)

    def end(self) -> None:
        for _ in range(1000):
            self.let.release()
        self.turns.close()


def test_a_view_is_drawn_small_and_then_in_full() -> None:
    stage = Stage()
    stage.turns.look("a", 1)
    assert [stage.next(), stage.next()] == [("a", 1, False), ("a", 1, True)]
    stage.turns.look("a", 2, moving=False)
    assert stage.next() == ("a", 2, True), "another layer of the same view is drawn in full at once"
    stage.end()


def test_views_that_were_overtaken_are_never_drawn() -> None:
    stage = Stage(rest_s=60.0)
    stage.turns.look("a", 0)
    assert stage.drawn.get(timeout=SOON_S) == ("a", 0, False)
    for view in range(1, 100):  # while the first one is being drawn
        stage.turns.look("a", view)
    assert stage.next() == ("a", 99, False)
    assert stage.turns.overtaken == 98
    stage.end()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(2, 5))
def test_viewers_take_turns(asked: list[int], viewers: int) -> None:
    stage = Stage(rest_s=60.0)
    stage.turns.look("first", -1)
    stage.drawn.get(timeout=SOON_S)
    newest: dict[Hashable, int] = {}
    for number, viewer in enumerate(asked):
        newest[viewer % viewers] = number
        stage.turns.look(viewer % viewers, number)
    got = [stage.next()[:2] for _ in newest]
    assert len(got) == len(newest)
    assert dict(got) == newest, "each once, and its newest"
    stage.end()


def test_who_moves_all_the_time_does_not_keep_others_from_their_full_picture() -> None:
    stage = Stage(rest_s=0.0)
    stage.turns.look("hasty", -1)  # the first in the queue
    assert stage.drawn.get(timeout=SOON_S) == ("hasty", -1, False)
    stage.turns.look("calm", 0)
    seen = []
    for view in range(6):
        stage.turns.look("hasty", view)
        seen.append(stage.next())
    assert ("calm", 0, False) in seen
    assert ("calm", 0, True) in seen
    stage.end()


def test_who_has_left_is_not_drawn_and_an_error_ends_nothing() -> None:
    done: queue.Queue[int] = queue.Queue()

    def draw(viewer: Hashable, view: int, at_rest: bool) -> None:
        done.put(view)
        if view == 1:
            raise RuntimeError("a browser has gone")

    turns: TurnTaker[int] = TurnTaker(draw, 60.0)
    turns.look("a", 1)
    assert done.get(timeout=SOON_S) == 1
    turns.forget("a")
    turns.look("b", 2)
    assert done.get(timeout=SOON_S) == 2
    turns.close()
    assert done.empty()

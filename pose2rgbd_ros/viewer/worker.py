"""Who is drawn next: of every viewer only the newest view counts, and viewers take turns.

A view is drawn small as soon as it is its viewer's turn, and in full once the viewer has rested. A view that another
one has overtaken is never drawn, so a slow model or a slow line shows fewer pictures, not old ones.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

View = TypeVar("View")
_log = logging.getLogger(__name__)


@dataclass
class _Slot(Generic[View]):
    """The newest view of a viewer, and how far it is drawn."""

    view: View
    asked_s: float  # by time.monotonic
    is_small_due: bool = True
    is_full_due: bool = True


class TurnTaker(Generic[View]):
    """One thread that draws for any number of viewers.

    draw(viewer, view, at_rest): draws and shows; what it raises is logged, and the viewer's next view is tried.
    """

    def __init__(self, draw: Callable[[Hashable, View, bool], None], rest_s: float = 0.15) -> None:
        self._draw, self._rest_s = draw, rest_s
        self._slots: OrderedDict[Hashable, _Slot[View]] = OrderedDict()  # whose turn is next stands first
        self._changed = threading.Condition()
        self._is_open = True
        self.overtaken = 0  # views that a newer one replaced before they were drawn
        self._thread = threading.Thread(target=self._run, name="viewer drawing", daemon=True)
        self._thread.start()

    def look(self, viewer: Hashable, view: View, moving: bool = True) -> None:
        """A viewer's newest view; the one before is forgotten, its place in the queue stays. From any thread.

        moving: draw it small first; else at once in full, as when only another layer was chosen.
        """
        with self._changed:
            slot = self._slots.get(viewer)
            if slot is not None and slot.is_small_due:
                self.overtaken += 1
            now_s = time.monotonic() - (0.0 if moving else self._rest_s)
            made = _Slot(view, now_s, is_small_due=moving)
            self._slots[viewer] = made
            self._changed.notify()

    def forget(self, viewer: Hashable) -> None:
        """A viewer has left."""
        with self._changed:
            self._slots.pop(viewer, None)

    def close(self) -> None:
        """End the thread, after the picture it is at."""
        with self._changed:
            self._is_open = False
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10.0)

    def _run(self) -> None:
        while (turn := self._next_turn()) is not None:
            viewer, view, at_rest = turn
            try:
                self._draw(viewer, view, at_rest)
            except Exception:
                _log.exception("a picture could not be drawn")

    def _next_turn(self) -> tuple[Hashable, View, bool] | None:
        """Wait for it; None: closed."""
        with self._changed:
            while self._is_open:
                now_s = time.monotonic()
                for viewer, slot in self._slots.items():
                    at_rest = not slot.is_small_due
                    if slot.is_small_due or (slot.is_full_due and slot.asked_s + self._rest_s <= now_s):
                        slot.is_small_due, slot.is_full_due = False, not at_rest
                        self._slots.move_to_end(viewer)
                        return viewer, slot.view, at_rest
                rested_s = [slot.asked_s + self._rest_s for slot in self._slots.values() if slot.is_full_due]
                self._changed.wait(max(min(rested_s) - now_s, 0.0) if rested_s else None)
        return None

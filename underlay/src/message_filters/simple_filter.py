"""What every filter is, the one that messages enter by, and the one that holds others in a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile


class SimpleFilter:
    """Calls whoever registered, in the order of registration, with each of its outputs."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}

    def registerCallback(self, cb: Callable[..., Any], *args: Any) -> int:
        """Have `cb` called with the messages of each output and then `args`; the number it is kept under."""
        number = len(self.callbacks)
        self.callbacks[number] = (cb, args)
        return number

    def signalMessage(self, *msg: Any) -> None:
        """Hand an output on."""
        for callback, args in self.callbacks.values():
            callback(*msg, *args)


class Subscriber(SimpleFilter):
    """A subscription as a filter; whatever else is asked of it, the subscription answers."""

    def __init__(
        self, node: Node, msg_type: Any, topic: str, qos_profile: QoSProfile | int = 10, **kwargs: Any
    ) -> None:
        """Further keywords (callback_group, qos_overriding_options, ...) go to `node.create_subscription`."""
        super().__init__()
        self.node = node
        self.topic = topic
        self.sub = node.create_subscription(msg_type, topic, self.callback, qos_profile, **kwargs)

    def callback(self, msg: Any) -> None:
        """Hand a message on."""
        self.signalMessage(msg)

    def getTopic(self) -> str:
        """The topic as it was given, before any remapping; `topic_name` is the one of the subscription."""
        return self.topic

    def __getattr__(self, name: str) -> Any:
        if name == "sub":  # not made yet: without this the look-up below would never end
            raise AttributeError(name)
        return getattr(self.sub, name)


class Chain(SimpleFilter):
    """Filters in a row, each fed by the one before; the output of the last is the chain's."""

    @dataclass
    class FilterInfo:
        """A filter and the number its output is registered under."""

        message_filter: Any
        connection_callback_index: int

    def __init__(self, message_filter: SimpleFilter | None = None) -> None:
        super().__init__()
        self.incoming_connection: int | None = None
        self._message_filters: dict[int, Chain.FilterInfo] = {}
        if message_filter is not None:
            self.connectInput(message_filter)

    def connectInput(self, message_filter: SimpleFilter) -> None:
        """Feed the chain from a filter. Raises RuntimeError if it is fed already."""
        if self.incoming_connection is not None:
            raise RuntimeError("Already connected")
        self.incoming_connection = message_filter.registerCallback(self.add)

    def add(self, message: Any) -> None:
        """Feed a message to the first filter; an empty chain hands it on."""
        if self._message_filters:
            self._message_filters[0].message_filter.add(message)
        else:
            self.signalMessage(message)

    def addFilter(self, message_filter: Any) -> None:
        """Append a filter that has a method `add`."""
        index = len(self._message_filters)
        last = self._message_filters.get(index - 1)
        self._message_filters[index] = Chain.FilterInfo(
            message_filter, message_filter.registerCallback(self.signalMessage)
        )
        if last is not None:
            last.message_filter.callbacks.pop(last.connection_callback_index)
            last.connection_callback_index = last.message_filter.registerCallback(message_filter.add)

    def getFilter(self, index: int) -> Any:
        """The filter of an index, from 0. Raises KeyError where there is none."""
        return self._message_filters[index].message_filter

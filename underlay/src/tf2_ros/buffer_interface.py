"""What every tf buffer can do, and the register of types it can transform."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time
from std_msgs.msg import Header

NO_WAIT = Duration()


class TypeException(Exception):
    """A type nobody registered."""

    def __init__(self, errstr: str) -> None:
        super().__init__(errstr)
        self.errstr = errstr


class NotImplementedException(Exception):
    """A buffer class lacks can_transform or lookup_transform."""

    def __init__(self) -> None:
        self.errstr = "CanTransform or LookupTransform not implemented"
        super().__init__(self.errstr)


class _Register:
    """Functions by key, shared by all instances of the class that owns it."""

    def __init__(self) -> None:
        self._functions: dict[Any, Callable[..., Any]] = {}

    def add(self, key: Any, function: Callable[..., Any]) -> None:
        self._functions[key] = function

    def get(self, key: Any) -> Callable[..., Any]:
        if key not in self._functions:
            raise TypeException(f"Type {key} is not loaded or supported")
        return self._functions[key]

    def __str__(self) -> str:
        return str(self._functions)


class TransformRegistration:
    """type -> function(object, TransformStamped) that transforms it. One table for the process."""

    _table = _Register()

    def add(self, key: type, callback: Callable[[Any, TransformStamped], Any]) -> None:
        self._table.add(key, callback)

    def get(self, key: type) -> Callable[[Any, TransformStamped], Any]:
        return self._table.get(key)

    def print_me(self) -> None:
        print(self._table)


class ConvertRegistration:
    """Conversions between types: directly, or by way of a message. One set of tables for the process."""

    _to_msg = _Register()
    _from_msg = _Register()
    _convert = _Register()

    def add_from_msg(self, key: type, callback: Callable[[Any], Any]) -> None:
        self._from_msg.add(key, callback)

    def add_to_msg(self, key: type, callback: Callable[[Any], Any]) -> None:
        self._to_msg.add(key, callback)

    def add_convert(self, key: tuple[type, type], callback: Callable[[Any], Any]) -> None:
        self._convert.add(key, callback)

    def get_from_msg(self, key: type) -> Callable[[Any], Any]:
        return self._from_msg.get(key)

    def get_to_msg(self, key: type) -> Callable[[Any], Any]:
        return self._to_msg.get(key)

    def get_convert(self, key: tuple[type, type]) -> Callable[[Any], Any]:
        return self._convert.get(key)


def convert(a: Any, b_type: type) -> Any:
    """`a` as a `b_type`: by a registered shortcut, as a copy when it is one already, or by way of a message."""
    registration = ConvertRegistration()
    try:
        shortcut = registration.get_convert((type(a), b_type))
    except TypeException:
        if type(a) is b_type:
            return deepcopy(a)
        return registration.get_from_msg(b_type)(registration.get_to_msg(type(a))(a))
    return shortcut(a)


def Stamped(obj: Any, stamp: Any, frame_id: str) -> Any:
    """`obj` with a header of that stamp (a builtin_interfaces Time) and frame."""
    obj.header = Header(frame_id=frame_id, stamp=stamp)
    return obj


class BufferInterface:
    """Transforms stamped objects; a subclass knows how to look transforms up."""

    def __init__(self) -> None:
        self.registration = TransformRegistration()

    def transform(
        self, object_stamped: Any, target_frame: str, timeout: Duration = NO_WAIT, new_type: type | None = None
    ) -> Any:
        """The object in the target frame, as a `new_type` if given.

        Raises TypeException for a type without a registered function, and what `lookup_transform` raises.
        """
        do_transform = self.registration.get(type(object_stamped))
        header = object_stamped.header
        transform = self.lookup_transform(target_frame, header.frame_id, header.stamp, timeout)
        return _as_type(do_transform(object_stamped, transform), new_type)

    def transform_full(
        self,
        object_stamped: Any,
        target_frame: str,
        target_time: Time,
        fixed_frame: str,
        timeout: Duration = NO_WAIT,
        new_type: type | None = None,
    ) -> Any:
        """The object in the target frame at another time, carried over by a frame that did not move."""
        do_transform = self.registration.get(type(object_stamped))
        header = object_stamped.header
        transform = self.lookup_transform_full(
            target_frame, target_time, header.frame_id, header.stamp, fixed_frame, timeout
        )
        return _as_type(do_transform(object_stamped, transform), new_type)

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration = NO_WAIT
    ) -> TransformStamped:
        """T_target_source at that time."""
        raise NotImplementedException

    def lookup_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = NO_WAIT,
    ) -> TransformStamped:
        """T_target_source between two times, by way of a fixed frame."""
        raise NotImplementedException

    def can_transform(self, target_frame: str, source_frame: str, time: Time, timeout: Duration = NO_WAIT) -> bool:
        """Whether the lookup would succeed."""
        raise NotImplementedException

    def can_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = NO_WAIT,
    ) -> bool:
        """Whether the lookup in two steps would succeed."""
        raise NotImplementedException


def _as_type(result: Any, new_type: type | None) -> Any:
    return result if new_type is None else convert(result, new_type)

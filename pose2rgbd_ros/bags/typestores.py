"""The message types of ROS 1 (Noetic) and ROS 2 (Jazzy), from the definitions that come with rosbags.

The types this package reads have the same layout in every ROS 2 distribution, so bags without embedded definitions
(sqlite3 before Iron) are read as well.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from pose2rgbd_ros.bags import px4
from pose2rgbd_ros.errors import UserError

_TF_MESSAGE = "geometry_msgs/TransformStamped[] transforms\n"


@functools.cache
def typestore(ros: str) -> Any:
    """The rosbags typestore of ROS "1" or "2". UserError for anything else."""
    return _new(ros)


def typestore_of(ros: str, connections: Iterable[Any]) -> tuple[Any, frozenset[str]]:
    """The typestore for a file's connections, and the types of which it knows only the beginning (see `px4`).

    Types of PX4 are taken from the definitions that the file brings along.
    """
    wanted = {item.msgtype: item.msgdef for item in connections if item.msgtype in px4.TYPES}
    if not wanted:
        return typestore(ros), frozenset()
    store = _new(ros)  # releases differ, so what one recording defines must not reach the next
    for name, definition in wanted.items():
        parse = _PARSERS.get(definition.format)
        try:
            types = parse(definition.data, name) if parse and definition.data else {}
            store.register({name: types[name]} if name in types else {})
        except _BAD_DEFINITION:
            continue
    short = set(wanted) - set(store.types)
    store.register({name: px4.beginnings()[name] for name in short})
    return store, frozenset(short)


_BAD_DEFINITION = (
    *(TypesysError, ValueError, KeyError, IndexError),
    *(AssertionError, TypeError, RecursionError, RuntimeError),
)
_PARSERS: dict[Any, Any] = {
    MessageDefinitionFormat.MSG: get_types_from_msg,
    MessageDefinitionFormat.IDL: lambda text, _: get_types_from_idl(text),
}


def _new(ros: str) -> Any:
    if ros == "2":
        return get_typestore(Stores.ROS2_JAZZY)
    if ros != "1":
        raise UserError(f"there is no ROS {ros!r}; choose '1' or '2'")
    store = get_typestore(Stores.ROS1_NOETIC)
    # Noetic keeps TF outside of common_msgs, so rosbags does not bring it.
    for name in ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage"):
        store.register(get_types_from_msg(_TF_MESSAGE, name))
    return store

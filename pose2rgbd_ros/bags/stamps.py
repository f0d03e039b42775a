"""The header stamp of a serialized message, without reading the rest of it."""

from __future__ import annotations

import struct

TF = "tf2_msgs/msg/TFMessage"
_LITTLE, _BIG = struct.Struct("<iI"), struct.Struct(">iI")
# Where sec and nanosec stand. CDR: 4 bytes of encapsulation, then the stamp. ROS 1: a sequence number before it.
_AT = {"1": 4, "2": 4}
# A TFMessage counts its transforms first; its stamp is that of the first one.
_LENGTH_BYTES = 4


def header_stamp_ns(data: bytes, msgtype: str, ros: str) -> int:
    """The stamp in nanoseconds of a message that begins with a std_msgs/Header, or of a TFMessage; of ROS "1" or "2".

    struct.error when the message is too short, as a TFMessage without transforms is.
    """
    at = _AT[ros] + (_LENGTH_BYTES if msgtype == TF else 0)
    little = ros == "1" or data[1:2] == b"\x01"
    seconds, nanoseconds = (_LITTLE if little else _BIG).unpack_from(data, at)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)

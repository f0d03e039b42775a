"""The message types of ROS 1 (Noetic) and ROS 2 (Jazzy), from the definitions that come with rosbags.

The types this package reads have the same layout in every ROS 2 distribution, so bags without embedded definitions
(sqlite3 before Iron) are read as well.
"""

from __future__ import annotations

import functools
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from pose2rgbd_ros.errors import UserError

_TF_MESSAGE = "geometry_msgs/TransformStamped[] transforms\n"


@functools.cache
def typestore(ros: str) -> Any:
    """The rosbags typestore of ROS "1" or "2". UserError for anything else."""
    if ros == "2":
        return get_typestore(Stores.ROS2_JAZZY)
    if ros != "1":
        raise UserError(f"there is no ROS {ros!r}; choose '1' or '2'")
    store = get_typestore(Stores.ROS1_NOETIC)
    # Noetic keeps TF outside of common_msgs, so rosbags does not bring it.
    for name in ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage"):
        store.register(get_types_from_msg(_TF_MESSAGE, name))
    return store

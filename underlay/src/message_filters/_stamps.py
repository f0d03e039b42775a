"""The time of a message."""

from __future__ import annotations

from typing import Any

import rclpy.logging
from rclpy.clock import ROSClock
from rclpy.logging import LoggingSeverity
from rclpy.time import Time


def stamp_of(message: Any, allow_headerless: bool, logger_name: str) -> Time | None:
    """The stamp of a message's header, as a Time or anything else with `nanoseconds`.

    Without a header it is the present time if `allow_headerless`, else None and a warning.
    """
    try:
        stamp = message.header.stamp
    except AttributeError:
        if allow_headerless:
            return ROSClock().now()
        logger = rclpy.logging.get_logger(logger_name)
        logger.set_level(LoggingSeverity.INFO)
        logger.warning(
            "can not use message filters messages without timestamp infomation when 'allow_headerless' is disabled. "
            "auto assign ROSTIME to headerless messages once enabling constructor option of 'allow_headerless'."
        )
        return None
    return stamp if hasattr(stamp, "nanoseconds") else Time.from_msg(stamp)

"""Whether the map flown in has the origin that the model was trained with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import NavSatFix

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.geodesy import Datum, wgs84_to_enu
from pose2rgbd_ros.nodes.avoid_settings import AvoidSettings

SIGMAS = 2.0  # of a GPS' error in space: 99 % of the origins found from it are nearer


class DatumCheck:
    """Compares the datum of the model with that of the parameter map_datum, or of the topic `map_origin`.

    A datum that was found from GPS is as uncertain as GPS: a distance that this explains is no other map.

    A NavSatFix there is the origin of the map, sent once and kept for whoever comes later. Where either side has no datum
    nothing can be compared, and nothing is refused.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._model: Datum | None = None
        self._received: Datum | None = None
        self._subscription: Subscription | None = None
        self._told = ""

    def load(self, settings: AvoidSettings) -> None:
        """Read the model's datum. UserError when the model or map_datum cannot be read."""
        settings.datum()
        self._model = None
        if settings.model:
            from pose2rgbd_ros.training.checkpoint import load_checkpoint  # brings torch along

            self._model = load_checkpoint(Path(settings.model).expanduser()).datum
        if self._model is None and (settings.model or settings.map_datum.strip()):
            lacks = (
                f"the model {settings.model} has no datum" if settings.model else "map_datum needs model too"
            )
            self._node.get_logger().warning(f"{lacks}: whether the map is that of the model is not compared")

    def start(self) -> None:
        """Subscribe."""
        qos = QoSProfile(
            depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
        self._subscription = self._node.create_subscription(NavSatFix, "map_origin", self._take, qos)

    def stop(self) -> None:
        """Unsubscribe, and forget what was received."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._received = None

    def refusal(self, settings: AvoidSettings) -> str:
        """Why the map is not that of the model; empty: it is, or nothing is known against it."""
        for where, datum in (("map_datum", settings.datum()), ("map_origin", self._received)):
            if datum is None or self._model is None:
                continue
            offset = wgs84_to_enu(datum.latitude_deg, datum.longitude_deg, datum.altitude_m, self._model)
            offset_m = float(np.linalg.norm(offset))
            sigma_m = float(np.hypot(datum.sigma_m or 0.0, self._model.sigma_m or 0.0))
            by_gps = f", which GPS knows to {sigma_m:.1f} m" if sigma_m else ""
            if offset_m > settings.max_datum_offset_m + SIGMAS * sigma_m:
                return (
                    f"the origin of {settings.map_frame} ({where}: {datum}) is {offset_m:.1f} m from the datum of the "
                    f"model ({self._model}){by_gps}: its obstacles would be elsewhere; use the model's datum, or one "
                    "trained here; max_datum_offset_m allows more"
                )
            self._tell(
                f"the origin of {settings.map_frame} is {offset_m:.1f} m from the model's datum{by_gps}"
            )
        return ""

    def _tell(self, line: str) -> None:
        if line != self._told:
            self._node.get_logger().info(line)
        self._told = line

    def _take(self, message: NavSatFix) -> None:
        altitude_m = message.altitude if np.isfinite(message.altitude) else None
        if altitude_m is None and self._model is not None:
            altitude_m = self._model.altitude_m  # an origin without altitude is compared in the plane
        try:
            self._received = Datum(message.latitude, message.longitude, altitude_m or 0.0, _sigma_m(message))
        except UserError as error:
            self._node.get_logger().warning(f"map_origin is not used: {error}")


def _sigma_m(message: NavSatFix) -> float | None:
    """The standard deviation in space that a fix has by its own account, None where it says nothing."""
    variance_m2 = float(np.trace(np.reshape(message.position_covariance, (3, 3))))
    known = message.position_covariance_type != NavSatFix.COVARIANCE_TYPE_UNKNOWN
    return float(np.sqrt(variance_m2)) if known and np.isfinite(variance_m2) and variance_m2 > 0 else None

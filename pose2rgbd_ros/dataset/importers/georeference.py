"""Where the origin of recorded poses lies on Earth, from the GPS fixes recorded beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84, wgs84_to_enu
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams import fix_track

_FEWEST_FIXES = 5
_SHORTEST_TRACK_M = 10.0
# Poses fit the fixes when the differences scatter by less than a GPS does, or than this part of the track.
_SCATTER_M, _SCATTER_PART = 2.0, 0.05
# Origins nearer than this are the same within what a GPS knows from one day to the next.
SAME_ORIGIN_M = 5.0
# Poses are moved, not turned: this far away, east, north and up differ by half a degree, so it is another place.
FARTHEST_ORIGIN_M = 50_000.0


@dataclass(frozen=True)
class Georeference:
    """The origin of the poses, or None, and how that was found, in words."""

    datum: Datum | None
    how: str


class FixLog(fix_track.FixLog):
    """GPS fixes in compact arrays, which may tell where the origin of poses lies."""

    def georeference(
        self, body: Trajectory, max_gap_ns: int, antenna_m: Float64 | None = None
    ) -> Georeference:
        """The point on Earth where the poses' origin lies, if their axes are east, north and up.

        That is so when fix minus pose is the same all along the track. `antenna_m` (3,): the antenna in the body,
        None: where the body is; altitudes are the receiver's, 0 where it gave none.
        """
        stamps, place = self.wgs84()
        latitude, longitude, altitude = place.T
        at = body.interpolate(stamps, max_gap_ns)
        if at.valid.sum() < _FEWEST_FIXES:
            return Georeference(None, f"only {at.valid.sum()} GPS fixes have a pose: no datum from them")
        first = Datum(latitude[0], longitude[0], float(np.nan_to_num(altitude[0])))
        T = at.T[at.valid]
        position = T[:, :3, 3] + (0.0 if antenna_m is None else T[:, :3, :3] @ antenna_m)
        offset = wgs84_to_enu(latitude[at.valid], longitude[at.valid], altitude[at.valid], first) - position
        offset[:, 2] = np.nan_to_num(offset[:, 2])
        origin = np.median(offset, axis=0)
        span = float(np.linalg.norm(np.ptp(position[:, :2], axis=0)))
        scatter = float(np.median(np.linalg.norm((offset - origin)[:, :2], axis=1)))
        if span < _SHORTEST_TRACK_M:
            return Georeference(None, f"the track spans only {span:.1f} m: no datum from GPS")
        if scatter > max(_SCATTER_M, _SCATTER_PART * span):
            return Georeference(
                None,
                f"the poses are not in east, north and up of the GPS (off by {scatter:.1f} m over {span:.0f} m): "
                "no datum; --position fused brings the two together",
            )
        latitude_deg, longitude_deg, altitude_m = (float(value) for value in enu_to_wgs84(origin, first))
        datum = Datum(latitude_deg, longitude_deg, altitude_m, self.sigma_m())
        return Georeference(
            datum, f"datum from {at.valid.sum()} GPS fixes, which fit the poses to {scatter:.2f} m"
        )


def shift_m(own: Datum, common: Datum) -> Float64:
    """Where the origin `own` lies in the map of `common`: (3,) to add to the poses; zero when both are the same place.

    UserError when the two are too far apart for one map.
    """
    offset = wgs84_to_enu(own.latitude_deg, own.longitude_deg, own.altitude_m, common)
    distance_m = float(np.linalg.norm(offset))
    if distance_m > FARTHEST_ORIGIN_M:
        raise UserError(
            f"by GPS the poses' origin lies {distance_m / 1000:.0f} km from the map's datum ({own}, not {common}); "
            "check --datum, or choose another folder for another place"
        )
    return offset if distance_m > SAME_ORIGIN_M else np.zeros(3)

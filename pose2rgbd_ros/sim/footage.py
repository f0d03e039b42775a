"""`pose2rgbd sim photos` and `sim video`: a flight over the city as people have it who own a drone and no ROS:
geotagged photographs, or a video and a GPX track, with the errors of plain GPS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import enu_to_wgs84
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.flight import Flight
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer, require_opengl
from pose2rgbd_ros.sim.state import DATUM

BEGUN = np.datetime64("2024-05-01T12:00:00.000", "ms")  # UTC
UPRIGHT = 1.6  # GPS knows heights so much worse than positions


def _survey() -> FlightConfig:
    """A small survey whose pictures overlap as structure from motion wants it."""
    return FlightConfig(plan="lawnmower", area_m=90.0, line_spacing_m=18.0, camera_pitch_deg=80.0)


@dataclass(frozen=True)
class PhotosConfig:
    """What `pose2rgbd sim photos` takes."""

    photos: int = setting(60, "photographs, at equal steps of time along the whole flight", ge=2, le=100_000)
    width: int = setting(1024, "width of the pictures in pixels", ge=64, le=8192)
    height: int = setting(768, "height of the pictures in pixels", ge=64, le=8192)
    fov_deg: float = setting(65.0, "horizontal field of view in degrees", ge=10.0, le=150.0)
    gps_m: float = setting(1.5, "sigma of positions, east and north, in metres; of heights 1.6 times as much", ge=0)
    attitude_deg: float = setting(1.0, "sigma of each angle of the gimbal in degrees", ge=0, le=45.0)
    seed: int = setting(0, "draws these errors")
    city: CityConfig = field(default_factory=CityConfig)
    flight: FlightConfig = field(default_factory=_survey)


@dataclass(frozen=True)
class VideoConfig:
    """What `pose2rgbd sim video` films and logs."""

    duration_s: float = setting(70.0, "seconds of video; the log begins before it", ge=1.0, le=36_000.0)
    rate_hz: float = setting(10.0, "pictures a second", ge=1.0, le=120.0)
    width: int = setting(640, "width of the pictures in pixels", ge=64, le=8192)
    height: int = setting(480, "height of the pictures in pixels", ge=64, le=8192)
    fov_deg: float = setting(65.0, "horizontal field of view in degrees", ge=10.0, le=150.0)
    gps_hz: float = setting(1.0, "track points a second", ge=0.1, le=100.0)
    gps_m: float = setting(1.0, "sigma of positions, east and north, in metres; of heights 1.6 times as much", ge=0)
    clock_s: float = setting(2.4, "seconds by which the log's clock is ahead of the video's", ge=-600.0, le=600.0)
    seed: int = setting(0, "draws the errors of the positions")
    city: CityConfig = field(default_factory=CityConfig)
    flight: FlightConfig = field(default_factory=_survey)


def write_sim_photos(out: Path, config: PhotosConfig) -> str:
    """Photographs DJI_0001.JPG, ... in the folder `out`, each with position, gimbal angles, time and focal length; a
    line about them.

    Raises:
        UserError: settings out of bounds, a folder that holds something, no OpenGL, a full disk.
    """
    settings.check(config)
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} holds something already; name another folder")
    camera = Camera.from_fov(config.width, config.height, config.fov_deg)
    flight, renderer = _fly(config.city, config.flight, camera)
    t_s = np.linspace(0.0, flight.duration_s, config.photos)
    poses, rng = flight.T_map_cam(t_s), np.random.default_rng(config.seed)
    with os_errors(f"cannot write {out}"):
        out.mkdir(parents=True, exist_ok=True)
        for i, (t, T_map_cam) in enumerate(zip(t_s, tqdm(poses, desc="photographs", unit=""), strict=True), 1):
            place_m = T_map_cam[:3, 3] + rng.normal(size=3) * config.gps_m * [1.0, 1.0, UPRIGHT]
            angles_deg = np.array(gimbal_angles(T_map_cam)) + rng.normal(size=3) * config.attitude_deg
            rgb = renderer.render(T_map_cam, float(t)).rgb
            write_photo(out / f"DJI_{i:04d}.JPG", rgb, camera, place_m, angles_deg, BEGUN + round(1e3 * t))
    renderer.close()
    return f"{out}: {counted(config.photos, 'photograph')}"


def write_sim_video(out: Path, config: VideoConfig) -> str:
    """The video `out` and beside it a GPX track of the same name; a line about both.

    Raises:
        UserError: settings out of bounds, a file that exists, no .mp4, no OpenGL, a full disk.
    """
    settings.check(config)
    log = out.with_suffix(".gpx")
    if out.suffix != ".mp4":
        raise UserError(f"{out} is no .mp4; name the video OUT.mp4, its log becomes OUT.gpx")
    for path in (out, log):
        if path.exists():
            raise UserError(f"{path} exists already; name another file")
    flight, renderer = _fly(config.city, config.flight, Camera.from_fov(config.width, config.height, config.fov_deg))
    begin_s = max(0.0, (flight.duration_s - config.duration_s) / 2)  # of the video in the flight
    length_s = min(config.duration_s, flight.duration_s)
    half = out.with_name(f".{out.name}.unfinished")
    with os_errors(f"cannot write {out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(half), "w", format="mp4") as container:
            container.metadata["creation_time"] = f"{BEGUN}Z"
            stream = container.add_stream("libx264", rate=Fraction(config.rate_hz).limit_denominator(1001))
            stream.width, stream.height = config.width, config.height
            stream.pix_fmt, stream.options = "yuv420p", {"crf": "18"}
            for i in tqdm(range(round(length_s * config.rate_hz)), desc="video", unit="frame"):
                t_s = begin_s + i / config.rate_hz
                rgb = renderer.render(flight.T_map_cam(np.array([t_s]))[0], t_s).rgb
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")))
            container.mux(stream.encode())
        log.write_text(_gpx(flight, begin_s, config))
        half.rename(out)
    renderer.close()
    return f"{out}: {length_s:.0f} s; {log}: {flight.duration_s:.0f} s, its clock {config.clock_s:+g} s"


def _fly(city_config: CityConfig, flight_config: FlightConfig, camera: Camera) -> tuple[Flight, SceneRenderer]:
    """UserError where there is no OpenGL or the flight is below the roofs."""
    require_opengl()
    city = City(city_config)
    return make_flight(flight_config, city), SceneRenderer(city.scene, camera, supersample=2)


def _gpx(flight: Flight, begin_s: float, config: VideoConfig) -> str:
    """The whole flight; the video's first picture is at `begin_s` of it and at BEGUN by the video's clock."""
    t_s = np.arange(0.0, flight.duration_s, 1 / config.gps_hz)
    errors_m = np.random.default_rng(config.seed).normal(size=(len(t_s), 3)) * config.gps_m * [1.0, 1.0, UPRIGHT]
    places = enu_to_wgs84(flight.T_map_cam(t_s)[:, :3, 3] + errors_m, DATUM)
    points = [
        f'<trkpt lat="{lat:.9f}" lon="{lon:.9f}"><ele>{up:.3f}</ele><time>{BEGUN + round(1e3 * t)}Z</time></trkpt>'
        for t, lat, lon, up in zip(t_s - begin_s + config.clock_s, *places, strict=True)
    ]
    head = '<gpx version="1.1" creator="pose2rgbd" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>'
    return "\n".join([head, *points, "</trkseg></trk></gpx>", ""])


# A photograph and what it says of itself ------------------------------------------------------------------------------


def gimbal_angles(T_map_cam: Float64) -> tuple[float, float, float]:
    """Yaw (clockwise from north), pitch, roll in degrees of an optical frame (4, 4) not looking straight down."""
    right, forward = T_map_cam[:3, 0], T_map_cam[:3, 2]
    yaw, pitch = np.arctan2(forward[0], forward[1]), np.arcsin(forward[2])
    level = np.array([np.cos(yaw), -np.sin(yaw), 0.0])
    roll = np.arctan2(np.dot(np.cross(level, right), forward), np.dot(level, right))
    return float(np.rad2deg(yaw)), float(np.rad2deg(pitch)), float(np.rad2deg(roll))


def write_photo(
    path: Path, rgb: UInt8, camera: Camera, place_m: Float64, angles_deg: Float64, taken: np.datetime64
) -> None:
    """A JPEG as DJI's drones write it.

    Args:
        rgb: (H, W, 3).
        place_m: (3,) east, north, up of the simulator's datum.
        angles_deg: (3,) yaw, pitch, roll of the gimbal.
        taken: UTC.
    """
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = "pose2rgbd", "Simulator"
    details, place = exif.get_ifd(IFD.Exif), exif.get_ifd(IFD.GPSInfo)
    date, _, clock = str(taken).partition("T")
    details[Base.DateTimeOriginal] = f"{date.replace('-', ':')} {clock[:8]}"
    details[Base.SubsecTimeOriginal], details[Base.OffsetTimeOriginal] = clock[9:], "+00:00"
    diagonals = np.hypot(36, 24) / np.hypot(camera.width, camera.height)
    details[Base.FocalLengthIn35mmFilm] = round(camera.fx * diagonals)
    latitude, longitude, altitude = (float(value) for value in enu_to_wgs84(place_m, DATUM))
    place[GPS.GPSLatitudeRef], place[GPS.GPSLatitude] = "N" if latitude >= 0 else "S", _degrees(latitude)
    place[GPS.GPSLongitudeRef], place[GPS.GPSLongitude] = "E" if longitude >= 0 else "W", _degrees(longitude)
    place[GPS.GPSAltitude], place[GPS.GPSAltitudeRef] = round(altitude, 3), b"\x00"
    Image.fromarray(rgb).save(path, quality=92, exif=exif, xmp=_xmp(angles_deg).encode())


def _degrees(value: float) -> tuple[float, float, float]:
    """Degrees, minutes, seconds of arc."""
    minutes = abs(value) % 1 * 60
    return float(int(abs(value))), float(int(minutes)), round(minutes % 1 * 60, 6)


def _xmp(angles_deg: Float64) -> str:
    values = dict(zip(("GimbalYawDegree", "GimbalPitchDegree", "GimbalRollDegree"), angles_deg.tolist(), strict=True))
    written = " ".join(f'd:{name}="{value:+.2f}"' for name, value in values.items())
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        f'xmlns:d="http://www.dji.com/drone-dji/1.0/" {written}/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )

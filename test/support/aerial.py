"""A textured plane seen from the air: photographs with EXIF and XMP, and videos, of known poses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84, gimbal_to_quat_map_cam

DATUM = Datum(47.0, 8.0, 400.0)
_PIXEL_M = 0.1
_HALF_M = 80.0


@functools.cache
def ground() -> np.ndarray:
    """160 x 160 m of ground, 10 cm pixels, north up; its texture has detail at many sizes."""
    side = round(2 * _HALF_M / _PIXEL_M)
    random = np.random.default_rng(3)
    picture = np.zeros((side, side, 3), np.float32)
    for cell in (4, 12, 40, 160):
        noise = random.uniform(0, 255, (side // cell + 2, side // cell + 2, 3)).astype(np.float32)
        picture += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC) * 0.25
    return np.clip(picture, 0, 255).astype(np.uint8)


def view(T_map_cam: np.ndarray, width: int, height: int, focal_px: float) -> np.ndarray:
    """What a camera over the plane z = 0 sees, RGB (H, W, 3); black beyond the ground."""
    K = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
    T_cam_map = se3.inverse(T_map_cam)
    plane_to_pixels = K @ np.column_stack([T_cam_map[:3, 0], T_cam_map[:3, 1], T_cam_map[:3, 3]])
    pixels_to_plane = np.array([[_PIXEL_M, 0, -_HALF_M], [0, -_PIXEL_M, _HALF_M], [0, 0, 1]])
    return np.asarray(cv2.warpPerspective(ground(), plane_to_pixels @ pixels_to_plane, (width, height)))


def nadir_pose(east_m: float, north_m: float, up_m: float, yaw_deg: float) -> np.ndarray:
    """A camera looking straight down, the top of its image towards `yaw_deg`, clockwise from north."""
    return se3.make([east_m, north_m, up_m], gimbal_to_quat_map_cam(yaw_deg, -90.0, 0.0))


@dataclass
class PhotoFacts:
    """What a photo says of itself; None is left out."""

    taken: str | None = "2024:05:01 12:00:00"
    subsec: str | None = None
    zone: str | None = None
    place_enu_m: Sequence[float] | None = (0.0, 0.0, 50.0)
    altitude_reference: int | None = 0
    focal_mm: float | None = None
    focal_35mm: int | None = 24
    xmp: str = ""
    orientation: int = 1
    exif_width: int | None = None
    exif_height: int | None = None
    plane_px_per_unit: float | None = None
    plane_unit: int | None = None
    make: str = "Test"
    serial: str | None = None


def dji_xmp(
    yaw_deg: float, pitch_deg: float = -90.0, roll_deg: float = 0.0, height_m: float = 50.0, **more: Any
) -> str:
    """The attributes of DJI's packet."""
    values = {
        "RelativeAltitude": f"{height_m:+.2f}",
        "GimbalYawDegree": f"{yaw_deg:+.2f}",
        "GimbalPitchDegree": f"{pitch_deg:+.2f}",
        "GimbalRollDegree": f"{roll_deg:+.2f}",
        **more,
    }
    return xmp_packet("http://www.dji.com/drone-dji/1.0/", {f"d:{name}": value for name, value in values.items()}, "d")


def xmp_packet(address: str, attributes: dict[str, Any], prefix: str) -> str:
    """An XMP packet with one description."""
    written = "".join(f'\n   {name}="{value}"' for name, value in attributes.items())
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:{prefix}="{address}"{written}/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def write_photo(path: Path, rgb: np.ndarray, facts: PhotoFacts) -> None:
    """A JPEG with these facts."""
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = facts.make, "TestCam"
    exif[Base.Orientation] = facts.orientation
    details = exif.get_ifd(IFD.Exif)
    for tag, value in (
        (Base.DateTimeOriginal, facts.taken),
        (Base.SubsecTimeOriginal, facts.subsec),
        (Base.OffsetTimeOriginal, facts.zone),
        (Base.FocalLength, facts.focal_mm),
        (Base.FocalLengthIn35mmFilm, facts.focal_35mm),
        (Base.ExifImageWidth, facts.exif_width),
        (Base.ExifImageHeight, facts.exif_height),
        (Base.BodySerialNumber, facts.serial),
        (Base.FocalPlaneXResolution, facts.plane_px_per_unit),
        (Base.FocalPlaneResolutionUnit, facts.plane_unit),
    ):
        if value is not None:
            details[tag] = value
    if facts.place_enu_m is not None:
        latitude, longitude, altitude = (float(value) for value in enu_to_wgs84(facts.place_enu_m, DATUM))
        place = exif.get_ifd(IFD.GPSInfo)
        place[GPS.GPSLatitudeRef], place[GPS.GPSLatitude] = "N" if latitude >= 0 else "S", _dms(latitude)
        place[GPS.GPSLongitudeRef], place[GPS.GPSLongitude] = "E" if longitude >= 0 else "W", _dms(longitude)
        place[GPS.GPSAltitude] = round(altitude, 3)
        if facts.altitude_reference is not None:
            place[GPS.GPSAltitudeRef] = bytes([facts.altitude_reference])
    Image.fromarray(rgb).save(path, quality=90, exif=exif, xmp=facts.xmp.encode())


def _dms(degrees: float) -> tuple[float, float, float]:
    size = abs(degrees)
    minutes = size % 1 * 60
    return float(int(size)), float(int(minutes)), round(minutes % 1 * 60, 5)


def write_video(
    path: Path,
    T_map_cam: Callable[[float], np.ndarray],
    duration_s: float,
    *,
    rate_hz: float = 10.0,
    size: tuple[int, int] = (192, 128),
    focal_px: float = 160.0,
    metadata: dict[str, str] | None = None,
    times_s: Sequence[float] | None = None,
    subtitles: Sequence[tuple[float, str]] = (),
) -> list[float]:
    """A video of the plane from a moving camera, whose pose is a function of seconds; the frames' times.

    `subtitles` of a tenth of a second are put inside, at their times.
    """
    times = list(times_s) if times_s is not None else [i / rate_hz for i in range(round(duration_s * rate_hz))]
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream("mpeg4", rate=Fraction(rate_hz).limit_denominator(1001))
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = 5
        if subtitles:
            _put_inside(container, subtitles)
        for time_s in times:
            frame = av.VideoFrame.from_ndarray(view(T_map_cam(time_s), *size, focal_px), format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return times


def _put_inside(container: Any, subtitles: Sequence[tuple[float, str]]) -> None:
    """MP4's timed text: the length, then the text."""
    track = container.add_stream("mov_text")
    track.time_base = Fraction(1, 1000)
    track.codec_context.subtitle_header = (
        b"[Script Info]\nScriptType: v4.00+\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
        b"Style: Default,Arial,16\n[Events]\nFormat: Layer, Start, End, Style, Name, Text\n"
    )
    container.start_encoding()
    for time_s, text in subtitles:
        packet = av.Packet(len(text.encode()).to_bytes(2, "big") + text.encode())
        packet.stream, packet.time_base, packet.duration = track, Fraction(1, 1000), 100
        packet.pts = packet.dts = round(time_s * 1000)
        container.mux(packet)

"""What a photograph says about itself: time, position, angles, lens (EXIF by Pillow, XMP by `xmp`)."""

from __future__ import annotations

import calendar
import math
import re
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import GPS, IFD, Base

from pose2rgbd_ros.errors import UserError

# XMP packets of photographs: what drone makers write there, as plain names and texts.


# A part of a namespace's address, and the short name that its properties get here.
_FAMILIES = {
    "drone-dji": "dji",
    "sensefly": "sensefly",
    "pix4d.com/camera": "camera",
    "pix4d.com": "pix4d",
    "drone-parrot": "parrot",
    "photos/1.0/panorama": "gpano",
    "exif/1.0": "exif",
}
_LARGEST = 4_000_000


def read_xmp(packet: bytes | str | None) -> dict[str, str]:
    """The properties of a packet by name, such as "dji:GimbalYawDegree" or "sensefly:Heading"; {} where unreadable.

    Properties come as attributes (DJI) or as elements (senseFly, Pix4D); lists and structures are left out.
    """
    if not packet or len(packet) > _LARGEST:
        return {}
    raw = packet.encode() if isinstance(packet, str) else bytes(packet)
    begin, end = raw.find(b"<x:xmpmeta"), raw.rfind(b"</x:xmpmeta>")
    if begin >= 0 and end > begin:
        raw = raw[begin : end + len(b"</x:xmpmeta>")]
    try:
        root = ElementTree.fromstring(raw.strip(b"\0 \r\n\t"))
    except (ParseError, DefusedXmlException, ValueError):
        return {}
    found: dict[str, str] = {}
    for element in root.iter():
        if not isinstance(element.tag, str):
            continue
        if len(element) == 0 and element.text and element.text.strip():
            _keep(found, element.tag, element.text)
        for name, text in element.attrib.items():
            _keep(found, name, text)
    return found


def _keep(found: dict[str, str], tag: str, text: str) -> None:
    if not tag.startswith("{"):
        return
    address, _, name = tag[1:].partition("}")
    family = next((short for part, short in _FAMILIES.items() if part in address.lower()), None)
    if family:
        found.setdefault(f"{family}:{name}", text.strip())


SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
_SECOND = 1_000_000_000
Angles = tuple[float, float, float]


@dataclass(frozen=True)
class Lens:
    """Focal length as a photo states it. `original_width` is the width in pixels that EXIF names (0: none); of a photo
    turned upright since, EXIF's height.

    Angles of view outlast resizing, pixels do not: everything here is relative to the original width.
    """

    focal_mm: float | None = None
    calibrated_mm: float | None = None  # Pix4D's PerspectiveFocalLength
    focal_35mm: float | None = None
    plane_px_per_unit: float | None = None  # FocalPlaneXResolution
    plane_unit: int = (
        2  # FocalPlaneResolutionUnit: 2 inch (where none is written), 3 cm, 4 mm, 5 um; others say nothing
    )
    focal_original_px: float | None = None  # DJI's CalibratedFocalLength, Pix4D's PerspectiveFocalLength in pixels
    original_width: int = 0
    fisheye: bool = False


@dataclass(frozen=True)
class Photo:
    """One photo, `width` x `height` as stored. Angles are yaw (clockwise from north), pitch, roll in degrees.

    `gimbal` are those of the camera (pitch -90 looks down), `body` those of the aircraft; `camera` those of the camera
    as the tags of `camera_family` ("camera": Pix4D's, "parrot") write them, whose pitch 0 is the horizon or straight
    down. None where not recorded. `stamp_ns` is None without DateTimeOriginal;
    `zone_known` says whether it is UTC or the camera's clock taken as UTC. Positions are None without GPS.
    """

    path: Path
    width: int
    height: int
    stamp_ns: int | None
    zone_known: bool
    latitude_deg: float | None
    longitude_deg: float | None
    altitude_m: float | None
    altitude_reference: str
    relative_altitude_m: float | None
    gimbal: Angles | None
    camera: Angles | None
    camera_family: str
    body: Angles | None
    lens: Lens
    make: str
    model: str
    serial: str
    orientation: int
    panorama: bool
    rtk: str

    @property
    def has_position(self) -> bool:
        """Whether latitude and longitude are known."""
        return self.latitude_deg is not None and self.longitude_deg is not None


def read_photo(path: Path) -> Photo:
    """The facts of one photo; UserError when it is not an image. Damaged tags are as if they were not there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of each damaged tag
        width, height, top, details, gps, packet = _tags(path)
    xmp = read_xmp(packet)
    stamp_ns, zone_known = _taken(details, top)
    latitude, longitude = _position(gps, xmp)
    altitude, reference = _altitude(gps, xmp)
    camera, family = _camera_angles(xmp)
    return Photo(
        path=path,
        width=width,
        height=height,
        stamp_ns=stamp_ns,
        zone_known=zone_known,
        latitude_deg=latitude,
        longitude_deg=longitude,
        altitude_m=altitude,
        altitude_reference=reference,
        relative_altitude_m=_first(xmp, "dji:RelativeAltitude"),
        gimbal=_angles(xmp, "dji:Gimbal{}Degree"),
        camera=camera,
        camera_family=family,
        body=_angles(xmp, "dji:Flight{}Degree") or _sensefly_angles(xmp),
        lens=_lens(details, xmp, width, height),
        make=_text(top.get(Base.Make)),
        model=_text(top.get(Base.Model)),
        serial=_text(details.get(Base.BodySerialNumber)),
        orientation=int(_number(top.get(Base.Orientation)) or 1),
        panorama=xmp.get("gpano:ProjectionType", "").lower() == "equirectangular",
        rtk=xmp.get("dji:RtkFlag", ""),
    )


def _tags(path: Path) -> tuple[int, int, dict[int, Any], dict[int, Any], dict[int, Any], Any]:
    """Width, height, the tags of EXIF's three parts, and the XMP packet."""
    try:
        with Image.open(path) as image:
            exif = image.getexif()
            parts = dict(exif), _ifd(exif, IFD.Exif), _ifd(exif, IFD.GPSInfo)
            return (*image.size, *parts, image.info.get("xmp"))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is not a readable image ({error})") from error


def _ifd(exif: Image.Exif, which: int) -> dict[int, Any]:
    try:
        return dict(exif.get_ifd(which))
    except (ValueError, TypeError, KeyError, SyntaxError, OSError, OverflowError):
        return {}


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.split("\0")[0].strip()


def _first(xmp: dict[str, str], *names: str) -> float | None:
    numbers = (_number(xmp.get(name)) for name in names)
    return next((number for number in numbers if number is not None), None)


def _angles(xmp: dict[str, str], pattern: str) -> Angles | None:
    """Yaw, pitch, roll; a missing roll is 0, the others are needed."""
    yaw, pitch, roll = (_number(xmp.get(pattern.format(name))) for name in ("Yaw", "Pitch", "Roll"))
    if yaw is None or pitch is None:
        return None
    return yaw, pitch, roll or 0.0


def _camera_angles(xmp: dict[str, str]) -> tuple[Angles | None, str]:
    """The camera's own angles and the family of the tags that hold them."""
    for family, pattern in (("camera", "camera:{}"), ("parrot", "parrot:Camera{}Degree")):
        angles = _angles(xmp, pattern)
        if angles is not None:
            return angles, family
    return None, ""


def _sensefly_angles(xmp: dict[str, str]) -> Angles | None:
    heading, pitch, roll = (_number(xmp.get(f"sensefly:{name}")) for name in ("Heading", "PitchAngle", "RollAngle"))
    if heading is None or pitch is None:
        return None
    return heading, pitch, roll or 0.0


def _taken(details: dict[int, Any], top: dict[int, Any]) -> tuple[int | None, bool]:
    """When the photo was taken, in nanoseconds since 1970, and whether the zone is known (else taken as UTC)."""
    text = _text(details.get(Base.DateTimeOriginal)) or _text(details.get(Base.DateTimeDigitized))
    text = text or _text(top.get(Base.DateTime))
    try:
        seconds = calendar.timegm(datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S").timetuple())
    except ValueError:
        return None, False
    digits = _text(details.get(Base.SubsecTimeOriginal))
    nanoseconds = int(digits[:9].ljust(9, "0")) if digits.isdecimal() and digits.isascii() else 0
    zone = re.fullmatch(r"([+-])(\d\d):(\d\d)", _text(details.get(Base.OffsetTimeOriginal)))
    if zone:
        minutes = int(zone[2]) * 60 + int(zone[3])
        seconds -= (minutes if zone[1] == "+" else -minutes) * 60
    stamp_ns = seconds * _SECOND + nanoseconds
    return (stamp_ns, zone is not None) if stamp_ns >= 0 else (None, False)


def _position(gps: dict[int, Any], xmp: dict[str, str]) -> tuple[float | None, float | None]:
    """Latitude and longitude in degrees. DJI's XMP has more digits; its "GpsLongtitude" is a typing error of theirs."""
    latitude = _first(xmp, "dji:GpsLatitude", "dji:Latitude", "sensefly:Latitude")
    longitude = _first(xmp, "dji:GpsLongitude", "dji:GpsLongtitude", "dji:Longitude", "sensefly:Longitude")
    if latitude is None or longitude is None:
        latitude = _degrees(gps.get(GPS.GPSLatitude), _text(gps.get(GPS.GPSLatitudeRef)))
        longitude = _degrees(gps.get(GPS.GPSLongitude), _text(gps.get(GPS.GPSLongitudeRef)))
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None, None
    # Cameras without a fix write zeros; nobody flies at that point of the ocean.
    return (None, None) if latitude == longitude == 0 else (latitude, longitude)


def _degrees(parts: Any, reference: str) -> float | None:
    if not isinstance(parts, (tuple, list)) or len(parts) != 3:
        return None
    numbers = [_number(part) for part in parts]
    if numbers[0] is None:
        return None
    degrees = sum(((number or 0.0) / 60.0**i for i, number in enumerate(numbers)), 0.0)
    return -degrees if reference.upper().startswith(("S", "W")) else degrees


def _altitude(gps: dict[int, Any], xmp: dict[str, str]) -> tuple[float | None, str]:
    """Altitude in metres and what the file says that it is measured from: msl, ellipsoid or unknown."""
    ellipsoid = _first(xmp, "sensefly:AltitudeWGS84")
    if ellipsoid is not None:
        return ellipsoid, "ellipsoid"
    height = _number(gps.get(GPS.GPSAltitude))
    code = gps.get(GPS.GPSAltitudeRef)
    code = code[0] if isinstance(code, bytes) and code else code
    code = int(_number(code) or 0) if code is not None else None
    dji = _first(xmp, "dji:AbsoluteAltitude")
    if height is None:
        return dji, "unknown"
    height = -height if code in (1, 3) and height > 0 else height
    names = {0: "msl", 1: "msl", 2: "ellipsoid", 3: "ellipsoid"}
    return height, names.get(-1 if code is None else code, "unknown")


def _lens(details: dict[int, Any], xmp: dict[str, str], stored_width: int, stored_height: int) -> Lens:
    def positive(value: Any) -> float | None:
        number = _number(value)
        return number if number is not None and number > 0 else None

    width, height = (int(positive(details.get(tag)) or 0) for tag in (Base.ExifImageWidth, Base.ExifImageHeight))
    if height and (width > height) != (stored_width > stored_height) and stored_width != stored_height:
        width = height  # turned upright since
    unit = _number(details.get(Base.FocalPlaneResolutionUnit))
    calibrated = positive(xmp.get("camera:PerspectiveFocalLength"))
    in_pixels = xmp.get("camera:PerspectiveFocalLengthUnits", "mm").lower().startswith("p")
    original_px = positive(xmp.get("dji:CalibratedFocalLength")) or (calibrated if in_pixels else None)
    return Lens(
        focal_mm=positive(details.get(Base.FocalLength)),
        calibrated_mm=None if in_pixels else calibrated,
        focal_35mm=positive(details.get(Base.FocalLengthIn35mmFilm)),
        plane_px_per_unit=positive(details.get(Base.FocalPlaneXResolution)) if width else None,
        plane_unit=2 if unit is None else int(unit),
        focal_original_px=original_px if width else None,
        original_width=width,
        fisheye=xmp.get("camera:ModelType", "").lower() == "fisheye",
    )

"""XMP packets of photographs: what drone makers write there, as plain names and texts."""

from __future__ import annotations

from xml.etree.ElementTree import ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

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

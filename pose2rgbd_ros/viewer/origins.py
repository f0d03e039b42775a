"""Whose page a browser shows that wants to connect: ours, or another site's."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit


def is_own_page(origin: str | None, host_header: str | None, host: str) -> bool:
    """Whether a request may be answered that comes from a page of `origin`, asks for `host_header` and was listened to
    on `host`.

    Without an origin it comes from a program, or from nobody's page: there is nothing to protect it from. Otherwise the
    page has to be of the very host and port that it asks for, through a tunnel too; and that host has to be an
    address, or a name of this computer: any other name could be another site's, which says that it is here (DNS
    rebinding).
    """
    if origin is None:
        return True
    try:
        page, asked = urlsplit(origin), urlsplit(f"//{host_header or ''}")
        same = (page.hostname, page.port or _usual_port(page.scheme)) == (
            asked.hostname,
            asked.port or _usual_port(page.scheme),
        )
    except ValueError:  # a port that is none
        return False
    return same and page.hostname is not None and (_is_address(page.hostname) or page.hostname in _names(host))


def _usual_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _names(host: str) -> set[str]:
    own = socket.gethostname().lower()
    return {"localhost", host.lower(), own, f"{own}.local"}

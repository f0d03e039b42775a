"""Which pages may connect: those of the server itself, under every address it has, and no other site's."""

from __future__ import annotations

import socket

import pytest

from pose2rgbd_ros.viewer.listen import is_own_page

EVERYWHERE, HERE = "0.0.0.0", "127.0.0.1"


@pytest.mark.parametrize(
    ("origin", "asked", "host"),
    [
        (None, "127.0.0.1:8080", HERE),  # a program
        ("http://127.0.0.1:8080", "127.0.0.1:8080", HERE),
        ("http://localhost:8080", "localhost:8080", HERE),
        ("http://LOCALHOST:8080", "localhost:8080", HERE),
        ("http://localhost:9000", "localhost:9000", HERE),  # ssh -L 9000:localhost:8080
        ("http://[::1]:8080", "[::1]:8080", "::1"),
        ("http://192.168.1.7:8080", "192.168.1.7:8080", EVERYWHERE),
        (f"http://{socket.gethostname()}:8080", f"{socket.gethostname()}:8080", EVERYWHERE),
        ("http://drone.lan:8080", "drone.lan:8080", "drone.lan"),
        ("http://192.168.1.7", "192.168.1.7", EVERYWHERE),  # port 80
        ("https://192.168.1.7", "192.168.1.7:443", EVERYWHERE),
    ],
)
def test_its_own_pages_may_connect(origin: str | None, asked: str, host: str) -> None:
    assert is_own_page(origin, asked, host)


@pytest.mark.parametrize(
    ("origin", "asked", "host"),
    [
        ("http://example.org", "127.0.0.1:8080", HERE),
        ("http://127.0.0.1:3000", "127.0.0.1:8080", HERE),  # another program's page
        ("http://localhost:8080", "127.0.0.1:8080", HERE),
        ("http://example.org:8080", "example.org:8080", HERE),  # a name that was made to lead here
        ("http://example.org:8080", "example.org:8080", EVERYWHERE),
        ("null", "127.0.0.1:8080", HERE),  # a file, or a frame in a sandbox
        ("", "127.0.0.1:8080", HERE),
        ("http://127.0.0.1:99999", "127.0.0.1:8080", HERE),
        ("http://127.0.0.1:8080", None, HERE),
    ],
)
def test_other_pages_may_not(origin: str, asked: str | None, host: str) -> None:
    assert not is_own_page(origin, asked, host)

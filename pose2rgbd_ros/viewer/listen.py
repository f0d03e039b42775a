"""Listening: viser's server, for this computer alone unless another address is asked for, and for its own pages only.

It imports no more than that, so that browsers can load the page while models are loaded.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import logging
import os
import socket
import sys
import threading
import warnings
import webbrowser
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import viser
import websockets.asyncio.server as websocket_server
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.viewer.settings import ViewSettings

FIRST_PORT, PORTS = 8080, 100
GOODBYE_S = 1.0
warnings.filterwarnings("ignore", r"Queued a \w+ on a closed connection")  # browsers may leave at any time
logging.getLogger("websockets").setLevel(logging.CRITICAL)  # it has a traceback for whoever only tries the port


class _Server(viser.ViserServer):
    """viser's server, which can be asked by any browser to open a tunnel through a server of its authors."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        """Nothing leaves the host."""
        return None


def open_server(settings: ViewSettings) -> viser.ViserServer:
    """A server whose pages are empty yet: a browser can load them while a model is loaded.

    UserError: the address or the port cannot be listened on.
    """
    server = listen(settings.host, settings.port)
    server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
    server.gui.set_panel_label("pose2rgbd: loading")
    server.gui.main_panel.dock_right()
    server.scene.configure_default_lights(False)  # nothing in the scene needs them, nor surroundings to mirror
    server.scene.configure_environment_map(None)
    return server


def address(server: viser.ViserServer, settings: ViewSettings) -> str:
    """What to type into a browser of this computer."""
    host = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{server.get_port()}"


def announce(server: viser.ViserServer, settings: ViewSettings) -> None:
    """Say where the page is and who can see it, and open it where there is a screen."""
    print(f"look at {address(server, settings)}   (Ctrl-C ends)", flush=True)
    if not settings.is_local:
        print(
            f"open to every computer that reaches {settings.host}, port {server.get_port()}: there is no "
            "password, and whoever looks sees the models, and the recorded frames",
            flush=True,
        )
    if settings.browser == "auto" and settings.is_local and _has_screen():
        threading.Thread(target=webbrowser.open, args=(address(server, settings),), daemon=True).start()


def _has_screen() -> bool:
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def listen(host: str, port: int | None) -> viser.ViserServer:
    """A bare server. UserError: as of `open_server`."""
    port = free_port(host, port)
    with contextlib.redirect_stdout(io.StringIO()), _own_pages_only(host):  # its banner names addresses in its own way
        return _Server(host=host, port=port, verbose=False)


@contextlib.contextmanager
def _own_pages_only(host: str) -> Iterator[None]:
    """A viser server that is started meanwhile refuses connections of other sites' pages, which it would not ask about.

    Browsers let every page connect to this computer, and say in `Origin` whose page it is. viser has no place for the
    question, so it is put into the server of websockets that viser starts.
    """
    serve = websocket_server.serve

    def serve_own_pages(*arguments: Any, process_request: Callable[..., Any], **options: Any) -> Any:
        def answer(connection: ServerConnection, request: Request) -> Response | None:
            if not is_own_page(request.headers.get("Origin"), request.headers.get("Host"), host):
                return connection.respond(HTTPStatus.FORBIDDEN, "this page is of another site\n")
            found: Response | None = process_request(connection, request)
            return found

        return serve(*arguments, process_request=answer, **options)

    websocket_server.serve = serve_own_pages  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        websocket_server.serve = serve  # type: ignore[misc]


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


def stop(server: viser.ViserServer) -> None:
    """End a server; browsers that do not say goodbye are not waited for."""
    with contextlib.redirect_stdout(io.StringIO()):  # it says so in its own way
        ending = threading.Thread(target=server.stop, daemon=True)
        ending.start()
        ending.join(timeout=GOODBYE_S)


def free_port(host: str, port: int | None) -> int:
    """`port` if it can be listened on; None: the first free one from FIRST_PORT. UserError: it cannot."""
    for candidate in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + PORTS):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            return candidate
        except socket.gaierror as error:
            raise UserError(f"host {host!r} is no address of this computer ({error.strerror})") from error
        except OSError as error:
            problem = error
            if error.errno not in (13, 98):  # not permitted, in use
                raise UserError(
                    f"cannot listen on {host}: {error.strerror}; give an address of this computer"
                ) from error
    raise UserError(f"port {candidate} of {host} cannot be listened on: {problem.strerror}; choose another with --port")

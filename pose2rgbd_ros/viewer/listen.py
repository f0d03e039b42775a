"""Listening: viser's server, for this computer alone unless another address is asked for.

It imports no more than that, so that browsers can load the page while models are loaded.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
import warnings

import viser

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


def listen(host: str, port: int | None) -> viser.ViserServer:
    """A bare server. UserError: as of `open_server`."""
    port = free_port(host, port)
    with contextlib.redirect_stdout(io.StringIO()):  # its banner names addresses in its own way
        return _Server(host=host, port=port, verbose=False)


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

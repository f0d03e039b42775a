"""The page's server: whom it lets in, what it makes of nonsense, what it leaves behind."""

from __future__ import annotations

import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.viewer_client import ViewerClient
from support.without_torch import command
from viewer.conftest import SMALL
from websockets.exceptions import InvalidStatus

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.viewer import listen
from pose2rgbd_ros.viewer.listen import free_port
from pose2rgbd_ros.viewer.place import Place
from pose2rgbd_ros.viewer.server import Viewer

Captured = pytest.CaptureFixture[str]


def start(place: Place) -> tuple[np.ndarray, np.ndarray]:
    return place.scene_pose(place.start_T_map_cam)


def until(holds: object, what: str, limit_s: float = 20.0) -> None:
    assert callable(holds)
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def test_a_browser_gets_a_small_picture_and_then_the_full_one(viewer: Viewer) -> None:
    with ViewerClient(viewer.server.get_port()) as client:
        client.look(*start(viewer.place), size=(600, 600))
        client.picture(larger_than=90**2)
        position, quat = start(viewer.place)
        client.look(position + 0.1, quat, size=(600, 600))
        small = client.picture(smaller_than=60**2)
        assert small.shape[:2] == (48, 48)
        assert client.picture(larger_than=90**2).shape[:2] == (96, 96)
        client.hear("nown here")
        client.hear("quat_xyzw")


def test_nonsense_is_counted_and_the_next_pose_is_drawn(viewer: Viewer) -> None:
    position, quat = start(viewer.place)
    with ViewerClient(viewer.server.get_port()) as client:
        client.look([np.nan, 0, 0], quat)  # also as the first thing that is heard of a browser
        client.look(position, quat)
        client.picture(larger_than=90**2)
        for bad in ([np.inf, 0, 0], [1e9, 0, 0]):
            client.look(bad, quat)
        client.look(position, [0, 0, 0, 0])
        client.look(position, quat, fov=np.nan)
        client.look(position, quat, fov=-1.0)
        client.look(position, quat, size=(0, 0))
        client.look(np.zeros(3), quat)  # at the very point that this client looks at
        until(lambda: len(viewer.pages) == 1, "a page")
        (page,) = viewer.pages.values()
        until(lambda: viewer.nonsense >= 5, "all nonsense")
        client.look([-np.inf, 0, 0], quat)
        until(lambda: page.client.camera.position[0] == -np.inf, "nonsense again")
        page.go_to_frame(1)
        view = page.view()
        assert view is not None, "the panel's buttons lead out of it"
        np.testing.assert_array_equal(view.T_map_cam, viewer.place.dataset.T_map_cam[viewer.place.track.frame[1]])
        client.look(position + 0.2, quat)
        client.picture()


def test_a_connection_that_dies_is_forgotten_and_others_go_on(viewer: Viewer) -> None:
    position, quat = start(viewer.place)
    with ViewerClient(viewer.server.get_port()) as other:
        other.look(position, quat)
        other.picture()
        dying = ViewerClient(viewer.server.get_port())
        dying.look(position, quat)
        dying.picture()
        until(lambda: len(viewer.pages) == 2, "two pages")
        for step in range(5):
            dying.look(position + 0.01 * step, quat)
        dying.drop()
        until(lambda: len(viewer.pages) == 1, "the page that died is still there")
        other.look(position + 0.3, quat)
        other.picture(larger_than=90**2)


def test_garbage_ends_its_own_connection_only(viewer: Viewer) -> None:
    position, quat = start(viewer.place)
    with ViewerClient(viewer.server.get_port()) as client, ViewerClient(viewer.server.get_port()) as vandal:
        client.look(position, quat)
        client.picture()
        vandal.send(type="NoSuchMessage", x=1)
        client.look(position + 0.1, quat)
        client.picture()


def test_ten_browsers_that_look_the_same_way_share_their_pictures(viewer: Viewer) -> None:
    position, quat = start(viewer.place)
    clients = [ViewerClient(viewer.server.get_port()) for _ in range(10)]
    for client in clients:
        client.look(position, quat)
    for client in clients:
        client.picture(larger_than=90**2)
    assert viewer.studio.rendered < 2 * len(clients), "small and full, and the colours' ends: not once for everybody"
    for client in clients:
        client.__exit__()


def test_no_tunnel_is_opened_when_a_browser_asks_for_one(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("viser._viser.ViserTunnel", lambda *words: asked.append(words))
    with ViewerClient(viewer.server.get_port()) as client:
        client.look(*start(viewer.place))
        client.send(type="ShareUrlRequest")
        client.picture()
    assert viewer.server.request_share_url() is None
    assert asked == []


def test_it_listens_to_this_computer_only(viewer: Viewer) -> None:
    assert SMALL.is_local
    port = viewer.server.get_port()
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}").status == 200
    hosts = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"}
    mine = {host.split(":")[0] for host in hosts if int(host.split(":")[1], 16) == port}
    assert mine == {"0100007F"}, "127.0.0.1, in the order of the kernel"


def test_a_page_of_another_site_is_refused_and_its_own_is_served(viewer: Viewer) -> None:
    port = viewer.server.get_port()
    for other in ("http://example.org", f"http://127.0.0.1:{port + 1}", f"http://localhost:{port}", "null"):
        with pytest.raises(InvalidStatus, match="403"):
            ViewerClient(port, origin=other)
    with ViewerClient(port, origin=f"http://127.0.0.1:{port}") as client:
        client.look(*start(viewer.place))
        client.picture()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_port_in_use(taken: int, monkeypatch: pytest.MonkeyPatch, capsys: Captured, relief: Path) -> None:
    with pytest.raises(UserError, match=f"port {taken} of 127.0.0.1 cannot be listened on: Address already in use"):
        free_port("127.0.0.1", taken)
    monkeypatch.setattr(listen, "FIRST_PORT", taken)
    assert free_port("127.0.0.1", None) > taken, "nobody asked for that one"
    assert main(["view", str(relief), "--port", str(taken)]) == 2
    assert "choose another with --port" in capsys.readouterr().err


def test_addresses_that_are_none() -> None:
    with pytest.raises(UserError, match="is no address of this computer"):
        free_port("no.such.host.invalid", 8080)
    with pytest.raises(UserError, match="give an address of this computer"):
        free_port("192.0.2.1", 8080)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "which model?"), (["{relief}", "--port", "0"], "port"), (["{relief}", "--size", "4"], "size is 4"),
        (["{flight}"], "is no pose2rgbd checkpoint"), (["{relief}", "{relief}/nix"], "nix"),
        (["{relief}", "--ros-args"], "--ros-args is for --ros"),
    ],
)  # fmt: skip
def test_what_cannot_be_viewed_is_one_line(
    words: list[str], says: str, relief: Path, flight: Path, capsys: Captured
) -> None:
    assert main(["view", *(word.format(relief=relief, flight=flight) for word in words)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert says in said


def test_the_command_serves_until_it_is_ended_and_needs_no_torch(relief: Path) -> None:
    process = subprocess.Popen(
        command("view", relief, "--browser", "none", "--host", "0.0.0.0"), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.match(r"look at http://localhost:(\d+) ", said)
        assert found, said
        assert "open to every computer that reaches 0.0.0.0" in process.stdout.readline()
        with ViewerClient(int(found[1])) as client:
            client.look([0, 0, 0], [0, 1, 0, 0])
            client.picture()
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def test_a_scene_is_exported_as_one_file(warp: Path, flight: Path, tmp_path: Path, capsys: Captured) -> None:
    page = tmp_path / "deep" / "page.html"
    assert main(["view", str(warp), str(flight), "--export", str(page)]) == 0
    assert "16 pictures" in capsys.readouterr().out
    text = page.read_text()
    assert "<html" in text
    assert not re.findall(r'(?:src|href)="https?://[^"]*\.(?:js|css)"', text), "it loads nothing"
    assert main(["view", str(warp), "--export", "/proc/no/page.html"]) == 2

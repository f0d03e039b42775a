"""`pose2rgbd view` on this machine: pictures a second in a browser, the first one, the full one, ten browsers at once.

    python bench/viewer.py                # writes bench/results/viewer.md; about five minutes
    python bench/viewer.py --rounds 1     # a look, without writing

A relief of random towers (relief_city.py) is served; Chromium runs headless, and draws with the processor
(SwiftShader), so it takes as much of the machine as the server.

* First picture: from the start of the command until a client that connects as soon as the port answers has one; and
  until a page opened then has handed one to its graphics card, in a browser that runs already.
* Pictures: 256 x 256 pixels of colour and depth that the page hands to its graphics card, a second, while a key is
  held; beside the same pictures rendered in a loop, without a page.
* Full picture: from the last move of the camera, 150 ms of rest included, until 512 x 512 pixels have arrived.
* Ten browsers: of the pictures that another process renders in a loop, the share that is left while ten clients fly,
  all apart, beside its rate alone. By the real-time scheduler where that is allowed: on a busy machine the others would
  decide.
* The same beside the render node itself (`pose2rgbd render` of the same relief at 256 x 256 pixels, asked for 50 Hz, TF
  from `pose2rgbd play`, its rate and latency from `pose2rgbd monitor`): the page steps back behind the node by its
  niceness, which the real-time scheduler would not heed.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from relief_city import write_relief
from render_node import start, write_dataset, write_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test"))
from support.browser import Browser, browser
from support.viewer_client import ViewerClient

from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.viewer.place import Place, view_camera
from pose2rgbd_ros.viewer.settings import ViewSettings

RESULT = Path(__file__).parent / "results" / "viewer.md"
MOVING, FULL, FLY_S, CLIENTS, PORT = 256, 512, 5.0, 10, 8190
NODE_HZ, NODE_S, NODE_STARTS_S = 50, 10, 12.0
WINDOW = (640, 480)
HEADER = """# The page of `pose2rgbd view`

`python bench/viewer.py`: {machine}.
Chromium draws with the processor too. Medians of {rounds} rounds. What is measured how: its docstring.

Model: a relief of {size:.0f} MB.

"""


def median(values: list[float]) -> float:
    return float(np.median(values))


@contextlib.contextmanager
def served(run: Path) -> Iterator[float]:
    """The command, running; when it was started."""
    words = ["-m", "pose2rgbd_ros.cli.main", "view", str(run), "--port", str(PORT), "--browser", "none"]
    started_s = time.monotonic()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    try:
        yield started_s
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_for_page() -> None:
    """Until the command answers. RuntimeError: it does not."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(f"http://127.0.0.1:{PORT}").status == 200:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nothing answers on port {PORT}")


def first_picture_s(run: Path, window: Browser) -> float:
    """The time until a page shows something."""
    with served(run) as started_s:
        wait_for_page()
        window.open(f"http://127.0.0.1:{PORT}")
        window.until(lambda: window.pictures, "picture")
        found = time.monotonic() - started_s
        window.driver.get("about:blank")
        return found


def first_sent_s(run: Path) -> float:
    """The time until a client that is there at once has a picture."""
    with served(run) as started_s:
        wait_for_page()
        with ViewerClient(PORT) as client:
            client.look((0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0))
            client.picture()
        return time.monotonic() - started_s


def pictures_hz(run: Path, window: Browser) -> tuple[float, float]:
    """Pictures a second in the page while it flies; and rendered in a loop, one after another."""
    with served(run):
        wait_for_page()
        window.open(f"http://127.0.0.1:{PORT}")
        window.until(lambda: len(window.pictures) >= 4, "pictures")
        time.sleep(1.0)
        window.key("keydown", "KeyA", "a")
        time.sleep(0.5)
        before, began_s = len(window.pictures), time.monotonic()
        time.sleep(FLY_S)
        shown, took_s = window.pictures[before:], time.monotonic() - began_s
        window.key("keyup", "KeyA", "a")
        window.driver.get("about:blank")
    small = [each for each in shown if abs(each[1] * each[2] / MOVING**2 - 1) < 0.1]
    colour_hz = len(small) / 2 / took_s  # each has its depth beside it
    return colour_hz, loop_hz(run, 2.0)


def loop_hz(run: Path, seconds: float) -> float:
    """RGB and depth of 256 x 256 pixels, a second, in this process."""
    renderer = Renderer(run, "cpu")
    camera = view_camera(MOVING, 1.0, 1.0)
    start = renderer.guard.example_T_map_cam
    renderer.render_for_camera(start, camera)
    count, began_s = 0, time.monotonic()
    while time.monotonic() - began_s < seconds:
        T = start.copy()
        T[0, 3] += np.sin(0.1 * count)
        renderer.render_for_camera(T, camera)
        count += 1
    return count / (time.monotonic() - began_s)


def full_picture_ms(run: Path) -> float:
    """From the last move until the full picture is here."""
    place = Place([run], None, ViewSettings())
    position, quat = place.scene_pose(place.start_T_map_cam)
    with served(run):
        wait_for_page()
        with ViewerClient(PORT) as client:
            times = []
            for step in range(6):
                for part in range(5):
                    client.look(position + 0.02 * (step + part / 5), quat, size=(500, 500))
                    time.sleep(0.03)
                began_s = time.monotonic()
                client.picture(larger_than=int(0.9 * FULL**2))
                times.append(1e3 * (time.monotonic() - began_s))
        return median(times[1:])


def fly(position: np.ndarray, quat: np.ndarray, ready: Any, over: Any, counted: Any) -> None:
    """Ten clients that fly, all apart, until it is over; how many pictures they get."""
    clients = [ViewerClient(PORT) for _ in range(CLIENTS)]

    def move() -> None:
        for step in range(10**6):
            for number, client in enumerate(clients):
                angle = 0.05 * step + number
                client.look(
                    position + 0.3 * np.array([np.cos(angle), np.sin(angle), 0.1 * number]), quat, size=(500, 500)
                )
            if over.wait(1 / 30):
                return

    def take(client: ViewerClient) -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                found = [message for message in client.messages(1.0) if message["type"] == "BackgroundImageMessage"]
                with counted.get_lock():
                    counted.value += len(found)

    threads = [threading.Thread(target=move), *(threading.Thread(target=take, args=(client,)) for client in clients)]
    for thread in threads:
        thread.start()
    while counted.value < 3 * CLIENTS:
        time.sleep(0.1)
    ready.set()
    for thread in threads:
        thread.join()


def node_share(run: Path) -> tuple[float, float, float]:
    """A loop's rate alone, the share that is left beside ten clients, and the pictures a second of all clients."""
    alone_hz = loop_hz(run, FLY_S)
    with ten_clients(run) as counted:
        before, began_s = counted.value, time.monotonic()
        beside_hz = loop_hz(run, FLY_S)
        pictures_hz_all = (counted.value - before) / (time.monotonic() - began_s)
    return alone_hz, beside_hz / alone_hz, pictures_hz_all


@contextlib.contextmanager
def ten_clients(run: Path) -> Iterator[Any]:
    """Ten clients that fly; the number of pictures that they have been sent so far."""
    place = Place([run], None, ViewSettings())
    position, quat = place.scene_pose(place.start_T_map_cam)
    ready, over, counted = multiprocessing.Event(), multiprocessing.Event(), multiprocessing.Value("i", 0)
    with served(run):
        wait_for_page()
        clients = multiprocessing.Process(target=fly, args=(position, quat, ready, over, counted), daemon=True)
        clients.start()
        try:
            if not ready.wait(60):
                raise RuntimeError("ten clients got no pictures within a minute")
            yield counted
        finally:
            over.set()
            clients.join(timeout=20)


def node_beside_clients(run: Path) -> tuple[dict[str, float], dict[str, float], float]:
    """What `pose2rgbd monitor` says of the render node alone, and beside ten clients; their pictures a second."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 99))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_dataset(folder / "dataset")
        write_model(folder / "model", {"network": "relief", "size": MOVING})
        nodes = [
            start("render", "--model", folder / "model", "--rate-hz", NODE_HZ),
            start("play", "--recording", folder / "dataset", "--loop", "--no-images"),
        ]

        def monitored(name: str) -> dict[str, float]:
            monitor = start("monitor", "--duration-s", NODE_S, "--summary", folder / name)
            monitor.wait(NODE_S + 60)
            found: dict[str, float] = read_yaml(folder / name)
            return found

        try:
            time.sleep(NODE_STARTS_S)
            alone = monitored("alone.yaml")
            with ten_clients(run) as counted:
                before, began_s = counted.value, time.monotonic()
                beside = monitored("beside.yaml")
                pictures_hz_all = (counted.value - before) / (time.monotonic() - began_s)
        finally:
            for node in nodes:
                node.send_signal(signal.SIGINT)
            for node in nodes:
                node.wait(20)
    return alone, beside, pictures_hz_all


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """By the real-time scheduler, where that is allowed: what else runs on the machine waits, and decides nothing."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except (OSError, AttributeError):
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def priority() -> str:
    """Of this session before others of the machine (Linux' autogroups), where it is not the usual one."""
    file = Path("/proc/self/autogroup")
    nice = file.read_text().split()[-1] if file.exists() else "0"
    return "" if nice == "0" else f", of which this session goes before the others (autogroup nice {nice})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    machine = described() + priority()
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "relief"
        write_relief(run, MOVING)
        size = sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) / 1e6
        loop_hz(run, 0.5)  # compiled once
        sent, first, page, loop, full, share, alone, of_all = ([] for _ in range(8))  # type: ignore[var-annotated]
        node_hz, beside_hz, beside_ms, of_all_node = ([] for _ in range(4))  # type: ignore[var-annotated]
        for _ in range(rounds):
            sent.append(first_sent_s(run))
            with browser(*WINDOW) as window:
                window.driver.get("about:blank")
                first.append(first_picture_s(run, window))
            with browser(*WINDOW) as window:
                in_page, in_loop = pictures_hz(run, window)
            page.append(in_page)
            loop.append(in_loop)
            full.append(full_picture_ms(run))
            with undisturbed():
                rate, left, all_hz = node_share(run)
            alone.append(rate)
            share.append(left)
            of_all.append(all_hz)
            node, beside, all_hz = node_beside_clients(run)
            node_hz.append(node["rate_hz"])
            beside_hz.append(beside["rate_hz"])
            beside_ms.append(beside["latency_p95_ms"])
            of_all_node.append(all_hz)
            print(
                f"first {sent[-1]:.2f} s, in the page {first[-1]:.2f} s; page {in_page:.1f} Hz of {in_loop:.1f}; "
                f"full {full[-1]:.0f} ms; ten clients leave {left:.0%} of {rate:.1f} Hz and get {of_all[-1]:.1f} Hz; "
                f"the node {node_hz[-1]:.1f} Hz, beside ten {beside_hz[-1]:.1f} Hz, they get {all_hz:.1f} Hz",
                flush=True,
            )
    table = Table.of({"what": "", "this machine": "", "asked for": ""})
    for row in (
        ("first picture sent, after the command", f"{median(sent):.2f} s", "2 s"),
        ("- on the screen of a page opened at once", f"{median(first):.2f} s", "2 s"),
        ("256 x 256 colour and depth in the page, flying", f"{median(page):.1f} a second", "15 a second"),
        ("- the same pictures in a loop without a page", f"{median(loop):.1f} a second", ""),
        ("- ratio", f"{median([a / b for a, b in zip(page, loop, strict=True)]):.2f}", ""),
        ("512 x 512 after the last move, 150 ms of rest included", f"{median(full):.0f} ms", "500 ms"),
        ("a renderer's loop beside ten flying clients, of its rate alone", f"{median(share):.0%}", "50%"),
        ("- pictures a second that the ten get together", f"{median(of_all):.1f}", ""),
        (f"the render node alone, asked for {NODE_HZ} Hz", f"{median(node_hz):.1f} Hz", ""),
        ("- beside ten flying clients", f"{median(beside_hz):.1f} Hz, p95 {median(beside_ms):.0f} ms", ""),
        ("- ratio", f"{median([a / b for a, b in zip(beside_hz, node_hz, strict=True)]):.0%}", "50%"),
        ("- pictures a second that the ten get together", f"{median(of_all_node):.1f}", ""),
    ):
        table.add(*row)
    text = HEADER.format(machine=machine, rounds=rounds, size=size) + table.markdown() + "\n"
    print(text)
    if rounds >= 3:
        RESULT.write_text(text)
    good = median(first) < 2 and median(page) >= 15 and median(full) < 500 and median(share) >= 0.5
    return 0 if good and median(beside_hz) >= 0.5 * median(node_hz) else 1


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    raise SystemExit(main())

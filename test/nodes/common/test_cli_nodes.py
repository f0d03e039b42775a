"""Nodes as processes: `pose2rgbd render|play|monitor|up`, signals, and what reaches another process."""

from __future__ import annotations

import configparser
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from pose2rgbd.msg import SyncStatus
from support.live_drone import LiveDrone

from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.cli.nodes import NODES
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import runner

pytestmark = pytest.mark.ros
COMMAND = [sys.executable, "-m", "pose2rgbd_ros.cli.main"]
PATIENCE_S = 240.0  # a busy machine imports PyTorch in half a minute
STARTED: list[subprocess.Popen] = []


def start(*arguments, command=None):
    command = command or [*COMMAND, *map(str, arguments)]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    STARTED.append(process)
    return process


def finish(process):
    try:
        output, _ = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"did not end: {process.communicate()[0]}") from None
    return process.returncode, output


def wait_for(process, text):
    """Read on until a line holds `text`."""
    deadline = threading.Timer(PATIENCE_S, process.kill)
    deadline.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            deadline.cancel()
            return
    raise AssertionError(f"{text!r} never came: {''.join(lines)}")


@pytest.fixture(autouse=True)
def leave_no_process():
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def flight(tmp_path_factory, poses):
    """Two minutes at 10 Hz, gently round: on a busy machine too the monitor is done before the player is."""
    path = tmp_path_factory.mktemp("data") / "flight"
    meta = DatasetMeta(Camera(32, 32, 28.8, 30.4, 15.5, 15.5), "map", "camera_optical", DepthMeta())
    with DatasetWriter(path, meta) as writer:
        for index in range(1200):
            rgb = np.full((32, 32, 3), index % 250, np.uint8)
            writer.add(10**18 + index * 10**8, poses[index % 60], rgb, np.full((32, 32), 8.0, np.float32))
    return path


def deep_queues(end):
    """ROS arguments for queues that outlast a busy machine, at the publishers or the subscriptions of the images."""
    topics = ("rgb/image", "depth/image")
    return [
        "--ros-args",
        *(part for topic in topics for part in ("-p", f"qos_overrides./render/{topic}.{end}.depth:=200")),
    ]


def test_three_processes_and_every_frame_delivered(ros_domain, make_checkpoint, flight, tmp_path):
    render = start("render", "--model", make_checkpoint(), "--trigger", "tf", *deep_queues("publisher"))
    monitor = start(
        # Seconds enough that some of the player's pairs arrive, which are best effort, on a busy machine.
        "monitor", "--duration-s", 5, "--timeout-s", PATIENCE_S, "--summary", tmp_path / "m.yaml",
        "--samples", tmp_path / "samples", *deep_queues("subscription"),
    )  # fmt: skip
    wait_for(render, "active")
    play = start("play", "--recording", flight, "--tf-rate-hz", 30)
    assert finish(monitor)[0] == 0
    render.send_signal(signal.SIGINT)
    play.send_signal(signal.SIGTERM)
    for process in (render, play):
        status, output = finish(process)
        assert status == 0, output
        assert "Traceback" not in output
    summary = yaml.safe_load((tmp_path / "m.yaml").read_text())
    assert summary["model"] == "meadow"
    assert summary["delivered"] == summary["published"] > 10  # how fast is measured by bench/render_node.py
    assert summary["rate_hz"] > 0
    assert summary["depth_delivered_percent"] == 100
    assert summary["latency_p50_ms"] > 0
    assert summary["compared"] >= 2
    assert 0 < summary["rgb_mae_px"] < 255
    assert 0 < summary["depth_mae"] < 8
    samples = [dict(np.load(path)) for path in (tmp_path / "samples").glob("*.npz")]
    kinds = {"rendered_rgb", "rendered_depth", "recorded_rgb", "recorded_depth"}
    whole = [images for images in samples if set(images) == kinds]
    assert whole, "the player's images are best effort: a busy machine may lose one of a pair"
    for images in whole:
        assert images["recorded_rgb"].shape == images["rendered_rgb"].shape == (32, 32, 3)
        np.testing.assert_allclose(images["recorded_depth"], 8.0)


def test_bad_model_is_told_and_the_process_stays_until_interrupted_twice(ros_domain):
    process = start("render", "--model", "/nowhere")
    for _ in range(2):  # the node goes on to say so
        wait_for(process, "there is no checkpoint at /nowhere")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    status, output = finish(process)
    assert (status, "Traceback" in output) == (0, False), output


def mapped(process, text):
    """Files in the memory of a process whose path holds `text`."""
    lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    return {words[5] for words in (line.split(maxsplit=5) for line in lines) if len(words) > 5 and text in words[5]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_imports_ends_it_well(ros_domain, number):
    process = start("render", "--model", "/nowhere")
    until(lambda: mapped(process, "numpy"))  # PyTorch and the rest are to come
    process.send_signal(number)
    assert finish(process) == (0, "")


SLOW_TO_CONFIGURE = """
import sys, time
from dataclasses import dataclass
from pose2rgbd_ros.nodes.common.node import ManagedNode
from pose2rgbd_ros.nodes.common.runner import run_nodes

@dataclass
class Settings:
    pass

class Slow(ManagedNode):
    diagnostics_name = "slow"

    def __init__(self):
        super().__init__("slow", Settings())

    def load(self):
        print("begins", flush=True)
        time.sleep(3600)

    def destroy_node(self):
        print("destroyed", flush=True)
        super().destroy_node()

sys.exit(run_nodes([Slow], []))
"""


def test_a_signal_while_a_model_is_loaded_ends_it_well(ros_domain):
    """Launch kills after some seconds; to load and compile takes longer."""
    process = start(command=[sys.executable, "-c", SLOW_TO_CONFIGURE])
    wait_for(process, "begins")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert finish(process) == (0, "destroyed\n")


def test_a_node_that_ends_leaves_dds(ros_domain):
    """Others learn that at once, and its shared memory is given back: a process that is killed leaves both behind."""
    process = start("render", "--model", "/nowhere")
    wait_for(process, "there is no checkpoint at /nowhere")
    segments = mapped(process, "/dev/shm/fastrtps")
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 0
    if not segments:
        pytest.skip("DDS has no shared memory here")
    assert not [segment for segment in segments if Path(segment).exists() and "port" not in segment]


SLOW_DISK = """
import sys, time
from pathlib import Path
from pose2rgbd_ros.bags.writer import SplitBagWriter
from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.writer import DatasetWriter

folder = Path(sys.argv[1])

def slow(write, go_on):
    calls = []
    def after_a_while(*given, **named):
        calls.append(1)
        while len(calls) > 5 and not (folder / go_on).exists():
            time.sleep(0.01)
        return write(*given, **named)
    return after_a_while

DatasetWriter.stage = slow(DatasetWriter.stage, "frames")
SplitBagWriter.write = slow(SplitBagWriter.write, "bag")
sys.exit(main(["record", "--out", str(folder / "flight"), "--bag", "mcap", "--depth", "none"]))
"""


def test_a_recorder_ends_when_it_has_written_the_frames_that_it_holds(bench, tmp_path):
    """A disk that takes five frames, and the others only after the recorder was told twice to end, as launch does."""
    drone = LiveDrone(bench.node)
    status = bench.collect(SyncStatus, "/record/status")
    process = start(command=[sys.executable, "-c", SLOW_DISK, str(tmp_path)])
    told = bench.wait(lambda: next((s for s in status if s.frames_written >= 5 and s.waiting >= 20), None))
    report = tmp_path / "flight" / "record_report.yaml"
    process.send_signal(signal.SIGINT)
    goes_on(process)
    process.send_signal(signal.SIGTERM)
    goes_on(process)
    assert not report.exists()
    (tmp_path / "frames").touch()
    until(lambda: report.exists() or process.poll() is not None)
    goes_on(process)
    (tmp_path / "bag").touch()
    ended, output = finish(process)
    assert (ended, "Traceback" in output) == (0, False), output
    frames, images = map(int, re.search(r"flight: (\d+) frames of (\d+) images", output).groups())
    rejects = yaml.safe_load(report.read_text())["rejects"]
    assert images >= told.images
    assert images == frames + sum(rejects.values())
    assert "stopped" not in rejects
    assert frames > told.waiting / 2, "but for what a busy machine left without a pose"
    dataset = Dataset(tmp_path / "flight")
    assert len(dataset) == frames >= told.frames_written
    assert set(dataset.stamps_ns.tolist()) <= set(drone.sent["image/compressed"])
    with open_bag(tmp_path / "flight_bag") as bag:
        assert bag.topics["/image/compressed"].count == images


def goes_on(process):
    """A process that holds what is to be written has not ended a second later."""
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.0)


def until(condition):
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_several_nodes_in_one_process(ros_domain, make_checkpoint, flight, tmp_path):
    parameters = [
        f"render:model:={make_checkpoint()}", f"play:recording:={flight}",
        f"monitor:summary:={tmp_path / 'm.yaml'}", "monitor:duration_s:=1.0",
    ]  # fmt: skip
    arguments = [part for parameter in parameters for part in ("-p", parameter)]
    assert main(["up", "render", "play", "monitor", "--ros-args", *arguments]) == 0
    assert yaml.safe_load((tmp_path / "m.yaml").read_text())["images"] > 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["render", "--rate-hz", "9999"], "rate_hz is 9999.0; it must be at most 1000.0"),
        (["render", "--ros-args", "-p", "rate_hz:=30"], "parameter rate_hz must be of type float; write it like 1.0"),
        (["render", "--ros-args", "-p", "rate_hz:=-3.0"], "out of range"),
        (["render", "--ros-args", "-p", "trigger:=whim"], "choose one of: rate, tf"),
        (["render", "--ros-args", "-p", "nonsense"], "ROS refuses the arguments"),
        (["play", "--recording", "/nowhere"], "/nowhere does not exist"),
        (["up", "render", "fly"], "no node 'fly'"),
    ],
)
def test_bad_arguments_end_with_one_line(ros_domain, capsys, arguments, said):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


def test_monitor_without_images_fails(ros_domain, capfd, tmp_path):
    assert main(["monitor", "--timeout-s", "1", "--summary", str(tmp_path / "m.yaml")]) == 1
    said = capfd.readouterr().err
    assert "no rendered image came within" in said
    assert "/render/rgb/image: nobody publishes it, nor /render/depth/image or /render/depth_relative/image" in said
    assert yaml.safe_load((tmp_path / "m.yaml").read_text())["images"] == 0


def test_fastdds_profile_is_ours_unless_the_user_chose(monkeypatch, repository):
    for variable in (*runner.PROFILE_VARIABLES, runner.NO_PROFILE):
        monkeypatch.setenv(variable, "")
    assert runner.use_fastdds_profile() == repository / "config" / "fastdds.xml"
    assert Path(os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
    monkeypatch.setenv(runner.PROFILE_VARIABLES[0], "/users/own.xml")
    assert runner.use_fastdds_profile() == Path("/users/own.xml")
    for variable in runner.PROFILE_VARIABLES:
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv(runner.NO_PROFILE, "1")
    assert runner.use_fastdds_profile() is None


def test_every_node_is_an_executable_with_a_launch_file(repository):
    parser = configparser.ConfigParser()
    parser.read(repository / "setup.cfg")
    scripts = parser["options.entry_points"]["console_scripts"].split("\n")
    executables = {line.split("=")[0].strip(): line.split("=")[1].strip() for line in scripts if line}
    assert {executables[name] for name in NODES} == {"pose2rgbd_ros.cli.main:node"}
    launched = {path.name.removesuffix(".launch.py") for path in (repository / "launch").iterdir()}
    assert set(NODES) - launched == {"play", "monitor"}, "tools for a shell"

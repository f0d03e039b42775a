"""The nodes of an aircraft: without PyTorch the real render node publishes what it should, and none loads it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pose2rgbd.msg import RenderStatus
from sensor_msgs.msg import CameraInfo, Image
from support.small_relief import SIDE, write_small_relief
from support.without_torch import command

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.rendering.bounds import Calibration, IntervalTable, save_calibration
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.ros
ABOVE_HOUSE = se3.look_at(np.array([0.0, 0.0, 10.0]), np.array([0.0, 0.0, 9.0]))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A calibrated relief, exported as training does."""
    path = write_small_relief(tmp_path / "hamlet")
    assert main(["export", str(path)]) == 0
    edges = tuple(np.array([edge], np.float32) for edge in (0.5, 0.1, 9.0, 1.0))
    share = np.full((2, 2, 2, 2), 0.1, np.float32)
    table = IntervalTable(edges, share, share / 2, 50.0, 0.0)
    weights = load_checkpoint(path).weights_sha256
    save_calibration(path, Calibration(weights, 0.9, 0.005, 2.0, 3.0, 12.0, table, {}))
    return path


@pytest.fixture
def node(model: Path, ros_domain: int) -> Iterator[subprocess.Popen[str]]:
    """`pose2rgbd render` as a process."""
    words = command("render", "--model", model)
    process = subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()


def test_the_render_node_runs_without_pytorch(bench, model: Path, node: subprocess.Popen[str]) -> None:
    kinds = ("rgb", "depth", "depth_lower", "depth_upper", "confidence")
    images = {kind: bench.collect(Image, f"/render/{kind}/image") for kind in kinds}
    infos = {kind: bench.collect(CameraInfo, f"/render/{kind}/camera_info") for kind in kinds}
    bench.status = bench.collect(RenderStatus, "/render/status")
    bench.stream(ABOVE_HOUSE)
    status = bench.wait_state(RenderStatus.OK)
    assert (status.model, status.calibrated, status.inside_volume) == ("hamlet", True, True)
    bench.wait(lambda: all(images.values()) and all(infos.values()))
    assert conversions.camera_from_info(infos["depth"][-1]) == load_checkpoint(model).camera
    expected = Renderer(model, "cpu", "torch").render(ABOVE_HOUSE).present()
    for kind in kinds:
        message = images[kind][-1]
        assert (message.height, message.width) == (SIDE, SIDE)
        if kind == "rgb":
            shown = np.frombuffer(message.data, np.uint8).reshape(SIDE, SIDE, 3)
            assert np.abs(shown.astype(int) - expected[kind][0]).max() <= 1
        else:
            shown = np.frombuffer(message.data, np.float32).reshape(SIDE, SIDE)
            np.testing.assert_allclose(shown, expected[kind][0], atol=1.1e-3)
    assert not [line for line in Path(f"/proc/{node.pid}/maps").read_text().splitlines() if "libtorch" in line]
    node.send_signal(signal.SIGINT)
    output, _ = node.communicate(timeout=240)
    assert (node.returncode, "Traceback" in output) == (0, False), output


@pytest.mark.parametrize("name", ["render", "avoid", "record", "play", "monitor"])
def test_a_node_starts_without_pytorch(name: str) -> None:
    done = subprocess.run(command(name, "--help"), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def test_the_nodes_do_not_load_pytorch_where_it_is(model: Path) -> None:
    """Nor does a renderer on a CPU, the guard, the bounds, or avoid's look at the model's datum."""
    program = (
        "import sys\n"
        "import pose2rgbd_ros.nodes.avoid.node, pose2rgbd_ros.nodes.monitor, pose2rgbd_ros.nodes.play\n"
        "import pose2rgbd_ros.nodes.record.node, pose2rgbd_ros.nodes.render.node\n"
        "from pose2rgbd_ros.rendering.renderer import Renderer\n"
        "renderer = Renderer(sys.argv[1], 'cpu')\n"
        "assert renderer.render(renderer.volume.example_T_map_cam).depth_lower is not None\n"
        "loaded = {'torch', 'onnx', 'torchmetrics', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(model)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr

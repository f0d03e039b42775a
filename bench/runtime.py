"""What an aircraft's computer needs to render without PyTorch: disk, start, memory; and are the pixels the same?

    python bench/runtime.py            # about five minutes; pip fetches what the extra [runtime] names
    python bench/runtime.py --keep DIR # the environment is left there; the next time only our package is installed anew

The environment is a new venv with `pip install .[runtime]` and nothing else of Python; beside it lie ROS and what
rosdep installs for package.xml (SciPy, OpenCV, PyYAML, tqdm), as links into the environment that runs this bench.
NumPy is ROS' own too, but there the venv's is used, and is not counted. The baseline loads PyTorch, as the nodes did
before.

* Import: `import` of the render node, median of seven processes that take turns; CPU is user and system time.
* Memory: a render node at 30 Hz with a relief of 44 MB at 256 x 256 pixels, bounds and guard on, TF from a player;
  resident after ten seconds (its own, mapped from libraries' files, shared by DDS), and the most there was. The first
  start compiles the kernels, later ones load them.
* Pixels: the same poses by backend torch here, and by the environment there.

Writes bench/results/runtime.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from relief_city import write_relief
from render_node import flight, write_dataset, write_model

from pose2rgbd_ros.cli.main import main as pose2rgbd
from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.models.warp.config import WarpConfig
from pose2rgbd_ros.models.warp.network import WarpModel
from pose2rgbd_ros.rendering.bounds import Calibration, IntervalTable, save_calibration
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "bench" / "results" / "runtime.md"
ROSDEP = {"scipy", "opencv-python-headless", "pyyaml", "tqdm", "transforms3d"}  # of package.xml
OURS = {"numpy", "pip", "setuptools", "pose2rgbd-ros"}  # of this environment, and not ROS'
MEASURED_BUT_NOT_COUNTED = {"numpy": "ROS' own", "pip": "not needed to run", "setuptools": "not needed to run"}
RUNS, SECONDS = 7, 10.0
MB = 1e6
HEADER = """# A runtime without PyTorch

`python bench/runtime.py`: {machine}. What is measured how: its docstring.

"""


# The environment, and ROS beside it.


def make_environment(folder: Path) -> Path:
    """Its interpreter; made where there is none."""
    python, copy = folder / "venv" / "bin" / "python", folder / "source"  # pip leaves a build folder in the source
    is_new = not python.exists()
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, copy)
    shutil.copytree(REPOSITORY / "pose2rgbd_ros", copy / "pose2rgbd_ros", ignore=shutil.ignore_patterns("__pycache__"))
    if is_new:
        subprocess.run([sys._base_executable, "-m", "venv", folder / "venv"], check=True)  # type: ignore[attr-defined]
    again = [] if is_new else ["--force-reinstall", "--no-deps"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *again, f"{copy}[runtime]"], check=True)
    return python


def link_ros(folder: Path) -> str:
    """PYTHONPATH of ROS and of what rosdep installs: all that neither our lock nor PyTorch brought here."""
    ros = folder / "ros"
    shutil.rmtree(ros, ignore_errors=True)
    ros.mkdir(parents=True)
    site, locks = Path(sysconfig.get_path("purelib")), ("python.lock", "torch.txt")
    lines = [line for name in locks for line in (REPOSITORY / "requirements" / name).read_text().splitlines()]
    not_ros = {named(line.partition("==")[0]) for line in lines} - ROSDEP | OURS
    owned = set()
    for found in importlib.metadata.distributions(path=[str(site)]):
        if named(found.metadata["Name"]) in not_ros:
            owned |= {file.parts[0] for file in found.files or ()}
    for entry in site.iterdir():
        if entry.name not in owned and entry.suffix != ".pth" and not entry.name.startswith("__"):
            (ros / entry.name).symlink_to(entry)
    import tf2_ros  # of the underlay, where ROS came as wheels

    return f"{ros}:{Path(tf2_ros.__file__).parents[1]}"


def named(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution.strip().lower())


def sizes_mb(python: Path) -> dict[str, float]:
    """Of each distribution of the environment, on disk."""
    site = next((python.parents[1] / "lib").glob("python3*/site-packages"))
    of_file = {file: file.stat().st_blocks * 512 / MB for file in site.rglob("*") if file.is_file()}
    sizes: dict[str, float] = {}
    for found in importlib.metadata.distributions(path=[str(site)]):
        tops = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
        own = [size for file, size in of_file.items() if file.relative_to(site).parts[0] in tops]
        sizes[named(found.metadata["Name"])] = sum(own)
    return sizes


# Start and memory.


def run(python: Path | str, env: dict[str, str], code: str) -> str:
    """What a program says."""
    done = subprocess.run([python, "-c", code], env=env, check=True, capture_output=True, text=True)
    return done.stdout


IMPORT = """
import time
wall, cpu = time.perf_counter(), time.process_time()
import pose2rgbd_ros.nodes.render.node
{also}
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def import_seconds(python: Path, env: dict[str, str], here: dict[str, str]) -> list[tuple[float, float]]:
    """Median wall and CPU seconds of the import: without PyTorch, and with it."""
    ways = ((python, env, ""), (Path(sys.executable), here, "import torch"))
    taken: list[list[tuple[float, ...]]] = [[], []]
    for _ in range(RUNS + 1):
        for (which, where, also), times in zip(ways, taken, strict=True):
            times.append(tuple(map(float, run(which, where, IMPORT.format(also=also)).split())))
    # The first of each found nothing in the disk's cache.
    return [tuple(map(statistics.median, zip(*times[1:], strict=True))) for times in taken]  # type: ignore[misc]


@contextmanager
def node(command: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def memory_mb(command: list[str], env: dict[str, str], here: dict[str, str], folder: Path) -> list[float]:
    """MB of a render node that has published for SECONDS, as MEMORY names them, and the Hz it published at."""
    summary = folder / "summary.yaml"
    summary.unlink(missing_ok=True)
    main = [sys.executable, "-m", "pose2rgbd_ros.cli.main"]
    play = [*main, "play", "--recording", str(folder / "dataset"), "--loop", "--no-images"]
    watch = [*main, "monitor", "--duration-s", str(SECONDS), "--summary", str(summary)]
    with node(command, env) as render, node(play, here):
        deadline = time.monotonic() + 120
        while not published(here):
            assert render.poll() is None, "the node ended"
            assert time.monotonic() < deadline, "the node publishes nothing"
        subprocess.run(watch, env=here, check=True, stdout=subprocess.DEVNULL, timeout=SECONDS + 60)
        status = Path(f"/proc/{render.pid}/status").read_text()
        maps = Path(f"/proc/{render.pid}/maps").read_text()
    assert "libtorch" not in maps or "torch" in " ".join(command)
    rate_hz = float(re.findall(r"^rate_hz: (\S+)", summary.read_text(), re.M)[0])
    return [*(float(re.findall(rf"{key}:\s+(\d+) kB", status)[0]) * 1024 / MB for key in MEMORY), rate_hz]


MEMORY = {
    "VmRSS": "resident MB", "RssAnon": "own", "RssFile": "of files", "RssShmem": "of DDS", "VmHWM": "most MB",
}  # fmt: skip
WAIT = """
import sys
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node, found = rclpy.create_node("waiting"), []
node.create_subscription(Image, "render/rgb/image", found.append, qos_profile_sensor_data)
for _ in range(50):
    rclpy.spin_once(node, timeout_sec=0.1)
    if found:
        break
print(len(found))
"""


def published(env: dict[str, str]) -> bool:
    """Whether an image came within five seconds."""
    return run(sys.executable, env, WAIT).strip() != "0"


# The models, and their pixels.


def write_models(folder: Path) -> dict[str, Path]:
    """Random networks as training leaves them, exported."""
    found = {name: folder / name for name in ("relief", "base", "slice-10", "warp-12")}
    if all(path.exists() for path in found.values()):
        return found
    write_relief(found["relief"], 256, flight())
    write_model(found["base"], {"variant": "base", "output": "rgbd", "size": 512}, flight())
    write_model(found["slice-10"], {"variant": "slice", "slices": 10, "output": "rgbd", "size": 256}, flight())
    for name in ("relief", "base", "slice-10"):
        assert pose2rgbd(["export", str(found[name])]) == 0
    write_warp(found["warp-12"], found["relief"])
    edges = tuple(np.array([edge], np.float32) for edge in (0.5, 0.1, 20.0, 1.0))
    lower = np.full((2, 2, 2, 2), 0.1, np.float32)
    weights = load_checkpoint(found["relief"]).weights_sha256
    table = IntervalTable(edges, lower, lower, 200.0, 0.0)
    save_calibration(found["relief"], Calibration(weights, 0.9, 0.005, 2.0, 30.0, 30.0, table, {}))
    return found


def write_warp(path: Path, relief: Path) -> None:
    """warp-12 over 60 pictures of a relief."""
    renderer, T = Renderer(relief, "cpu", guard=False, calibrated=False), flight()[::10]
    pictures = renderer.render(T)
    model = WarpModel(WarpConfig(frames=12, stored=len(T), width=256, height=256))
    model.keep(pictures.rgb, pictures.depth, T, renderer.camera)  # type: ignore[arg-type]
    save_checkpoint(
        path,
        Checkpoint(
            architecture=architecture_of(model),
            normalization=Normalization.fit(T, pictures.depth),
            camera=renderer.camera,
            map_frame="map",
            camera_frame="camera_optical_frame",
            depth_kind="metric",
            state_dict=model.state_dict(),
            training_stamps_ns=np.arange(len(T)) * 10**8,
            training_T_map_cam=T,
        ),
    )


RENDER = """
import sys
import numpy as np
from pose2rgbd_ros.rendering.renderer import Renderer
renderer = Renderer({model!r}, "cpu", {backend!r}, guard=False)
images = renderer.render(np.load({poses!r}))
np.savez({out!r}, **images.present())
print(renderer.backend_name, "torch" in sys.modules)
"""


def differences(model: Path, python: Path, env: dict[str, str], here: dict[str, str], folder: Path) -> list[object]:
    """A row of the table of pixels."""
    T = flight()[5::60].copy()
    T[:, :3, 3] += np.random.default_rng(0).normal(0, 1.5, (len(T), 3))
    poses = str(folder / "poses.npy")
    np.save(poses, T)
    made, said = [], []
    for which, where, backend in ((python, env, "auto"), (sys.executable, here, "torch")):
        out = str(folder / f"{backend}.npz")
        said.append(run(which, where, RENDER.format(model=str(model), backend=backend, poses=poses, out=out)).split())
        made.append(np.load(out))
    assert said[0][1] == "False", "the environment has loaded torch"
    found, wanted = made
    levels = np.abs(found["rgb"].astype(int) - wanted["rgb"]).max(-1)
    unknown = np.isnan(found["depth"]) != np.isnan(wanted["depth"])
    off_m = np.nan_to_num(np.abs(found["depth"] - wanted["depth"]))
    off = (levels > 1) | unknown | (off_m > 1e-3)
    inside = ~off
    return [
        model.name, said[0][0], f"{len(T)} x {levels.shape[1]} x {levels.shape[2]}", int(levels[inside].max()),
        1e3 * float(off_m[inside].max()), 100 * float(off.mean()), float(levels.mean()),
    ]  # fmt: skip


def main() -> int:
    """Measure, print, write the page; exit status 1 when a number is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="folder of the environment")
    options = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 99))
    head = HEADER.format(machine=described())
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).resolve()
        python, ros = make_environment(folder), link_ros(folder)
        here = dict(os.environ)
        env = {**here, "PYTHONPATH": ros, "NUMBA_CACHE_DIR": str(Path(scratch) / "numba")}
        models = write_models(Path(scratch))
        write_dataset(Path(scratch) / "dataset")

        sizes = sizes_mb(python)
        disk = Table.of({"distribution": "", "MB": ".1f", "note": ""})
        counted = 0.0
        for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
            note = MEASURED_BUT_NOT_COUNTED.get(name, "")
            counted += 0.0 if note else size
            if size >= 2.0:
                disk.add(name, size, f"not counted: {note}" if note else "")
        disk.add("**all that is counted**", counted, "smaller ones too")
        print(disk.markdown(), flush=True)

        without, with_torch = import_seconds(python, env, here)
        start = Table.of({"import of the render node": "", "wall s": ".2f", "CPU s": ".2f"})
        start.add("without PyTorch", *without)
        start.add("with it (baseline)", *with_torch)
        print(start.markdown(), flush=True)

        relief = str(models["relief"])
        render = ["render", "--model", relief, "--rate-hz", "30", "--device", "cpu"]
        plain = [str(python), "-m", "pose2rgbd_ros.cli.main", *render]
        before = f"import sys, torch; from pose2rgbd_ros.cli.main import main; sys.exit(main({render!r}))"
        memory = Table.of({"render node, relief": "", **dict.fromkeys(MEMORY.values(), ".0f"), "Hz": ".1f"})
        rows = {
            "first start, compiles": (plain, env),
            "later start": (plain, env),
            "PyTorch loaded (baseline)": ([sys.executable, "-c", before], here),
        }
        resident: dict[str, float] = {}
        for name, (command, where) in rows.items():
            figures = memory_mb(command, where, here, Path(scratch))
            resident[name] = figures[0]
            memory.add(name, *figures)
        print(memory.markdown(), flush=True)

        pixels = Table.of(
            {
                "model": "",
                "by": "",
                "pictures": "",
                "largest levels": "d",
                "largest mm": ".3g",
                "other pixels %": ".3g",
                "mean levels": ".3g",
            }
        )
        for path in models.values():
            pixels.add(*differences(path, python, env, here, Path(scratch)))
        print(pixels.markdown(), flush=True)
        stored_mb = (models["relief"] / "weights.safetensors").stat().st_size / MB
    RESULTS.write_text(
        f"{head}## Disk\n\nFresh venv, `pip install .[runtime]`; distributions of 2 MB and more.\n\n{disk.markdown()}\n"
        f"\n## Start\n\n{start.markdown()}\n\n## Memory\n\nThe relief has {stored_mb:.0f} MB on disk.\n\n"
        f"{memory.markdown()}\n\n## Pixels\n\nAgainst PyTorch. Other pixels: colour off by more than 1 of 255, or "
        "depth by more than 1 mm, or known in one only: rays that graze an edge. The largest are of the rest.\n\n"
        f"{pixels.markdown()}\n"
    )
    return 0 if counted <= 300 and without[1] < 1.0 and resident["later start"] < 300 else 1


if __name__ == "__main__":
    sys.exit(main())

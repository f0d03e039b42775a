"""How cost grows: with resolution, batch, slices, place, frames of a dataset, length of a recording and subscribers.

    python bench/growth.py                 # writes bench/results/growth.md, .json and .png
    python bench/growth.py --only slices   # one curve, printed

resolution: milliseconds of a frame (RGBD), 64 to 1024 pixels a side; Base and Slice-10 as ONNX graph and eager, relief
compiled. batch, slices: of a 256 x 256 frame (depth). place: relief at 256 pixels over a city of so many metres a side,
and what its checkpoint takes. frames: opening a dataset, and asking the guard whether a pose is known, by frames.
recording: `pose2rgbd convert` of a recording of so many seconds (256 x 256 JPEG at 30 Hz, odometry at 200 Hz): CPU
seconds of the whole process and its highest memory. subscribers: CPU milliseconds of the process that publishes 512 x
512 RGB + depth at 15 Hz (reliable, config/fastdds.xml), and of each that subscribes, a pair of images; what share came.

One thread, medians of processor time in turns. Exponent: of the straight line through a curve's last three points on
logarithmic axes; 1 is in proportion to the axis. docs/performance.md says what limits each.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from convert_speed import RATE_HZ, record
from image_delivery import PROFILE, run
from matplotlib.figure import Figure
from relief_city import write_relief
from tqdm import tqdm

from pose2rgbd_ros.bench.measure import Page, Row, cost_of, eager, interleaved, random_checkpoint, with_limits
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.rendering.trust import Guard
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).parent / "results"
SIZES = (64, 128, 256, 512, 1024)
BATCHES = (1, 2, 4, 8, 16)
SLICES = (2, 5, 10, 16, 32, 64, 128)
SIDES_M = (150, 300, 600)
FRAMES = (100, 300, 1000, 3000, 10_000)
SECONDS = (10, 20, 40, 80, 160)
SUBSCRIBERS, PAIRS_HZ, PUBLISHED_S = (1, 2, 4, 8), 15.0, 8.0
ROUNDS, TURN = 3, 2
CONVERSIONS = 3  # of each recording


@dataclass
class Curve:
    """Values over an axis: those of a label, and for each the baseline and the least the machine allows, if known."""

    label: str
    unit: str
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    baseline: list[float | None] = field(default_factory=list)
    limit: list[float | None] = field(default_factory=list)

    def add(self, x: float, y: float, baseline: float | None = None, limit: float | None = None) -> None:
        for values, value in ((self.x, x), (self.y, y), (self.baseline, baseline), (self.limit, limit)):
            values.append(value)  # type: ignore[arg-type]

    @property
    def exponent(self) -> float:
        return float(np.polyfit(np.log(self.x[-3:]), np.log(self.y[-3:]), 1)[0])


def network_ms(config: Pose2RGBDConfig, batch: int, folder: Path) -> tuple[float, float, float]:
    """Milliseconds of a frame of the ONNX graph, of the eager network, and the least that the machine allows."""
    path, model, T_map_cam = random_checkpoint(folder / "network", config)
    fast = Renderer(path, "cpu", "onnx", threads=1)
    T = np.resize(T_map_cam, (batch, 4, 4))
    images = fast.render(T)
    poses = torch.from_numpy(fast.normalization.encode_pose(T))
    contestants: dict[str, Callable[[], object]] = {
        "onnx": lambda: fast.render(T, images), "eager": eager(model, poses),
    }  # fmt: skip
    times, limits = with_limits(contestants, ROUNDS, turn=TURN)
    least_s = limits.least_s(cost_of(model, poses))
    return 1e3 * times["onnx"] / batch, 1e3 * times["eager"] / batch, 1e3 * least_s / batch


def relief_ms(path: Path, size: int, poses: np.ndarray) -> float:
    """Milliseconds of a frame of relief, compiled."""
    renderer = Renderer(path, "cpu", threads=1)
    camera = renderer.camera.resized(size, size)
    images = renderer.render_for_camera(poses[:1], camera)
    render = {"relief": lambda: renderer.render_for_camera(poses[:1], camera, images)}
    return 1e3 * interleaved(render, ROUNDS, turn=TURN)["relief"]


def pair(name: str) -> tuple[Curve, Curve]:
    return Curve(f"{name}, ONNX", "ms"), Curve(f"{name}, eager", "ms")


def resolution(folder: Path) -> Iterator[list[Curve]]:
    base, slices, relief = pair("base"), pair("slice-10"), Curve("relief", "ms")
    poses = write_relief(folder / "relief", 256)
    for size in SIZES:
        for curves, config in (
            (base, Pose2RGBDConfig("base", output="rgbd", size=size)),
            (slices, Pose2RGBDConfig("slice", slices=10, output="rgbd", size=size)),
        ):
            add_network(curves, size, network_ms(config, 1, folder))
        relief.add(size, relief_ms(folder / "relief", size, poses))
        yield [*base, *slices, relief]


def batch(folder: Path) -> Iterator[list[Curve]]:
    base, slices = pair("base"), pair("slice-10")
    for count in BATCHES:
        add_network(base, count, network_ms(Pose2RGBDConfig("base", output="depth", size=256), count, folder))
        config = Pose2RGBDConfig("slice", slices=10, output="depth", size=256)
        add_network(slices, count, network_ms(config, count, folder))
        yield [*base, *slices]


def slices(folder: Path) -> Iterator[list[Curve]]:
    curves = pair("slice")
    for count in SLICES:
        config = Pose2RGBDConfig("slice", slices=count, output="depth", size=256)
        add_network(curves, count, network_ms(config, 1, folder))
        yield list(curves)


def add_network(curves: tuple[Curve, Curve], x: float, ms: tuple[float, float, float]) -> None:
    onnx_ms, eager_ms, least_ms = ms
    curves[0].add(x, onnx_ms, eager_ms, least_ms)
    curves[1].add(x, eager_ms, None, least_ms)


def place(folder: Path) -> Iterator[list[Curve]]:
    time, size = Curve("relief, a frame", "ms"), Curve("relief, checkpoint", "MB")
    for side_m in SIDES_M:
        path = folder / f"place{side_m}"
        time.add(side_m, relief_ms(path, 256, write_relief(path, 256, side_m=side_m)))
        size.add(side_m, sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6)
        yield [time, size]


def frames(folder: Path) -> Iterator[list[Curve]]:
    opening, known = Curve("opening a dataset", "ms"), Curve("guard, a pose", "ms")
    for count in FRAMES:
        path = folder / f"frames{count}"
        # Lines of a survey, 100 frames each, back and forth.
        line, along = np.divmod(np.arange(count), 100)
        eye = np.stack([3.0 * np.where(line % 2, 99 - along, along), 25.0 * line, np.full(count, 60.0)], axis=-1)
        T_map_cam = se3.look_at(eye, eye - [0.0, 0.0, 1.0])
        with DatasetWriter(path, DatasetMeta(Camera(16, 16, 16, 16, 7.5, 7.5))) as writer:
            for index, T in enumerate(T_map_cam):
                writer.add(10**18 + index * 10**8, T, np.zeros((16, 16, 3), np.uint8), None)
        guard = Guard(T_map_cam, 30.0, None, True)
        between = T_map_cam.copy()
        between[:, :3, 3] += (1.0, 4.0, 0.5)
        asked = itertools.cycle(between)  # always another, since the guard remembers its last answer
        contestants: dict[str, Callable[[], object]] = {
            "opening": lambda path=path: Dataset(path),
            "guard": lambda guard=guard, asked=asked: guard.check(next(asked)),
        }
        times = interleaved(contestants, ROUNDS, turn=TURN)
        opening.add(count, 1e3 * times["opening"])
        known.add(count, 1e3 * times["guard"])
        yield [opening, known]


_CHILD = """
import resource, sys
from pose2rgbd_ros.cli.main import main
status = main(["convert", *sys.argv[1:]])
used = resource.getrusage(resource.RUSAGE_SELF)
print(status, used.ru_utime + used.ru_stime, open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


def recording(folder: Path) -> Iterator[list[Curve]]:
    time, memory = Curve("convert, CPU time", "s"), Curve("convert, memory", "MB")
    for seconds in SECONDS:
        bag = record(folder / f"bag{seconds}", (256, 256), True, seconds * RATE_HZ, "mcap")
        runs = []
        for number in range(CONVERSIONS):
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, str(bag), str(folder / f"converted{seconds}-{number}"), "--jobs", "1"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            status, *used = done.stdout.splitlines()[-1].split()
            assert status == "0", done.stderr
            runs.append([float(value) for value in used])
        cpu_s, kib = np.median(runs, axis=0)
        time.add(seconds, float(cpu_s))
        memory.add(seconds, float(kib) * 1024 / 1e6)
        yield [time, memory]


def subscribers(folder: Path) -> Iterator[list[Curve]]:
    sending, receiving = Curve("publisher, CPU time a pair", "ms"), Curve("each subscriber", "ms")
    came = Curve("delivered", "%")
    for number, count in enumerate(SUBSCRIBERS):
        domain = 70 + number
        (sent, cpu_s), heard = run("512x512 RGB + depth", True, PROFILE, PAIRS_HZ, PUBLISHED_S, domain, count)
        sending.add(count, 1e3 * cpu_s / (sent / 2))
        receiving.add(count, float(np.median([1e3 * spent_s / (max(got, 1) / 2) for got, _, _, spent_s in heard])))
        came.add(count, 100 * sum(got for got, *_ in heard) / (sent * count))
        yield [sending, receiving, came]


# By name: its axis and what makes its curves, a point at a time.
GROWTH: dict[str, tuple[str, int, Callable[[Path], Iterator[list[Curve]]]]] = {
    "resolution": ("side of the image in pixels", len(SIZES), resolution),
    "batch": ("frames of a forward pass (ms a frame)", len(BATCHES), batch),
    "slices": ("depth slices", len(SLICES), slices),
    "place": ("side of the place in metres", len(SIDES_M), place),
    "frames": ("frames of a dataset", len(FRAMES), frames),
    "recording": ("seconds of a recording", len(SECONDS), recording),
    "subscribers": ("subscribers of the images", len(SUBSCRIBERS), subscribers),
}


def table(curves: list[Curve]) -> str:
    points = [f"{x:g}" for x in curves[0].x]
    rows: Table = Table.of({"": "", **dict.fromkeys(points, ".3g"), "exponent": ".2f"})
    for curve in curves:
        rows.add(f"{curve.label} ({curve.unit})", *curve.y, curve.exponent)
    return rows.markdown()


def draw(path: Path, found: dict[str, list[Curve]]) -> None:
    """A panel for each growth; what the machine allows is dotted."""
    figure = Figure(figsize=(17, 8), dpi=100, layout="constrained")
    panels = figure.subplots(2, 4)
    panels.flat[-1].set_axis_off()
    for axes, (name, curves) in zip(panels.flat, found.items(), strict=False):
        for curve in curves:
            line = axes.plot(curve.x, curve.y, marker="o", markersize=4, label=f"{curve.label} ({curve.unit})")[0]
            if None not in curve.limit and not curve.label.endswith("eager"):
                axes.plot(curve.x, curve.limit, linestyle=":", color=line.get_color(), label="least, by sgemm and copy")
        axes.set(title=name, xlabel=GROWTH[name][0], xscale="log", yscale="log")
        axes.set_xticks(curves[0].x, [f"{x:g}" for x in curves[0].x])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)  # over no line
    figure.savefig(path)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=GROWTH, default=list(GROWTH))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of growth.md, .json and .png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = "one thread, medians of processor time in turns; curves as its docstring says."
    page = Page("growth", "How cost grows", "python bench/growth.py", about)
    found: dict[str, list[Curve]] = {}
    for name in options.only:
        axis, count, make = GROWTH[name]
        with tempfile.TemporaryDirectory() as folder:
            for curves in tqdm(make(Path(folder)), name, count, disable=None):
                found[name] = curves
        section = f"## {name.capitalize()}\n\nOver {axis}.\n\n{table(found[name])}"
        print(section, end="\n\n", flush=True)
        page.sections.append(section)
        page.rows += [
            Row.of(f"{name} {x:g} {curve.label}", y, curve.unit, baseline, limit)
            for curve in found[name]
            for x, y, baseline, limit in zip(curve.x, curve.y, curve.baseline, curve.limit, strict=True)
        ]
    if options.only == list(GROWTH):
        page.sections.insert(0, "![the curves](growth.png)")
        page.write(options.out)
        draw(options.out / "growth.png", found)


if __name__ == "__main__":
    main()

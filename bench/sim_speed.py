"""CPU milliseconds per frame of the simulated city: sizes, samples, shadows and movers.

    python bench/sim_speed.py            # prints the table and writes bench/results/sim_speed.md
    python bench/sim_speed.py --quick    # 512x512 with shadows and depth only; exit status 1 above 45 CPU-ms

What is counted is the CPU time of the process with all threads of the software renderer, from a pose to arrays of
colour, depth and labels; median over frames of a flight at 55 m, looking down obliquely, all settings taking turns.
Other programs on the machine raise it somewhat (shared cores and caches): the last column divides it by the CPU time
of a product of two 1024x1024 float32 matrices, measured in the same turns.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import itertools
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer, open_context

RESULT = Path(__file__).parent / "results" / "sim_speed.md"
BAR_MS = 45.0
SIZES = 256, 512, 854
CARS, PEOPLE = 40, 40
FRAMES = 8
HEADER = """# Speed of the simulated city

`python bench/sim_speed.py`: median CPU time per frame (all threads) of turns with every setting; colour, depth and
labels in arrays. The city has {triangles} triangles; movers are {cars} cars and {people} people. Asked for: at most
{bar:.0f} CPU-ms at 512x512 with shadows and depth, without supersampling or movers.

{machine}

"""
COLUMNS = {
    "size": "d", "samples": "s", "shadows": "", "movers": "", "CPU-ms per frame": ".1f", "of an sgemm of 1024": ".2f",
}  # fmt: skip

Case = tuple[int, int, bool, bool]  # size, supersample, shadows, movers


def flight(frames: int) -> Float64:
    """(frames, 4, 4): poses on a circle at 55 m, looking at the town."""
    angles = np.linspace(0, 2 * np.pi, frames, endpoint=False)
    return np.stack(
        [se3.look_at([90 * np.cos(a), 90 * np.sin(a), 55.0], [20 * np.sin(3 * a), 0.0, 4.0]) for a in angles]
    )


def medians_ms(cases: list[Case], rounds: int, city: City) -> tuple[dict[Case, float], float]:
    """Median CPU milliseconds of each case, and of the matrix product."""
    one = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
    poses = flight(FRAMES)
    times: dict[Case | None, list[float]] = {case: [] for case in (None, *cases)}
    with ExitStack() as stack:
        renderers = {
            (size, samples, shadows): stack.enter_context(
                SceneRenderer(city.scene, Camera.from_fov(size, size, 65.0), samples, shadows)
            )
            for size, samples, shadows in dict.fromkeys(case[:3] for case in cases)
        }
        for _ in range(rounds):
            times[None].append(cpu_ms(lambda: one @ one))
            for case in cases:
                renderer = renderers[case[:3]]
                renderer.render(poses[0], 0.0, case[3])
                for index, pose in enumerate(poses):
                    run = _render(renderer, pose, 0.1 * index, case[3])
                    times[case].append(cpu_ms(run))
    return {case: float(np.median(times[case])) for case in cases}, float(np.median(times[None]))


def cpu_ms(run: Callable[[], object]) -> float:
    """CPU milliseconds of one call."""
    started = time.process_time()
    run()
    return 1e3 * (time.process_time() - started)


def machine() -> str:
    """The processor and what draws."""
    context = open_context()
    renderer, version = context.info["GL_RENDERER"], context.info["GL_VERSION"]
    context.release()
    return f"{processor()}, {os.cpu_count()} cores; {renderer}, {version}; Python {platform.python_version()}."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"one setting; fail above {BAR_MS:.0f} CPU-ms")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    city = City(CityConfig() if options.quick else CityConfig(cars=CARS, people=PEOPLE))
    asked: Case = (512, 1, True, False)
    cases = (
        [asked]
        if options.quick
        else [
            (size, samples, shadows, movers)
            for size, samples, (shadows, movers) in itertools.product(
                SIZES, (1, 2), ((False, False), (True, False), (True, True))
            )
        ]
    )
    times, product_ms = medians_ms(cases, options.rounds, city)
    triangles = sum(len(mesh.triangles) for mesh in (*city.scene.chunks, city.scene.ground))
    text = HEADER.format(triangles=triangles, cars=CARS, people=PEOPLE, bar=BAR_MS, machine=machine())
    table, yes = Table.of(COLUMNS), {True: "yes", False: "no"}
    for (size, samples, shadows, movers), value in times.items():
        table.add(size, f"{samples}x{samples}", yes[shadows], yes[movers], value, value / product_ms)
    text += table.markdown() + "\n"
    print(text)
    if not options.quick:
        RESULT.write_text(text)
    return int(times[asked] > BAR_MS)


def _render(renderer: SceneRenderer, pose: Float64, t_s: float, movers: bool) -> Callable[[], object]:
    return lambda: renderer.render(pose, t_s, movers)


if __name__ == "__main__":
    sys.exit(main())

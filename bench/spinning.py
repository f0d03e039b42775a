"""What waiting threads cost on a machine that does other things too: they can sleep, or spin until there is work.

    python bench/spinning.py          # writes bench/results/spinning.md and .json

Base (512x512 depth) on two threads, each way in processes of its own that take turns, beside as many busy programs as
given. sleep: what pose2rgbd does, OMP_WAIT_POLICY=PASSIVE for PyTorch (set when pose2rgbd_ros is imported) and
allow_spinning 0 for ONNX Runtime. spin: the libraries' defaults. Milliseconds a frame by the clock and of processor
time, all threads together: medians over the processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pose2rgbd_ros.bench.measure import Page, Row
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).parent / "results"
THREADS, FRAMES = 2, 15
WAYS = ("torch sleep", "torch spin", "onnx sleep", "onnx spin")
COLUMNS = {"busy programs beside": "d", "": "", "by the clock, ms": ".1f", "processor, ms": ".1f"}


def frame(way: str) -> tuple[float, float]:
    """Median seconds of a frame in this process, by the clock and of the processor."""
    import onnxruntime
    import torch

    from pose2rgbd_ros.bench.measure import eager, random_checkpoint
    from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
    from pose2rgbd_ros.models.pose2rgbd.onnx import build_graph
    from pose2rgbd_ros.training.checkpoint import load_checkpoint

    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        path, model, T_map_cam = random_checkpoint(Path(folder) / "model", Pose2RGBDConfig("base", output="depth"))
        normalization = load_checkpoint(path).normalization
    pose = normalization.encode_pose(T_map_cam[:1])
    run: Callable[[], object] = eager(model, torch.from_numpy(pose))
    if way.startswith("onnx"):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(way.endswith("spin"))))
        graph = build_graph(model, normalization).SerializeToString()
        session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        run = lambda: session.run(None, {"pose": pose})  # noqa: E731
    run()
    wall, cpu = [], []
    for _ in range(FRAMES):
        began = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
        time.sleep(0.01)  # as a node, which waits for the next pose
    return float(np.median(wall)), float(np.median(cpu))


def in_a_process(way: str) -> tuple[float, float]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    if way == "torch spin":  # what libgomp does where nobody says otherwise
        environment |= {"GOMP_SPINCOUNT": "300000", "OMP_WAIT_POLICY": "ACTIVE"}
    done = subprocess.run(
        [sys.executable, __file__, "--frame", way], env=environment, capture_output=True, text=True, check=True
    )
    wall_s, cpu_s = json.loads(done.stdout.splitlines()[-1])
    return wall_s, cpu_s


@contextlib.contextmanager
def busy(programs: int) -> Iterator[None]:
    """So many programs that only compute, meanwhile."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for program in started:
            program.kill()
            program.wait()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=int, nargs="*", default=[0, 2], help="busy programs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of spinning.md and .json")
    parser.add_argument("--frame", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.frame:
        print(json.dumps(frame(options.frame)))
        return
    about = f"Base at 512x512 depth on {THREADS} threads, medians of {options.rounds} processes in turns; rows as its "
    page = Page("spinning", "Threads that wait", "python bench/spinning.py", f"{about}docstring says.")
    table = Table.of(COLUMNS)
    print(page.markdown() + "\n" + table.markdown())
    for programs in options.beside:
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        with busy(programs):
            for _ in range(options.rounds):
                for way in WAYS:
                    found[way].append(in_a_process(way))
        ms = {way: 1e3 * np.median(values, axis=0) for way, values in found.items()}
        for way, (wall_ms, cpu_ms) in ms.items():
            print(table.add(programs, way, wall_ms, cpu_ms), flush=True)
            spinning_ms = ms[way.replace("sleep", "spin")]
            page.rows += [
                Row.of(f"{way} beside {programs}, clock", float(wall_ms), "ms", float(spinning_ms[0])),
                Row.of(f"{way} beside {programs}, processor", float(cpu_ms), "ms", float(spinning_ms[1])),
            ]
    page.sections.append(table.markdown())
    page.write(options.out)


if __name__ == "__main__":
    main()

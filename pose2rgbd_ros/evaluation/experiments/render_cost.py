"""What rendering costs, measured in a process of its own: milliseconds a frame and the most memory it took.

    python -m pose2rgbd_ros.evaluation.experiments.render_cost CHECKPOINT DEVICE THREADS SIZE...

prints one line of JSON. Only in a fresh process does the peak of memory belong to one model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pose2rgbd_ros.errors import UserError

POSES = 12  # training poses, spread over the flight, that are looked at in turn
LEAST_S, LEAST_FRAMES = 1.0, 5  # a size is rendered until both are reached
PATIENCE_S = 900.0


def render_cost(checkpoint: Path, sizes: tuple[int, ...], device: str, threads: int) -> dict[str, Any]:
    """Measure a checkpoint's :class:`Renderer` in a child process.

    Returns:
        "backend", "device", "clock" ("cpu": processor time of all threads together; "wall" on a GPU), "loaded_mb"
        (highest memory until everything was loaded), and by size as text "ms" (median of the frames) and
        "peak_mb" (highest memory of the whole process so far, libraries included; on a GPU of its memory). A model
        that renders only the camera it was trained with has that one size.

    Raises:
        UserError: the child failed or took longer than a quarter of an hour.
    """
    # More threads than are counted would only wait for each other.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    words = [str(checkpoint), device, str(threads), *map(str, sorted(sizes))]
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, *words],
            env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "nothing said").splitlines()[-1]
        raise UserError(f"rendering {checkpoint} failed: {last.removeprefix('error: ')}") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"rendering {checkpoint} took longer than {PATIENCE_S:.0f} s") from error
    cost: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return cost


def _measure(checkpoint: Path, device: str, threads: int, sizes: list[int]) -> dict[str, Any]:
    import numpy as np
    import torch

    from pose2rgbd_ros.rendering.renderer import Renderer
    from pose2rgbd_ros.training.checkpoint import load_checkpoint

    renderer = Renderer(checkpoint, device, threads=threads)
    T_all = load_checkpoint(checkpoint).training_T_map_cam
    T = T_all[np.linspace(0, len(T_all) - 1, min(POSES, len(T_all))).astype(int)]
    on_gpu = renderer.device != "cpu"
    now_s = time.monotonic if on_gpu else time.process_time
    cost: dict[str, Any] = {
        "backend": renderer.backend_name,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "clock": "wall" if on_gpu else "cpu",
        "loaded_mb": _memory_mb(on_gpu),
        "ms": {},
        "peak_mb": {},
    }
    for size in sizes if renderer.any_camera else [renderer.camera.width]:
        camera = renderer.camera.resized(size, size)
        out = renderer.render_for_camera(T[:1], camera) if renderer.any_camera else renderer.render(T[:1])
        times: list[float] = []
        while sum(times) < LEAST_S or len(times) < LEAST_FRAMES:
            pose = T[len(times) % len(T)][None]
            started = now_s()
            if renderer.any_camera:
                renderer.render_for_camera(pose, camera, out)
            else:
                renderer.render(pose, out)
            times.append(now_s() - started)
        cost["ms"][str(size)] = round(1e3 * float(np.median(times)), 3)
        cost["peak_mb"][str(size)] = _memory_mb(on_gpu)
    return cost


def _memory_mb(on_gpu: bool) -> float:
    """The highest so far."""
    if on_gpu:
        import torch

        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    # Not getrusage: its figure survives exec, and would be the parent's.
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return round(kib * 1024 / 1e6, 1)


if __name__ == "__main__":
    try:
        told = _measure(
            Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), [int(text) for text in sys.argv[4:]]
        )
    except UserError as problem:
        sys.exit(f"error: {problem}")
    print(json.dumps(told))

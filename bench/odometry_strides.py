"""Visual odometry at steps between images that no network has learnt: geometry beside networks that guess motion.

    python bench/odometry_strides.py DATASET RUN [RUN ...]      # trianflow, posenet-video, posenet-flow, ...
    python bench/odometry_strides.py DATASET RUN ... --picture FILE

DATASET is a flight that none was trained on. Rows: every run, and classical flow without depth, at several strides; a
run's own is marked. Figures are those of KITTI odometry after aligning by a similarity (7dof), over lengths that the
flight has. Writes bench/results/odometry_strides.md and the tracks as a picture.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from pose2rgbd_ros.depth_from_images.odometry import ClassicalFlow, odometry
from pose2rgbd_ros.depth_from_images.snippets import Sequence, rectified, target_of
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.evaluation.odometry import OdometryProtocol, Paired, align, odometry_metrics
from pose2rgbd_ros.formats.sequences import open_sequences
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import resample_map
from pose2rgbd_ros.models.video_depth import TrainedDepth
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).resolve().parent / "results" / "odometry_strides.md"
MEASURED = OdometryProtocol(lengths_m=(50.0, 100.0, 150.0, 200.0), start_every=4)
CLASSICAL = "classical flow, no depth"
COLUMNS = {
    "method": "",
    "stride": "s",
    "t_err %": ".1f",
    "r_err deg/100 m": ".1f",
    "ATE m": ".1f",
    "step deg": ".2f",
    "s a step": ".2f",
}


def track_of_run(method: TrainedDepth, sequence: Sequence, frames: range) -> Float64:
    """T_start_cam (N, 4, 4) of the frames, step by step."""
    camera = sequence.camera
    look_up = resample_map(camera, rectified(camera)) if camera.is_distorted else None
    images = [method.small(sequence.rgb(index), look_up) for index in frames]
    K, count, T = method.camera(camera).K, method.frames, [np.eye(4)]
    for here in range(len(images) - 1):
        first = int(np.clip(here - target_of(count), 0, len(images) - count))
        T.append(T[-1] @ method.step(images[first : first + count], K, here - first))
    return np.stack(T)


def track_of_flow(sequence: Sequence, frames: range) -> Float64:
    """The same from classical flow alone."""
    return odometry((sequence.rgb(index) for index in frames), sequence.camera, ClassicalFlow()).T_start_cam


def main() -> None:
    """Measure, print, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    on = described()
    (sequence,) = open_sequences(options.dataset)
    if sequence.T_map_cam is None:
        raise UserError(f"{options.dataset} has no poses to measure against")
    methods: dict[str, TrainedDepth | None] = {CLASSICAL: None}
    methods |= {run.name.removeprefix("run_"): TrainedDepth.of_run(run, "cpu") for run in options.runs}
    table, tracks = Table.of(COLUMNS), dict[tuple[str, int], Float64]()
    for name, method in methods.items():
        for stride in options.strides:
            frames = range(0, len(sequence), stride)
            began = time.process_time()
            T = track_of_flow(sequence, frames) if method is None else track_of_run(method, sequence, frames)
            seconds = (time.process_time() - began) / (len(frames) - 1)
            paired = Paired.of(sequence.T_map_cam[frames.start : frames.stop : stride], T)
            found = odometry_metrics(paired, MEASURED)
            trained = f"{stride} (trained)" if method is not None and method.stride == stride else str(stride)
            figures = (found[key] for key in ("t_err_percent", "r_err_deg_100m", "ate_m", "rpe_deg"))
            table.add(name, trained, *figures, seconds)
            aligned = align(paired, "7dof")
            tracks[name, stride] = (paired.T_ref[0] @ aligned.T_est)[:, :2, 3]
            print(table.markdown().splitlines()[-1], flush=True)
    truth = sequence.T_map_cam[:, :3, 3]
    length_m = float(np.linalg.norm(np.diff(truth, axis=0), axis=1).sum())
    if options.picture:
        draw(options.picture, truth, tracks, list(methods), options.strides)
    RESULTS.write_text(
        f"# Visual odometry at strides\n\n`python bench/odometry_strides.py DATASET RUN ...`: a simulated "
        f"flight of {len(sequence)} frames and {length_m:.0f} m\nthat nothing was trained on; similarity alignment "
        f"(7dof), segments of 50 to 200 m; processor seconds on\n{on}.\n\n{table.markdown()}\n"
    )


def draw(
    path: Path, truth: Float64, tracks: dict[tuple[str, int], Float64], names: list[str], strides: list[int]
) -> None:
    """From above: a panel for each stride, the true way in black."""
    figure = Figure(figsize=(4 * len(strides), 4.4), dpi=110, layout="constrained")
    for axes, stride in zip(figure.subplots(1, len(strides), squeeze=False)[0], strides, strict=True):
        axes.plot(*truth[:, :2].T, color="black", linewidth=2, label="true")
        for name in names:
            axes.plot(*tracks[name, stride].T, linewidth=1.2, label=name)
        margin = 0.25 * np.ptp(truth[:, :2], axis=0).max()
        low, high = truth[:, :2].min(axis=0) - margin, truth[:, :2].max(axis=0) + margin
        axes.set(title=f"every {stride} frames", aspect="equal", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.set_xlabel("east m")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names) + 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    main()

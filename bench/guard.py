"""What the guard tells apart and what the bounds hold, on a simulated survey and models trained and calibrated on it.

    python bench/guard.py DATASET RUN ...                      # prints the tables and writes bench/results/guard.md
    python bench/guard.py DATASET RUN ... --other DATASET2     # the bounds also on all lines of another recording

Everything is measured on frames that judge: no weights, bounds or limit were chosen on them.

Guard: AUROC of the pose's score, frames of held-out lines that judge against poses that were drawn:
outside: 15 to 40 m outside the convex hull of all training positions, looking as some training pose does.
heading: inside that hull, turned at random (yaw, and up to 40 degrees of pitch and roll), so that no training pose
within 50 m looks within 45 degrees of it.
Passed: the share whose depth is not withheld at the calibrated limit.

Bounds, judged: `Renderer` with the calibration, guard and all, on the held-out lines that judge. Bounds, other:
    likewise on the lines of another recording of the place. False-safe: of known pixels. In brackets 95 % by
    resampling lines.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import rankdata

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.calibrate_depth import judge
from pose2rgbd_ros.evaluation.depth_bounds import Judged
from pose2rgbd_ros.evaluation.held_out import Units, held_out, units_of
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.evaluation.pictures import model_name
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.rendering.trust import hull_distance
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint

RESULT = Path(__file__).parent / "results" / "guard.md"
DRAWN = 400
APART_M, TURNED_DEG = 50.0, 45.0
HEADER = """# The guard and the bounds of depth

`python bench/guard.py` on {on} (classes and columns: see its docstring). {what}

"""
GUARD = {
    "model": "", "limit (m)": ".1f", "AUROC outside": ".4f", "AUROC heading": ".4f", "passed: judged lines": ".1%",
    "outside": ".1%", "heading": ".1%",
}  # fmt: skip
SHARES = "in the guard (%)", "interval holds (%)", "false-safe (%)", "known (%)"
BOUNDS = {"model": "", "measured on": "", "units": "", "frames": "d", **dict.fromkeys(SHARES, "s")}


def outside_poses(T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Training poses (N, 4, 4) moved straight away until they are 15 to 40 m outside the hull of all positions."""
    hull, drawn = T[:: max(1, len(T) // 400), :3, 3], []
    while len(drawn) < DRAWN:
        pose = T[rng.integers(len(T))].copy()
        way = rng.normal(size=3)
        pose[:3, 3] += rng.uniform(15, 80) * way / np.linalg.norm(way)
        if 15.0 < hull_distance(hull - pose[:3, 3], 2000, 1e-3) < 40.0:
            drawn.append(pose)
    return np.stack(drawn)


def turned_poses(T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Poses inside the hull, each at a mean of four training positions, that look as no training pose near by does."""
    drawn = []
    while len(drawn) < DRAWN:
        pose = T[rng.integers(len(T))].copy()
        pose[:3, 3] = rng.dirichlet(np.ones(4)) @ T[rng.integers(len(T), size=4), :3, 3]
        yaw = Rotation.from_euler("z", rng.uniform(-180, 180), degrees=True).as_matrix()
        tilt = Rotation.from_euler("xy", rng.uniform(-40, 40, 2), degrees=True).as_matrix()
        pose[:3, :3] = yaw @ pose[:3, :3] @ tilt
        near = np.linalg.norm(T[:, :3, 3] - pose[:3, 3], axis=1) < APART_M
        cosine = (np.einsum("nij,ij->n", T[near, :3, :3], pose[:3, :3]) - 1) / 2
        if not near.any() or np.degrees(np.arccos(np.clip(cosine, -1, 1))).min() > TURNED_DEG:
            drawn.append(pose)
    return np.stack(drawn)


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Probability that a pose outside scores higher than one inside."""
    ranks = rankdata(np.concatenate([inside, outside]))[len(inside) :]
    return float((ranks.sum() - len(outside) * (len(outside) + 1) / 2) / (len(inside) * len(outside)))


def lines_that_judge(loaded: Checkpoint, dataset: Dataset) -> Units:
    """The held-out lines on which nothing was chosen."""
    judge = held_out(loaded, dataset).judge
    if len(judge.frames) == 0:
        raise SystemExit(
            f"{dataset.path}: nothing was left to judge on; train anew, so that the split says what judges"
        )
    return judge


def guard_row(renderer: Renderer, loaded: Checkpoint, dataset: Dataset) -> tuple[str | float, ...]:
    """Of the guard's table."""
    rng = np.random.default_rng(0)
    training = loaded.training_T_map_cam
    classes = (
        dataset.T_map_cam[lines_that_judge(loaded, dataset).frames],
        outside_poses(training, rng),
        turned_poses(training, rng),
    )
    answers = [[renderer.guard_score(T) for T in poses] for poses in classes]
    lines, outside, heading = (np.array([answer.score for answer in each]) for each in answers)
    passed = (float(np.mean([answer.inside for answer in each])) for each in answers)
    return model_name(loaded), answers[0][0].limit, auroc(lines, outside), auroc(lines, heading), *passed


def bounds_row(name: str, where: str, judged: Judged) -> tuple[str | int, ...]:
    """Of the table of bounds."""
    shares = (
        f"{100 * one.value:.2f} ({100 * one.low:.2f} to {100 * one.high:.2f})"
        for one in (judged.passed, judged.coverage, judged.false_safe, judged.known)
    )
    return name, where, f"{judged.units} {judged.kind}", judged.frames, *shares


def main() -> None:
    """Print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", help="calibrated: pose2rgbd calibrate RUN DATASET")
    parser.add_argument("--other", type=Path, help="another recording of the place")
    parser.add_argument("--what", default="", help="a sentence about the data, for the file")
    arguments = parser.parse_args()
    dataset, on = Dataset(arguments.dataset), described()
    guards, bounds = Table.of(GUARD), Table.of(BOUNDS)
    for run in arguments.runs:
        loaded, renderer = load_checkpoint(run), Renderer(run, "cpu")
        assert renderer.calibration is not None, f"{run} is not calibrated"
        guards.add(*guard_row(renderer, loaded, dataset))
        name = model_name(loaded)
        judged = judge(run, dataset, lines_that_judge(loaded, dataset))
        bounds.add(*bounds_row(name, "lines that judge", judged))
        if arguments.other is not None:
            other = Dataset(arguments.other)
            every = np.arange(len(other))
            lines = Units(every, *units_of(every, other.T_map_cam[:, :3, 3]))
            bounds.add(*bounds_row(name, f"another flight ({other.path.name})", judge(run, other, lines)))
    text = HEADER.format(what=arguments.what, on=on) + f"{guards.markdown()}\n\n{bounds.markdown()}\n"
    print(text)
    RESULT.write_text(text)


if __name__ == "__main__":
    main()

"""Refinement by rendering: how exact, from how far, how sure, how quick; on held-out frames.

    python bench/refine.py DATASET RUN [RUN ...]                     # runs of models that render the place
    python bench/refine.py DATASET RUN --regressor RUN2 [RUN3 ...]   # rough poses of trained pose networks as well
    python bench/refine.py DATASET RUN --foreign DATASET2            # false accepts with images of another place
    python bench/refine.py DATASET RUN --append                      # below the tables of an earlier call

The data of the published tables, and of those of bench/change.py (SIM: `pose2rgbd sim dataset`):

    PLAN="--size 144 --fov-deg 90 --flight.plan paper --flight.area-m 140 --flight.width-m 140 --flight.altitude-m 45"
    PLAN="$PLAN --flight.line-spacing-m 10 --flight.camera-pitch-deg 50 --flight.attitude-jitter-deg 4
    --flight.wander-m 0.5" SIM place $PLAN --frames 3000 --flight.holdout 0.15 SIM foreign $PLAN --frames 100
    --flight.holdout 0 --city.seed 7 pose2rgbd train relief place --out relief --size 128 --max-minutes 3
    --clock cpu pose2rgbd train posenet place --out posenet --size 64 --width 0.5 --max-minutes 3
    --clock cpu python bench/refine.py place relief --regressor posenet --foreign foreign --frames 24 --skip 24
    --pictures

Writes bench/results/refine.md, each table with its command; with --pictures, of the first run,
docs/images/refine_basin.png and refine_steps.jpg as well. Rough poses:
perturbed: the true one moved by 5 to 15 m (a third of it upwards) and turned by 5 to 10 degrees about any axis;
nearest frame: the pose of the training frame that looks most like the image; other names: the pose network's answer.
Errors are medians over all frames; a rejected frame keeps its rough pose. "Accepted" is the median of the accepted
ones alone. A pose is right within 1 m and 1 degree, wrong beyond 3 m or 3 degrees. All has one thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import chi2, rankdata

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import Split, split_from_dict
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.localization.estimate import Estimate, PoseEstimator
from pose2rgbd_ros.localization.localizer import Localizer
from pose2rgbd_ros.localization.refine import Refiner, RefineSettings
from pose2rgbd_ros.localization.retrieval import FrameIndex, Retrieval
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.training.checkpoint import checkpoint_directory, load_checkpoint

ROOT = Path(__file__).parents[1]
RESULT, IMAGES = ROOT / "bench" / "results" / "refine.md", ROOT / "docs" / "images"
DISTANCES_M, TURNS_DEG = (5.0, 15.0, 30.0, 45.0, 60.0), (5.0, 25.0)
RIGHT, WRONG = (1.0, 1.0), (3.0, 3.0)  # metres, degrees
Make = Callable[[int, np.random.Generator], np.ndarray | None]
Look = Callable[[np.ndarray], np.ndarray]


@dataclass
class Tally:
    """What a series of refinements gave, one entry a frame."""

    rough: list[tuple[float, float]] = field(default_factory=list)
    end: list[tuple[float, float]] = field(default_factory=list)
    estimates: list[Estimate] = field(default_factory=list)
    truth: list[np.ndarray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def accepted(self) -> np.ndarray:
        return np.array([estimate.accepted for estimate in self.estimates])

    @property
    def wrong(self) -> np.ndarray:
        return (np.array(self.end) > WRONG).any(axis=1)

    @property
    def right(self) -> np.ndarray:
        return (np.array(self.end) <= RIGHT).all(axis=1)

    def row(self) -> tuple[str | float, ...]:
        """Of the first table, behind the name."""
        rough, end = np.median(self.rough, axis=0), np.median(self.end, axis=0)
        accepted = self.accepted
        kept = np.median(np.array(self.end)[accepted], axis=0) if accepted.any() else np.full(2, np.nan)
        return (
            len(self.end), f"{rough[0]:.1f} / {rough[1]:.1f}", f"{end[0]:.2f} / {end[1]:.2f}", rough[0] / end[0],
            100 * accepted.mean(), f"{kept[0]:.2f} / {kept[1]:.2f}", 100 * (accepted & self.wrong).mean(),
            f"{np.median(self.seconds):.2f} ({max(self.seconds):.2f})",
        )  # fmt: skip


def moved(T: np.ndarray, metres: float, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """The pose (4, 4) so far away and so much turned."""
    way, axis = rng.normal(size=3) * (1.0, 1.0, 0.3), rng.normal(size=3)
    result = T.copy()
    result[:3, 3] += metres * way / np.linalg.norm(way)
    turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis))
    result[:3, :3] = turn.as_matrix() @ T[:3, :3]
    return result


def error(T: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Metres and degrees between two poses."""
    turn = Rotation.from_matrix(T[:3, :3] @ truth[:3, :3].T).magnitude()
    return float(np.linalg.norm(T[:3, 3] - truth[:3, 3])), float(np.degrees(turn))


def series(
    refiner: Refiner, dataset: Dataset, frames: np.ndarray, start: Make, look: Look = lambda rgb: rgb, seed: int = 0
) -> Tally:
    """Refine each frame once from where `start` puts it."""
    tally = Tally()
    for index in frames:
        rough = start(int(index), np.random.default_rng([seed, int(index)]))
        if rough is None:
            continue
        rgb, truth = look(dataset.rgb(int(index))), dataset.T_map_cam[index]
        begin = time.process_time()
        estimate = refiner.refine(rgb, dataset.camera, Estimate(rough))
        tally.seconds.append(time.process_time() - begin)
        assert estimate.T_map_cam is not None
        tally.rough.append(error(rough, truth))
        tally.end.append(error(estimate.T_map_cam, truth))
        tally.estimates.append(estimate)
        tally.truth.append(truth)
    return tally


def dimmed(rgb: np.ndarray) -> np.ndarray:
    """Half the exposure, a warmer white balance, haze."""
    return np.clip(rgb * np.array([0.55, 0.5, 0.42]) + 25, 0, 255).round().astype(np.uint8)


def coverage(tally: Tally) -> str:
    """How often the truth lies within the regions that the covariance names, of right poses."""
    distance, all_six = [], []
    for estimate, truth in zip(tally.estimates, tally.truth, strict=True):
        T, C = estimate.T_map_cam, estimate.covariance
        assert T is not None
        if not estimate.refined or C is None or (np.array(error(T, truth)) > WRONG).any():
            continue
        turn = Rotation.from_matrix(truth[:3, :3] @ T[:3, :3].T).as_rotvec()
        off = np.concatenate([truth[:3, 3] - T[:3, 3], turn])
        distance.append(off[:3] @ np.linalg.solve(C[:3, :3], off[:3]))
        all_six.append(off @ np.linalg.solve(C, off))
    shares = [
        f"{100 * np.mean(np.array(values) <= chi2.ppf(level, freedom)):.0f}"
        for values, freedom in ((distance, 3), (all_six, 6))
        for level in (0.5, 0.9, 0.95)
    ]
    scale = np.sqrt(np.quantile(all_six, 0.9) / chi2.ppf(0.9, 6)) if all_six else float("nan")
    table = Table.of({"refined poses": "d", "position (%)": "s", "position and rotation (%)": "s", "factor": ".2f"})
    table.add(len(all_six), " / ".join(shares[:3]), " / ".join(shares[3:]), scale)
    return table.markdown()


def auroc(right: np.ndarray, wrong: np.ndarray) -> float:
    """How often a right pose scores above a wrong one; what could not be compared scores lowest."""
    values = np.nan_to_num(np.concatenate([right, wrong]), nan=-1.0)
    ranks = rankdata(values)[: len(right)].sum()
    return float((ranks - len(right) * (len(right) + 1) / 2) / (len(right) * len(wrong)))


def power(refiner: Refiner, dataset: Dataset, frames: np.ndarray) -> str:
    """AUROC of the likeness: true poses against poses so far off."""
    rng = np.random.default_rng(1)
    at = {
        metres: np.array(
            [
                refiner.verify(dataset.rgb(i), dataset.camera, moved(dataset.T_map_cam[i], metres, turn, rng))
                for i in frames
            ]
        )
        for metres, turn in ((0.0, 0.0), (1.0, 1.0), (3.0, 3.0), (10.0, 7.0))
    }
    far = [
        refiner.verify(dataset.rgb(i), dataset.camera, dataset.T_map_cam[j])
        for i, j in zip(frames, rng.permutation(len(dataset)), strict=False)
    ]
    values = [
        f"{auroc(at[0.0], wrong):.3f} ({np.nanmedian(wrong):.2f})"
        for wrong in (at[1.0], at[3.0], at[10.0], np.array(far))
    ]
    off = ("1 m and 1°", "3 m and 3°", "10 m and 7°", "another frame's pose")
    table = Table.of({"true": ".2f", **dict.fromkeys(off, "s")})
    table.add(np.nanmedian(at[0.0]), *values)
    return table.markdown()


def impostors(refiner: Refiner, dataset: Dataset, frames: np.ndarray, foreign: Dataset | None) -> str:
    """Shares accepted of what must not be: images of elsewhere, rough poses of elsewhere, no images."""
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 256, (dataset.camera.height, dataset.camera.width, 3), np.uint8)
    black = np.zeros_like(noise)
    kinds: dict[str, Look] = {
        "black": lambda rgb: black,
        "noise": lambda rgb: noise,
        "mirrored": lambda rgb: np.ascontiguousarray(rgb[:, ::-1]),
    }
    if foreign is not None:
        other = iter(rng.permutation(len(foreign)))
        kinds["another place"] = lambda rgb: cv2.resize(foreign.rgb(int(next(other))), rgb.shape[1::-1])
    table = Table.of({"input": "", "tried": "d", "accepted (%)": ".1f"})
    for name, look in kinds.items():
        tally = series(refiner, dataset, frames, lambda i, _: dataset.T_map_cam[i], look)
        table.add(name, len(tally.end), 100 * tally.accepted.mean())
    tally = series(refiner, dataset, frames, lambda i, r: dataset.T_map_cam[r.integers(len(dataset))])
    share = 100 * (tally.accepted & tally.wrong).mean()
    table.add("rough pose of any other frame, and the result wrong", len(tally.end), share)
    return table.markdown()


def basin(refiner: Refiner, dataset: Dataset, frames: np.ndarray, path: Path) -> None:
    """Success against the initial error, as a picture."""
    shares: dict[float, list[float]] = {turn: [] for turn in TURNS_DEG}
    for turn in TURNS_DEG:
        for metres in DISTANCES_M:
            tally = series(
                refiner, dataset, frames, lambda i, r, m=metres, t=turn: moved(dataset.T_map_cam[i], m, t, r)
            )
            shares[turn].append(100 * float((tally.accepted & tally.right).mean()))
            print(f"basin {metres:.0f} m {turn:.0f} deg: {shares[turn][-1]:.0f} %", flush=True)
    draw_basin(shares, path)


def draw_basin(shares: dict[float, list[float]], path: Path) -> None:
    """Percentages by turn (degrees) and then by `DISTANCES_M`; shorter lists end earlier."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), dpi=110)
    for turn, values in shares.items():
        axes.plot(DISTANCES_M[: len(values)], values, "o-", label=f"turned by {turn:.0f}°")
    axes.set(xlabel="rough pose off by (m)", ylabel="refined to 1 m and 1° (%)", ylim=(0, 103))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def steps_picture(refiner: Refiner, dataset: Dataset, frames: np.ndarray, path: Path) -> None:
    """Image, rendering at the rough pose, at the refined one, and what is left of the difference."""
    columns, side = [], 192
    for index in frames:
        rng = np.random.default_rng([0, int(index)])
        rough = moved(dataset.T_map_cam[index], rng.uniform(8, 15), rng.uniform(5, 10), rng)
        rgb = dataset.rgb(int(index))
        found = refiner.refine(rgb, dataset.camera, Estimate(rough))
        assert found.T_map_cam is not None
        shown = [refiner.rendered(T, dataset.camera) for T in (rough, found.T_map_cam)]
        small = cv2.resize(rgb, shown[0].shape[1::-1], interpolation=cv2.INTER_AREA)
        left = [cv2.absdiff(small, image) for image in shown]
        parts = [small, shown[0], left[0], shown[1], left[1]]
        columns.append(np.vstack([cv2.resize(part, (side, side), interpolation=cv2.INTER_NEAREST) for part in parts]))
    sheet = np.hstack(columns)
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


def held_out(run: Path, dataset: Dataset) -> Split:
    """What the renderer was trained on and what not."""
    recipe = load_checkpoint(checkpoint_directory(run)).provenance["split"]
    return split_from_dict(recipe, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3], folder=dataset.path)


def measure(run: Path, dataset: Dataset, options: argparse.Namespace) -> str:
    """The tables of one renderer."""
    renderer = Renderer(run, device="cpu", threads=1, guard=False)
    checkpoint = load_checkpoint(checkpoint_directory(run))
    refiner = Refiner(renderer, RefineSettings(least_likeness=options.least_likeness))
    split = held_out(run, dataset)
    rng = np.random.default_rng(0)
    held_out_frames = rng.permutation(split.test)[options.skip :]
    frames = held_out_frames[np.isin(held_out_frames, split.judge)][: options.frames]
    few = frames[: max(options.frames // 2, 5)]
    T = dataset.T_map_cam
    reach = options.reach
    perturbed: Make = lambda i, r: moved(T[i], reach * r.uniform(5, 15), reach * r.uniform(5, 10), r)  # noqa: E731
    finders: dict[str, PoseEstimator] = {"nearest frame": Retrieval(FrameIndex(dataset, split.train))}
    for regressor in options.regressor:
        model = load_checkpoint(checkpoint_directory(regressor)).provenance["config"]["model"]
        finders[model] = Localizer(regressor, device="cpu", gate=False)
    rows = series(refiner, dataset, frames, perturbed)
    table = Table.of(SERIES)
    table.add("perturbed", *rows.row())
    table.add("perturbed, other light", *series(refiner, dataset, few, perturbed, dimmed).row())
    for name, finder in finders.items():
        start: Make = lambda i, _, f=finder: f.find(dataset.rgb(i), dataset.camera).T_map_cam  # noqa: E731
        table.add(name, *series(refiner, dataset, frames, start).row())
        print(table.markdown(), flush=True)
    name = checkpoint.provenance["config"]["model"]
    return TABLES.format(
        name=f"{name}, {renderer.camera.width} px, {split.name} split", rows=table.markdown(), coverage=coverage(rows),
        power=power(refiner, dataset, few), impostors=impostors(refiner, dataset, few, options.foreign_dataset),
        limit=options.least_likeness,
    )  # fmt: skip


HEADER = """# Refinement by rendering

Rows and columns: see the docstring of `bench/refine.py`.
{processor}, one thread, processor time, shared with other jobs.
"""
TABLES = """
## {name}

{rows}

Covariance: how often the truth lies in the region of 50 / 90 / 95 %,
and the factor that standard deviations still lack.

{coverage}

Verification: median likeness at the true pose, and AUROC against poses off by so much (in brackets their likeness).

{power}

False accepts at a likeness of {limit} (the first ones with the true pose as rough pose).

{impostors}
"""
SERIES = {
    "rough pose": "", "frames": "d", "rough: m / °": "s", "refined: m / °": "s", "times nearer": ".1f", 
    "accepted (%)": ".0f", "accepted: m / °": "s", "wrongly (%)": ".1f", "s (most)": "s",
}  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("dataset", type=Path)
    arguments.add_argument("runs", type=Path, nargs="+")
    arguments.add_argument("--regressor", type=Path, nargs="+", default=[])
    arguments.add_argument("--foreign", type=Path)
    arguments.add_argument("--frames", type=int, default=60)
    arguments.add_argument("--skip", type=int, default=0, help="held-out frames that settings were chosen by")
    arguments.add_argument("--least-likeness", type=float, default=RefineSettings.least_likeness)
    arguments.add_argument("--reach", type=float, default=1.0, help="factor on the errors of perturbed poses")
    arguments.add_argument("--append", action="store_true", help="to the tables of an earlier call")
    arguments.add_argument("--pictures", action="store_true")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    dataset = Dataset(options.dataset)
    options.foreign_dataset = Dataset(options.foreign) if options.foreign else None
    size = np.ptp(dataset.T_map_cam[:, :3, 3], axis=0)
    command = " ".join(Path(word).name for word in sys.argv[1:])
    text = RESULT.read_text() if options.append else HEADER.format(processor=processor())
    text += f"\n`python bench/refine.py {command}`: {len(dataset)} frames over {size[0]:.0f} x {size[1]:.0f} m.\n"
    for run in options.runs:
        text += measure(run, dataset, options)
    print(text)
    RESULT.write_text(text)
    if options.pictures:
        pictures(options.runs[0], dataset, options.frames)


def pictures(run: Path, dataset: Dataset, count: int) -> None:
    """The steps of six frames, and the basin."""
    refiner = Refiner(Renderer(run, device="cpu", threads=1, guard=False))
    frames = np.random.default_rng(3).permutation(held_out(run, dataset).judge)
    steps_picture(refiner, dataset, frames[:6], IMAGES / "refine_steps.jpg")
    basin(refiner, dataset, frames[: max(count // 3, 8)], IMAGES / "refine_basin.png")


if __name__ == "__main__":
    main()

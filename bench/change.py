"""Movers found against memory, scored on the simulator: the world with movers, and its labels of what moves.

    python bench/change.py RENDERER DATASET      # a renderer trained on DATASET, a mover-free simulated one; 40 poses
    python bench/change.py relief place --picture FILE    # the published table; bench/refine.py says how they were made

The poses are of held-out lines that judge: not trained on, and none chose the renderer's weights.
The camera sees the dataset's city with cars and people; memory is the renderer's, which never saw any. Rows: what is
remembered exactly (the mover-free twin: the most that can be had), the renderer at the true pose, at a pose that is
off as a refined one is, and in another light. Of the labels, shadows count neither way. Writes
bench/results/change.md and, with --picture FILE, a sheet: camera, reference, change image, truth.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.held_out import LINES_GROUP, EvalSplit, choose_frames
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.change import Change, compare
from pose2rgbd_ros.localization.map_correction import moved
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.gl.renderer import MOVER, SHADOW, SceneRenderer
from pose2rgbd_ros.training.checkpoint import checkpoint_directory, load_checkpoint

RESULTS = Path(__file__).resolve().parent / "results" / "change.md"
CARS, PEOPLE, SIDE = 40, 60, 256
OFF_M, OFF_DEG = 0.3, 0.4
LIGHT = (0.6, 0.7, 0.8)
FOUND_SHARE = 0.25  # of a mover's pixels
SIZES_PX = (8, 25, 60)
COLUMNS = {
    "memory": "",
    **dict.fromkeys(("precision", "recall", "IoU"), ".2f"),
    **{f"movers of {size}+ px": "s" for size in SIZES_PX},
    "false patches": ".1f",
    "ms": ".0f",
}


class Tally:
    """Scores over several images."""

    def __init__(self) -> None:
        self.true = self.false = self.missed = self.patches = self.images = 0
        self.movers = {size: [0, 0] for size in SIZES_PX}
        self.seconds: list[float] = []

    def add(self, found: Change, labels: np.ndarray, seconds: float) -> None:
        """One image, by its labels (H, W); what is next to a mover is not held against it."""
        truth, counts = labels == MOVER, labels != SHADOW
        near = cv2.dilate(truth.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        self.true += int((found.mask & truth).sum())
        self.false += int((found.mask & counts & ~near).sum())
        self.missed += int((truth & ~found.mask).sum())
        for patch in _components(found.mask):
            self.patches += not (near | ~counts)[patch].any()
        for mover in _components(truth):
            for size in SIZES_PX:
                if mover.sum() >= size:
                    self.movers[size][0] += found.mask[mover].mean() >= FOUND_SHARE
                    self.movers[size][1] += 1
        self.images += 1
        self.seconds.append(seconds)

    def row(self) -> list[float | str]:
        """Of the table, behind the name."""
        everything = self.true + self.false + self.missed
        figures = [self.true / max(self.true + self.false, 1), self.true / max(self.true + self.missed, 1)]
        movers = [f"{found} of {total}" for found, total in self.movers.values()]
        cost = [self.patches / max(self.images, 1), float(np.median(self.seconds)) * 1e3]
        return [*figures, self.true / max(everything, 1), *movers, *cost]


def _components(mask: np.ndarray) -> list[np.ndarray]:
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [labels == index for index in range(1, count)]


def judging(renderer: Path, dataset: Dataset) -> EvalSplit:
    """The frames that a renderer was neither trained on nor chosen by; UserError when `dataset` is not its own."""
    measured = choose_frames(load_checkpoint(checkpoint_directory(renderer)), dataset, "checkpoint")
    if len(measured.train) == 0:
        raise UserError(f"{dataset.path} is not the dataset that {renderer} was trained on")
    return measured


def spread(measured: EvalSplit, count: int) -> np.ndarray:
    """Indices of `count` of its frames on held-out lines at most, evenly spread."""
    some = np.intersect1d(measured.test, measured.groups.get(LINES_GROUP, measured.test))
    if len(some) == 0:
        raise UserError("no frame of a held-out line judges; hold more out")
    return some[np.linspace(0, len(some) - 1, min(count, len(some))).astype(int)]


def known(rendered: object) -> np.ndarray:
    """Where a rendering shows the place."""
    return rendered.rgb[0].any(axis=-1) & np.isfinite(rendered.depth[0])  # type: ignore[attr-defined]


def main() -> None:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("renderer", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    dataset, renderer = Dataset(options.dataset), Renderer(options.renderer, threads=1)
    measured = judging(options.renderer, dataset)
    frames = spread(measured, options.images)
    made = read_yaml(options.dataset / "sim.yaml")
    city = City(CityConfig(**{**made["city"], "cars": CARS, "people": PEOPLE}))
    camera = Camera.from_fov(SIDE, SIDE, float(made["fov_deg"]))
    eye, rng = SceneRenderer(city.scene, camera, supersample=2), np.random.default_rng(7)
    tallies: dict[str, Tally] = {}
    sheet = []
    for index, T in enumerate(dataset.T_map_cam[frames]):
        at_s = 11.0 + 5.0 * index
        seen, twin = eye.render(T, at_s), eye.render(T, at_s, movers=False)
        exact = renderer.render_for_camera(T, camera)
        scale = np.repeat([OFF_M / np.sqrt(3), np.deg2rad(OFF_DEG) / np.sqrt(3)], 3)
        beside = renderer.render_for_camera(moved(T, rng.normal(size=6) * scale), camera)
        dim = np.clip(seen.rgb * np.array(LIGHT), 0, 255).astype(np.uint8)
        everywhere = np.ones(seen.labels.shape, bool)
        cases = {
            "mover-free twin": (seen.rgb, twin.rgb, everywhere),
            "memory, true pose": (seen.rgb, exact.rgb[0], known(exact)),
            f"memory, {OFF_M:g} m and {OFF_DEG:g} deg off": (seen.rgb, beside.rgb[0], known(beside)),
            "memory, off, other light": (dim, beside.rgb[0], known(beside)),
        }
        for name, (rgb, remembered, shown) in cases.items():
            began = time.process_time()
            found = compare(rgb, remembered, shown)
            tallies.setdefault(name, Tally()).add(found, seen.labels, time.process_time() - began)
            if name.endswith("off") and len(sheet) < 3 and (seen.labels == MOVER).mean() > 0.008:
                truth = np.repeat(np.uint8(255) * (seen.labels == MOVER)[..., None], 3, axis=2)
                sheet.append(np.hstack([rgb, found.reference, found.picture(rgb), truth]))
    eye.close()
    table = Table.of(COLUMNS)
    for name, tally in tallies.items():
        table.add(name, *tally.row())
    print(table.markdown())
    if options.picture and sheet:
        picture = cv2.resize(np.vstack(sheet), None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(options.picture), picture[..., ::-1])
    RESULTS.write_text(
        f"# Change images\n\n`python bench/change.py RENDERER DATASET`: {len(frames)} views of {SIDE} px at poses of "
        "frames that "
        f"judge ({measured.seen}{''.join('; ' + note for note in measured.notes)}), "
        f"{CARS} cars and {PEOPLE} people in the city, renderer of {renderer.camera.width} px; precision, recall and "
        "IoU are "
        f"of pixels, a mover is found where {FOUND_SHARE:.0%} of it is marked, false patches and CPU time are per "
        "image, on one "
        f"core of {processor()}. {OFF_M:g} m and {OFF_DEG:g} deg are root mean squares.\n\n"
        f"{table.markdown()}\n"
    )


if __name__ == "__main__":
    main()

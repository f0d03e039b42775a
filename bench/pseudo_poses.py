"""Drift of poses of pictures alone, before and after their refinement, beside structure from motion (`align`).

    python bench/pseudo_poses.py DATASET [DATASET ...]     # of `pose2rgbd sim dataset`, with true poses

Rows: odometry by classical flow from frame to frame; the same refined; the global mapper of `align`, which begins
with nothing. Drift is over 100 m of the true way (or a quarter of a shorter one), sizes of both wholes alike. Writes
bench/results/pseudo_poses.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.depth_from_images.odometry import ClassicalFlow, odometry
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.sfm.align import FEATURES, recorded_dataset
from pose2rgbd_ros.sfm.picture_poses import Drift, drift, refine_poses
from pose2rgbd_ros.sfm.reconstruct import AlignSettings, FeatureDatabase

RESULTS = Path(__file__).resolve().parent / "results" / "pseudo_poses.md"
LENGTH_M = 100.0
COLUMNS = {"flight": "", "poses": "", "drift %": ".2f", "turned deg": ".2f", "frames": "d", "minutes": ".1f"}


def followed(truth: Dataset, out: Path, step: int) -> Dataset:
    """The flight with the poses of its pictures alone."""
    chosen = range(0, len(truth), step)
    track = odometry((truth.rgb(i) for i in chosen), truth.camera, ClassicalFlow())
    meta = replace(truth.meta, depth=None, datum=None, poses=PosesMeta("pictures", "pictures", unit="none"))
    with DatasetWriter(out, meta) as writer:
        for T, i in zip(track.T_start_cam, chosen, strict=True):
            writer.add(int(truth.stamps_ns[i]), T, truth.rgb(i), None)
    return Dataset(out)


def aligned(dataset: Dataset, settings: AlignSettings) -> tuple[Dataset, Float64, list[int]]:
    """Poses of the frames that the global mapper joins, of the features that the refinement matched."""
    names = [record.rgb for record in dataset.records]
    file = dataset.path / FEATURES / f"{settings.features}-{settings.image_size}-{settings.lens}" / "database.db"
    database = FeatureDatabase(file, dataset.path, names, np.arange(len(names)), dataset.camera, settings)
    maps = database.reconstruct("global", settings, progress=False)
    if not maps:
        raise UserError("no map")
    return dataset, maps[0].T_sfm_cam, maps[0].frames.tolist()


def add(table: Table, flight: str, name: str, off: Drift, frames: int, begun: float) -> None:
    """A row, and the page as it is now."""
    values = [flight, name, 100 * off.translation, off.rotation_deg, frames, (time.monotonic() - begun) / 60]
    table.rows.append(dict(zip(COLUMNS, values, strict=True)))
    print(table.rows[-1], flush=True)
    head = f"# Poses of pictures alone\n\n{described()}; `python bench/pseudo_poses.py FLIGHT ...`"
    RESULTS.write_text(f"{head}\n\n{table.markdown()}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--step", type=int, default=1, help="take every so many frames")
    options = parser.parse_args()
    table = Table.of(COLUMNS)
    for path in options.datasets:
        truth = Dataset(path)
        with tempfile.TemporaryDirectory() as folder:
            begun = time.monotonic()
            pseudo = followed(truth, Path(folder) / path.name, options.step)
            T_true = truth.T_map_cam[np.searchsorted(truth.stamps_ns, pseudo.stamps_ns)]
            way_m = float(np.linalg.norm(np.diff(T_true[:, :3, 3], axis=0), axis=1).sum())
            length_m = min(LENGTH_M, way_m / 4)

            flight = f"{path.name}, {way_m:.0f} m, over {length_m:.0f} m"

            def row(name: str, T: Float64, frames: list[int], begun: float) -> None:
                add(table, flight, name, drift(T, T_true[frames], length_m), len(frames), begun)  # noqa: B023

            everywhere = list(range(len(pseudo)))
            row("odometry", pseudo.T_map_cam, everywhere, begun)
            begun = time.monotonic()
            refine_poses(pseudo.path, lens_is_known=True, progress=False)
            row("refined", Dataset(pseudo.path).T_map_cam, everywhere, begun)
            begun = time.monotonic()
            try:
                settings = AlignSettings(refine_camera="none")
                _, T_sfm, frames = aligned(recorded_dataset(pseudo.path), settings)
                row("align's map (features as found for the row above)", T_sfm, frames, begun)
            except UserError as error:
                print(f"align: {error}")


if __name__ == "__main__":
    main()

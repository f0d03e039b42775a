"""How well `pose2rgbd depth register` finds the second camera of an RGB-D recording, against the truth.

    python bench/depth_register.py                                        # six simulated recordings, three minutes
    python bench/depth_register.py --kitchen DATA/rgbd_7scenes_redkitchen # and a real one, which has no truth

Each recording flies 20 to 35 m above another simulated city, colour by one camera and depth by another: focal length
off by up to 15 %, centre by 2 % of the width, offset by 2 % of the depth, turned by up to a degree. Half of them state
the poses and intrinsics of the depth camera, half those of the colour camera; every one is also laid right, and must
then be left alone.
"""

from __future__ import annotations

import argparse
import tempfile
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np

from pose2rgbd_ros.alignment.depth_camera import PICTURE, Owner, find_depth_camera, over_colour, register
from pose2rgbd_ros.dataset.made_depth import pictures_allowed
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.formats.importing import import_datasets
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer

RESULT = Path(__file__).parent / "results" / "depth_register.md"
FRAMES, DEPTH_M = 60, 40.0
DEPTH = Camera(320, 240, 300.0, 300.0, 159.5, 119.5)
COLUMNS = (
    Column("name", "recording"),
    Column("owner", "poses are of"),
    Column("found", "found"),
    Column("off_px", "depth lies off, px", ".1f"),
    Column("left_px", "after, px", ".2f"),
    Column("far_px", "after, 90 %, px", ".2f"),
    Column("depth_before_m", "depth error m", ".2f"),
    Column("depth_after_m", "after, m", ".2f"),
    Column("grey_before", "grey of 255", ".1f"),
    Column("grey_after", "after", ".1f"),
    Column("right", "laid right"),
    Column("seconds", "CPU s", ".0f"),
)


def poses(random: np.random.Generator) -> np.ndarray:
    """(FRAMES, 4, 4) along a wavy way, looking down and ahead."""
    along = np.linspace(0, 1, FRAMES)
    phase = random.uniform(0, 2 * np.pi, 4)
    eye = np.stack(
        [
            80 * (along - 0.5),
            15 * np.sin(2 * np.pi * along + phase[0]),
            27.5 + 7.5 * np.sin(4 * np.pi * along + phase[1]),
        ],
        1,
    )
    aim = np.stack([20 + 6 * np.sin(9 * along + phase[2]), 12 * np.sin(7 * along + phase[3]), -30 + 0 * along], 1)
    return np.asarray(se3.look_at(eye, eye + aim))


def recording(folder: Path, seed: int, owner: Owner, beside: bool) -> tuple[Dataset, Camera, np.ndarray, np.ndarray]:
    """A dataset, the true colour camera and T_colour_depth, and true depth of the colour camera's views (N, H, W)."""
    random = np.random.default_rng(seed)
    colour, T_colour_depth = DEPTH, np.eye(4)
    if beside:
        longer = DEPTH.fx * random.uniform(0.85, 1.1)
        centre = random.uniform(-0.02, 0.02, 2) * DEPTH.width
        colour = Camera(DEPTH.width, DEPTH.height, longer, longer, *(np.array([DEPTH.cx, DEPTH.cy]) + centre).tolist())
        offset = random.normal(size=3) * [1, 1, 0.1]
        offset *= 0.02 * DEPTH_M / np.linalg.norm(offset)
        T_colour_depth = se3.exponential([*offset, *np.radians(random.uniform(-1, 1, 3) / np.sqrt(3))])
    scene = City(CityConfig(seed=seed)).scene
    eyes = [SceneRenderer(scene, camera, supersample=2) for camera in (colour, DEPTH)]
    meta = DatasetMeta(DEPTH if owner == "depth" else colour, depth=DepthMeta("metric"))
    true = []
    with DatasetWriter(folder, meta, depth_format="cm") as writer:
        for number, T_map_depth in enumerate(poses(random)):
            T_map_colour = T_map_depth @ se3.inverse(T_colour_depth)
            seen = eyes[0].render(T_map_colour)
            true.append(seen.depth_m)
            depth = eyes[1].render(T_map_depth).depth_m
            writer.add(10**8 * number, T_map_depth if owner == "depth" else T_map_colour, seen.rgb, depth)
    return Dataset(folder), colour, T_colour_depth, np.stack(true)


def measured(folder: Path, seed: int, owner: Owner) -> dict[str, object]:
    """A row: what was wrong, what is left of it."""
    dataset, colour, T_colour_depth, true = recording(folder / "beside", seed, owner, True)
    started = time.process_time()
    found = find_depth_camera(dataset)
    seconds = time.process_time() - started
    pixels = np.stack(np.meshgrid(np.arange(10, 320, 10), np.arange(10, 240, 10)), -1).reshape(-1, 2)
    off, left, before, after = [], [], [], []
    for frame in range(0, FRAMES, 6):
        recorded = dataset.depth(frame)
        depth = recorded[pixels[:, 1], pixels[:, 0]].astype(float)[:, None]
        at = colour.project(se3.transform_points(T_colour_depth, DEPTH.unproject(pixels) * depth))
        mine = found.colour.project(se3.transform_points(found.T_colour_depth, found.depth.unproject(pixels) * depth))
        off.append(np.linalg.norm(pixels - at, axis=1))
        left.append(np.linalg.norm(mine - at, axis=1))
        made = over_colour(recorded, found)
        both = np.isfinite(made) & np.isfinite(true[frame]) & np.isfinite(recorded)
        before.append(np.abs(recorded - true[frame])[both].mean())
        after.append(np.abs(made - true[frame])[both].mean())
    right = find_depth_camera(recording(folder / "right", seed, owner, False)[0])
    return {
        "name": f"city {seed}",
        "owner": owner,
        "found": found.owner,
        "off_px": float(np.nanmedian(off)),
        "left_px": float(np.nanmedian(left)),
        "far_px": float(np.nanquantile(left, 0.9)),
        "depth_before_m": float(np.mean(before)),
        "depth_after_m": float(np.mean(after)),
        "grey_before": found.before,
        "grey_after": found.after,
        "right": "left alone" if right.agrees else f"moved by {right.off_px:.1f} px",
        "seconds": seconds,
    }


def main() -> None:
    """Measure, print, perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--kitchen", type=Path, help="an RGB-D sequence of 7-Scenes")
    parser.add_argument("--picture", type=Path, help="write what a simulated registration draws")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            rows.append(measured(Path(folder) / str(seed), seed, ("depth", "colour")[seed % 2]))  # type: ignore[arg-type]
            print(rows[-1], flush=True)
        if args.picture:
            dataset = Dataset(Path(folder) / "0" / "beside")
            made = register(dataset, find_depth_camera(dataset), Path(folder) / "made")
            args.picture.write_bytes((made.path / PICTURE).read_bytes())
        if args.kitchen:
            import_datasets([args.kitchen], Path(folder) / "kitchen")
            dataset = Dataset(Path(folder) / "kitchen")
            started = time.process_time()
            found = find_depth_camera(dataset, np.flatnonzero(pictures_allowed(dataset)[0] == 0))
            seconds = time.process_time() - started
            kitchen: dict[str, object] = {"name": "7-Scenes red kitchen", "owner": "not said", "found": found.owner}
            kitchen |= {"off_px": found.off_px, "grey_before": found.before, "grey_after": found.after}
            rows.append({**kitchen, "seconds": seconds})
    head = (
        f"`python bench/depth_register.py` on {described()}. Medians of points; `depth error`: mean, against exact "
        "depth of the colour camera's view, where both know it. `grey`: how far frames differ at points that were "
        "not fitted. `laid right`: the same flight by one camera. What is measured how: its docstring."
    )
    text = "\n\n".join(["# Depth beside its colour", textwrap.fill(head, 120), Table(COLUMNS, rows).markdown()])
    print(text)
    if args.write:
        RESULT.write_text(text + "\n")


if __name__ == "__main__":
    main()

"""What each step of `pose2rgbd align` costs: processor time, memory, and how far poses are from a reference.

    python bench/align_speed.py [--photos 18 167] [--drawn 500 1000 2000 5000] [--folder /tmp/align_speed] [--threads 2]

The photographs are those of Seneca (real data), the first of them or all; each step runs in turn. Thousands are drawn:
a survey of known poses, whose features and verified matches are written into COLMAP's database, so that all steps but
these two run as always. Processor time is that of all threads and child processes, memory the largest sum of their
resident sets, looked at ten times a second. Poses are compared after a similarity to the reference.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pycolmap
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.cli.main import main as pose2rgbd
from pose2rgbd_ros.dataset.meta import DatasetMeta, PosesMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.se3 import umeyama
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.sfm import align, report
from pose2rgbd_ros.sfm.certainty import certainty
from pose2rgbd_ros.sfm.georeference import georeference
from pose2rgbd_ros.sfm.reconstruct import AlignSettings, FeatureDatabase, colmap_camera, refine

RESULTS = Path(__file__).parent / "results" / "align_speed.md"
DATA = Path(os.environ.get("POSE2RGBD_REAL_DATA", "../shared/data")) / "aerial_seneca"
STEPS = ("features", "matches", "map", "adjustment", "sigmas", "files, report")
POINTS_PER_IMAGE, OVERLAP, NOISE_PX, GPS_M = 400, 5, 0.3, (1.5, 1.5, 1.0)


class Costs:
    """CPU seconds and memory of named steps."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.wall_s: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Context of one step."""
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(name, done))
        cpu_s, wall_s = _cpu_s(), time.monotonic()
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()
            self.cpu_s[name] = self.cpu_s.get(name, 0) + _cpu_s() - cpu_s
            self.wall_s[name] = self.wall_s.get(name, 0) + time.monotonic() - wall_s
            print(f"{name}: {self.cpu_s[name]:.1f} CPU-s, {self.peak_mb.get(name, 0):.0f} MB", flush=True)

    def _watch(self, name: str, done: threading.Event) -> None:
        while not done.wait(0.1):
            self.peak_mb[name] = max(self.peak_mb.get(name, 0.0), _resident_mb())


def _cpu_s() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in both)


def _resident_mb() -> float:
    """Of this process and its children, in MB."""
    children = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    total = 0.0
    for process in [str(os.getpid()), *(number for each in children for number in each)]:
        try:
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        except OSError:  # it has ended
            continue
    return total


def align_by_steps(folder: Path, settings: AlignSettings, costs: Costs) -> align.Alignment:
    """What `align` does, each step counted by itself."""
    recorded = align.recorded_dataset(folder)
    planned = align.plan(recorded, settings, progress=False)
    print(f"{planned}", flush=True)
    names = [record.rgb for record in recorded.records]
    file = folder / align.FEATURES / f"{settings.features}-{settings.image_size}-{settings.lens}" / "database.db"
    database = FeatureDatabase(file, folder, names, planned.keyframes, recorded.camera, settings)
    with costs.of("features"):
        database.extract(progress=False)
    with costs.of("matches"):
        database.match(planned.pairs, progress=False)
    with costs.of("map"):
        found = database.reconstruct("global", settings, progress=False)[0]
    rough, stamps_ns = recorded.T_map_cam[found.frames], recorded.stamps_ns[found.frames]
    with costs.of("adjustment"):
        reference = georeference(found.T_sfm_cam, rough, stamps_ns)
        priors = reference.undrifted(rough[:, :3, 3], stamps_ns)
        adjusted = refine(found, names, reference, priors, settings)
    with costs.of("sigmas"):
        sure = certainty(adjusted, reference.tied_sigma_m, reference.sigma_rad, reference.is_bad, stamps_ns)
    with costs.of("files, report"):
        placed = align._Placed(adjusted, reference, sure)
        aligned = align._gather(recorded, [placed], {}, {}, [])
        align._write(folder, recorded, aligned)
        report.write(folder, aligned, settings)
    return aligned


def from_reference(T_map_cam: Float64, truth: Float64) -> tuple[float, float]:
    """Median error in metres and degrees after a robust similarity."""
    source, target, weights = T_map_cam[:, :3, 3], truth[:, :3, 3], None
    for _ in range(3):
        scale, R, t = umeyama(source, target, weights)
        error_m = np.linalg.norm(scale * source @ R.T + t - target, axis=1)
        weights = 1 / (1 + (error_m / np.median(error_m)) ** 2)
    off = Rotation.from_matrix(R @ T_map_cam[:, :3, :3] @ truth[:, :3, :3].transpose(0, 2, 1))
    return float(np.median(error_m)), float(np.rad2deg(np.median(off.magnitude())))


def seneca(folder: Path, count: int, settings: AlignSettings) -> tuple[align.Alignment, Costs, Float64]:
    """The first photographs of Seneca; with the reference's poses of the aligned frames, NaN where it has none."""
    images = sorted(path for path in (DATA / "images").iterdir() if path.suffix.lower() == ".jpg")[:count]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    for image in images:
        shutil.copy(image, folder / "images")
    assert pose2rgbd(["convert", str(folder / "images"), str(folder / "dataset")]) == 0
    costs = Costs()
    aligned = align_by_steps(folder / "dataset", settings, costs)
    with (DATA / "sfm" / "poses.csv").open() as stream:
        known = {row["file"]: [float(row[name]) for name in list(row)[1:]] for row in csv.DictReader(stream)}
    poses = np.array([known.get(images[i].name, [np.nan] * 6 + [1.0]) for i in aligned.frames.tolist()])
    return aligned, costs, se3.make(poses[:, :3], poses[:, 3:])


def draw_survey(folder: Path, count: int, settings: AlignSettings) -> Float64:
    """A dataset of `count` photographs with rough poses, and a database of features and matches; the true poses."""
    rng, camera = np.random.default_rng(0), Camera.from_fov(1024, 768, 71)
    columns = int(np.sqrt(count))
    place = 15.0 * np.stack([np.arange(count) % columns, np.arange(count) // columns * 1.6], axis=-1)
    position = np.column_stack([place, np.full(count, 60.0)]) + rng.normal(0, 1.5, (count, 3))
    turned = Rotation.from_euler("xyz", rng.normal([180, 0, 0], [5, 5, 8], (count, 3)), degrees=True)
    truth = se3.make(position, turned.as_quat())
    rough = truth.copy()
    rough[:, :3, 3] += rng.normal(0, GPS_M, (count, 3))
    grey = np.full((camera.height, camera.width, 3), 128, np.uint8)
    shutil.rmtree(folder, ignore_errors=True)
    with DatasetWriter(folder, DatasetMeta(camera=camera, poses=PosesMeta(position="gps"))) as writer:
        for i in range(count):
            writer.add((i + 1) * 5 * 10**9, rough[i], grey)
    recorded = Dataset(folder)
    pairs, names = align.plan(recorded, settings, False).pairs, [record.rgb for record in recorded.records]
    key = f"{settings.features}-{settings.image_size}-{settings.lens}"
    FeatureDatabase(folder / align.FEATURES / key / "database.db", folder, names, np.arange(count), camera, settings)
    low, high = place.min(axis=0) - 30, place.max(axis=0) + 30
    ground_m2 = float(np.prod(high - low))
    seen_m2 = 60.0**2 * (camera.width / camera.fx) * (camera.height / camera.fy)
    points = rng.uniform([*low, -5], [*high, 5], (int(OVERLAP * POINTS_PER_IMAGE * ground_m2 / seen_m2), 3))
    database = pycolmap.Database.open(folder / align.FEATURES / key / "database.db")
    model, parameters = colmap_camera(camera, settings.lens)
    native = pycolmap.Camera(model=model, width=camera.width, height=camera.height, params=parameters, camera_id=1)
    database.write_camera(native)
    rig = pycolmap.Rig(rig_id=1)
    rig.add_ref_sensor(native.sensor_id)
    database.write_rig(rig)
    tree, seen = KDTree(points[:, :2]), []
    T_cam_map = se3.inverse(truth)
    for i in range(count):
        near = np.array(tree.query_ball_point(position[i, :2], 75.0))
        pixel = camera.project(se3.transform_points(T_cam_map[i], points[near]))
        inside = (pixel > 0).all(axis=1) & (pixel < [camera.width - 1, camera.height - 1]).all(axis=1)
        which = np.flatnonzero(inside & (rng.random(len(near)) < 1 / OVERLAP))
        noisy = pixel[which] + 0.5 + rng.normal(0, NOISE_PX, (len(which), 2))
        database.write_image(pycolmap.Image(name=names[i], camera_id=1, image_id=i + 1), use_image_id=True)
        frame = pycolmap.Frame(frame_id=i + 1, rig_id=1)
        frame.add_data_id(pycolmap.data_t(native.sensor_id, i + 1))
        database.write_frame(frame, use_frame_id=True)
        database.write_keypoints(i + 1, noisy.astype(np.float32))
        seen.append(near[which])
    for a, b in pairs:
        _, first, second = np.intersect1d(seen[a], seen[b], return_indices=True)
        between = pycolmap.TwoViewGeometry()
        T_b_a = T_cam_map[b] @ truth[a]
        x, y, z = T_b_a[:3, 3]
        between.E = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ T_b_a[:3, :3]
        between.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
        between.inlier_matches = np.column_stack([first, second]).astype(np.uint32)
        database.write_two_view_geometry(a + 1, b + 1, between)
    database.close()
    return truth


def main() -> None:
    """Measure, print, and write the results page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, nargs="*", default=[18, 167])
    parser.add_argument("--drawn", type=int, nargs="*", default=[500, 1000, 2000, 5000])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/align_speed"))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    settings = AlignSettings(threads=options.threads)
    columns = {"photographs": "", **dict.fromkeys(STEPS, ".1f"), "all, CPU-s": ".0f", "MB": ".0f", "aligned": ""}
    table = Table.of({**columns, "points": "", "m": ".3f", "degrees": ".3f"})
    for kind, counts in (("photos", options.photos), ("drawn", options.drawn)):
        for count in counts:
            folder = options.folder / f"{kind}_{count}"
            if kind == "photos":
                aligned, costs, truth = seneca(folder, count, settings)
            else:
                truth = draw_survey(folder, count, settings)
                costs = Costs()
                aligned = align_by_steps(folder, settings, costs)
                truth = truth[aligned.frames]
            known = np.isfinite(truth[:, 0, 3])
            error_m, error_deg = from_reference(aligned.T_map_cam[known], truth[known])
            row = [f"{count} {'of Seneca' if kind == 'photos' else 'drawn'}", *(costs.cpu_s[step] for step in STEPS)]
            row += [sum(costs.cpu_s.values()), max(costs.peak_mb.values()), str(len(aligned.frames))]
            print(table.add(*row, str(len(aligned.maps[0].points)), error_m, error_deg), flush=True)
            RESULTS.write_text(
                "# Time and memory of aligning\n\n`python bench/align_speed.py`: CPU-seconds of each step on "
                f"{processor()}, {options.threads} threads, and the largest sum of resident memory. Seneca: "
                "photographs of 1024 x 768 pixels, against the reference of the data; drawn: "
                f"{POINTS_PER_IMAGE} features of an image in tracks of five, against the truth.\n\n"
                + table.markdown() + "\n"
            )  # fmt: skip


if __name__ == "__main__":
    main()

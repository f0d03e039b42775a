"""Features, matches and the map, by pycolmap: from images with rough poses to cameras and points of one unit.

Features and matches stay in a database beside the dataset: what is there is not done again, so an interrupted run goes
on, and more photographs cost only themselves.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.spatial import KDTree
from tqdm import tqdm

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.arrays import Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.sfm.georeference import Georeference

if TYPE_CHECKING:
    import pycolmap

Mapper = Literal["auto", "global", "incremental"]
Lens = Literal["auto", "pinhole", "radial", "opencv", "fisheye"]

Refined = Literal["auto", "all", "distortion", "none"]

EXHAUSTIVE = 40  # so few images are compared all with all
FOLLOWING = 2  # images after each one that are compared with it, wherever they were
WIDE_DEG = 110.0  # a lens that sees more across is a fisheye
GUESSED_FOCAL = 1.2  # of the longer side, where nobody knows the focal length
LEAST_MATCHES = 15
MOST_DIRECT = 10_000  # images that are adjusted by a sparse factorization; conjugate gradients took four times as long
PLACING_TRACKS = 200  # of an image, by which the global mapper places it
LEAST_MAP = 3  # frames
_MODELS = {"pinhole": "SIMPLE_PINHOLE", "radial": "SIMPLE_RADIAL", "opencv": "OPENCV", "fisheye": "OPENCV_FISHEYE"}
_POLL_S = 0.2
# What the global mapper logs, and the share of its time that is over then.
_GLOBAL_MARKS = (
    ("Decomposing", 0.0),
    ("Running rotation averaging", 0.05),
    ("Running global positioning", 0.1),
    ("Running iterative bundle adjustment", 0.4),
    ("Running iterative retriangulation", 0.6),
    ("", 1.0),
)
_MARKED_LINES = 60  # between two of them half of that share is over
_HEAD = 65_536  # bytes of a file that, with its size, tell it from others


@dataclass
class AlignSettings:
    """Structure from motion of a dataset's images, tied to its recorded positions."""

    lens: Lens = setting(
        "auto", "model of the lens; auto: the dataset's own, radial where it has none, fisheye from 110 degrees on"
    )
    refine_camera: Refined = setting(
        "auto",
        "what of the lens is estimated, the rest is as in meta.yaml: all, distortion, none; auto: all, but distortion "
        "where the images leave the focal length open",
    )
    focal_sigma: float = setting(
        0.02,
        "how sure the recorded focal length is, as a share; where the images are less sure it is left open",
        ge=0.001,
        le=1,
    )
    readout_ms: float | None = setting(
        None,
        "milliseconds from an image's first row to its last, of a rolling shutter; not given: estimated where frames "
        "follow each other within two seconds; 0: all rows at once",
        ge=-200,
        le=200,
    )
    mapper: Mapper = setting(
        "auto", "auto: global, and incremental too where a tenth of the frames is left out or where GPS contradicts"
    )
    features: int = setting(4096, "most features of an image", ge=200, le=20_000)
    image_size: int = setting(1600, "longer side in pixels that features are found at", ge=200, le=8192)
    neighbours: int = setting(14, "images near by that each one is compared with", ge=2, le=200)
    threads: int = setting(0, "CPU threads; 0: one per core; 1: the same map every time", ge=0, le=256)
    seed: int = setting(0, "draws the samples of the robust estimates; the map repeats with one thread only", ge=0)

    @property
    def refines(self) -> tuple[bool, bool]:
        """Whether focal length and distortion are estimated."""
        return self.refine_camera in ("auto", "all"), self.refine_camera != "none"


@dataclass(frozen=True, eq=False)
class SparseMap:
    """What the images say of cameras and points, up to place and size.

    Attributes:
        frames: (N,) indices of the dataset's frames that have a place in it, increasing.
        T_sfm_cam: (N, 4, 4).
        camera: the camera of all of them; of several lenses that of most.
        points: (P, 3); `colors` (P, 3) uint8; `track_length` (P,) how many frames see each.
        seen_frame, seen_point: (M,) index of a frame of the dataset, increasing, and of the point that it sees.
        seen_px: (M, 2) where, pixel centres at integers.
        reprojection_px: mean over all observations.
        folder: COLMAP's own files of it.
        cameras: of each frame, where there are several lenses; `seen_px` is what `camera` would see all the same.
    """

    frames: Int64
    T_sfm_cam: Float64
    camera: Camera
    points: Float64
    colors: UInt8
    track_length: Int64
    seen_frame: Int64
    seen_point: Int64
    seen_px: Float64
    reprojection_px: float
    folder: Path
    cameras: tuple[Camera, ...] = ()

    def seen_by(self, frame: int) -> slice:
        """Which observations are of one frame."""
        begin, end = np.searchsorted(self.seen_frame, [frame, frame + 1]).tolist()
        return slice(begin, end)


def _in_child(job: Callable[..., Any], *arguments: Any, poll: Callable[[], None] = lambda: None) -> Any:
    """Run a long call of pycolmap in a process of its own, and call `poll` meanwhile.

    A fault that ends the process (C++ aborts) is a UserError here, Ctrl-C ends it at once, and the database is read by
    another process than the one that writes it: SQLite's locks are the process'. What was committed stays.
    """
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn, initializer=_begin_process, initargs=(log.name,)) as pool:
            try:
                with interrupt_held_back():
                    future = pool.submit(job, *arguments)
                while not future.done():
                    with contextlib.suppress(TimeoutError):
                        future.exception(_POLL_S)
                    poll()
                return future.result()
            except BrokenProcessPool as error:
                reasons = re.findall(r"what\(\):\s*(.*)", log.read())
                reason = reasons[-1] if reasons else "ended from outside (out of memory?)"
                raise UserError(
                    f"structure from motion was stopped: {reason}; what it had found is kept: run again, perhaps with "
                    "fewer --features or a smaller --image-size"
                ) from error
            except BaseException:
                for process in list(pool._processes.values()):
                    process.kill()
                raise


@contextlib.contextmanager
def interrupt_held_back() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal; this one decides, once the child is whole, which ignores it.

    The child inherits what is blocked. That does not do for this process: a thread of a library may take the signal,
    and Python's handler then runs here all the same.
    """
    held: list[int] = []
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number)) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if held:
        signal.raise_signal(signal.SIGINT)


def _begin_process(log: str) -> None:
    with Path(log).open("wb") as stream:
        os.dup2(stream.fileno(), 2)  # what an abort in C++ says is read there
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed leaves nobody behind who writes the database beside the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def colmap() -> Any:
    """pycolmap, quiet. UserError where it is not installed."""
    try:
        import pycolmap
    except ImportError as error:
        raise UserError("structure from motion needs pycolmap; install it: pip install 'pycolmap >= 4.2'") from error
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    return pycolmap


class FeatureDatabase:
    """The features of a dataset's images and their matches. One process at a time."""

    def __init__(
        self,
        file: Path,
        images: Path,
        names: Sequence[str],
        chosen: Int64,
        camera: Camera,
        settings: AlignSettings,
        lenses: Sequence[str] = (),
    ) -> None:
        """`names` are files below `images`; `chosen` are the indices of those to be used.

        `camera` is where the camera of each lens begins, `lenses` are those of the images, where there are several.
        """
        self.file, self.images, self.names, self.camera = file, images, list(names), camera
        self.chosen = [self.names[i] for i in chosen.tolist()]
        self._settings = settings
        self._lens_of = dict(zip(self.names, lenses or [""] * len(self.names), strict=True))
        self._forget_others()
        file.parent.mkdir(parents=True, exist_ok=True)
        layout.atomic_write(self._known, json.dumps(self._facts).encode())

    def _forget_others(self) -> None:
        """Remove features of other images under these names, or for another camera."""
        self._known = self.file.with_name("images.json")
        self._facts: dict[str, Any] = {"camera": self.camera.to_dict(), "images": {}}
        images = self._facts["images"]
        for name in self.names:
            with (self.images / name).open("rb") as stream:
                images[name] = f"{os.fstat(stream.fileno()).st_size}-{zlib.crc32(stream.read(_HEAD)):08x}"
        try:
            before = json.loads(self._known.read_text())
        except (OSError, ValueError):
            return
        are_others = [images.setdefault(name, digest) != digest for name, digest in before["images"].items()]
        if any(are_others) or before["camera"] != self._facts["camera"]:
            shutil.rmtree(self.file.parent)

    def extract(self, progress: bool = True) -> int:
        """Find the features of the images that have none yet, and say of how many. UserError where there are none."""
        done = self._names_with("keypoints")
        missing = [name for name in self.chosen if name not in done]
        if not missing:
            return 0
        with _Bar("features", len(missing), progress, lambda: self._count("keypoints") - len(done)) as bar:
            for lens in dict.fromkeys(self._lens_of[name] for name in missing):
                own = [name for name in missing if self._lens_of[name] == lens]
                _in_child(
                    _extract, self.file, self.images, own, self.camera, self._settings, self._camera_id(lens),
                    poll=bar.poll,
                )  # fmt: skip
        lost = set(missing) - self._names_with("keypoints")
        if len(lost) == len(missing):
            raise UserError(f"{self.images} is as before: none of {counted(len(lost), 'image')} can be read")
        return len(missing)

    def match(self, pairs: Sequence[tuple[int, int]], progress: bool = True) -> bool:
        """Match the features of pairs of images, by index, that were not matched before; False: all were."""
        done = self.matched()
        missing = [pair for pair in pairs if pair not in done]
        if not missing:
            return False
        listed = self.file.with_name("pairs.txt")
        listed.write_text("".join(f"{self.names[a]} {self.names[b]}\n" for a, b in missing))
        before = self._count("two_view_geometries")
        with _Bar("matches", len(missing), progress, lambda: self._count("two_view_geometries") - before) as bar:
            _in_child(_match, self.file, listed, self._settings, poll=bar.poll)
        return True

    def matched(self) -> dict[tuple[int, int], int]:
        """How many verified matches each compared pair of images has; indices ascending."""
        index = {name: i for i, name in enumerate(self.names)}
        ids = {number: index[name] for number, name in self._ids().items() if name in index}
        found = {}
        for pair_id, rows in self._query("SELECT pair_id, rows FROM two_view_geometries"):
            second = pair_id % 2147483647
            first = (pair_id - second) // 2147483647
            if first in ids and second in ids:
                a, b = sorted((ids[first], ids[second]))
                found[a, b] = int(rows)
        return found

    def pairs_without_parallax(self) -> int:
        """How many pairs of images differ by a homography alone: the camera only turned, or saw a plane."""
        kinds = colmap().TwoViewGeometryConfiguration
        flat = (kinds.PLANAR, kinds.PANORAMIC, kinds.PLANAR_OR_PANORAMIC)
        listed = ", ".join(str(int(kind)) for kind in flat)
        return int(self._query(f"SELECT COUNT(*) FROM two_view_geometries WHERE config IN ({listed})")[0][0])

    def features(self) -> dict[int, int]:
        """How many features each image has, by index."""
        index = {name: i for i, name in enumerate(self.names)}
        rows = self._query("SELECT name, rows FROM images JOIN keypoints USING (image_id)")
        return {index[name]: int(count) for name, count in rows if name in index}

    def matches_of_frames(self) -> dict[int, int]:
        """The most verified matches that each image has with another one, by index."""
        most: dict[int, int] = {}
        for pair, rows in self.matched().items():
            for i in pair:
                most[i] = max(most.get(i, 0), rows)
        return most

    def reconstruct(self, mapper: str, settings: AlignSettings, progress: bool = True) -> list[SparseMap]:
        """The maps of three frames or more that the matches give, largest first; most often one, or none.

        Maps that were made of the same matches in the same way are read again.
        """
        out = self.file.with_name(f"map_{mapper}")
        done, made_of = out / "made_of.json", self._made_of(settings)
        if done.is_file() and done.read_text() == made_of:
            found = _in_child(_read_maps, out, self.names)
        else:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            log = out / "log.txt"
            with _Bar(f"{mapper} map", 100, progress, lambda: int(100 * _mapped(log, len(self.chosen)))) as bar:
                found = _in_child(
                    _map, self.file, self.images, out, log, self.names, self.chosen, settings,
                    self.camera.is_calibrated, mapper,
                    poll=bar.poll,
                )  # fmt: skip
                bar.fill()
            layout.atomic_write(done, made_of.encode())
        return sorted((each for each in found if len(each.frames) >= LEAST_MAP), key=lambda each: -len(each.frames))

    def adjusted(self, T_map_cam: Float64, settings: AlignSettings, progress: bool = True) -> SparseMap:
        """The map of the chosen images that the matches give, begun with their rough poses (N, 4, 4).

        UserError: not one point is seen by two of them.
        """
        out = self.file.with_name("map_posed")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        with _Bar("adjusted map", 1, progress, lambda: 0) as bar:
            found: SparseMap = _in_child(
                _map_posed, self.file, out, self.names, dict(zip(self.chosen, T_map_cam, strict=True)), settings,
                poll=bar.poll,
            )  # fmt: skip
            bar.fill()
        return found

    def _made_of(self, settings: AlignSettings) -> str:
        """What a map depends on."""
        matches = self._query("SELECT COUNT(*), SUM(rows), SUM(rows * (pair_id % 9973)) FROM two_view_geometries")
        used = {name: getattr(settings, name) for name in ("features", "image_size", "lens", "refine_camera", "seed")}
        images = {name: self._lens_of[name] for name in self.chosen}
        return json.dumps({"images": images, "matches": matches, "camera": self.camera.to_dict(), **used})

    # The database as SQLite sees it, while pycolmap writes: its own interface would wait for the lock.

    def _query(self, text: str) -> list[Any]:
        if not self.file.is_file():
            return []
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, timeout=5)) as connection:
                return connection.execute(text).fetchall()
        except sqlite3.OperationalError:  # no table yet, or locked for a moment
            return []

    def _count(self, table: str) -> int:
        rows = self._query(f"SELECT COUNT(*) FROM {table}")
        return int(rows[0][0]) if rows else 0

    def _ids(self) -> dict[int, str]:
        return dict(self._query("SELECT image_id, name FROM images"))

    def _names_with(self, table: str) -> set[str]:
        rows = self._query(f"SELECT name FROM images JOIN {table} USING (image_id)")
        return {name for (name,) in rows}

    def _camera_id(self, lens: str) -> int | None:
        rows = self._query("SELECT name, camera_id FROM images")
        return next((int(number) for name, number in rows if self._lens_of.get(name) == lens), None)


# What runs in the child.


def _extract(
    file: Path, images: Path, names: list[str], camera: Camera, settings: AlignSettings, camera_id: int | None
) -> None:
    pycolmap = colmap()
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model, parameters = colmap_camera(camera, settings.lens)
    reader.camera_params = ",".join(f"{value:.12g}" for value in parameters)
    if camera_id is not None:
        reader.existing_camera_id = camera_id
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads, options.use_gpu, options.max_image_size = settings.threads or -1, False, settings.image_size
    options.sift.max_num_features = settings.features
    pycolmap.extract_features(
        file, images, names, pycolmap.CameraMode.SINGLE, reader, options, device=pycolmap.Device.cpu
    )


def _match(file: Path, pairs: Path, settings: AlignSettings) -> None:
    pycolmap = colmap()
    matching, pairing = pycolmap.FeatureMatchingOptions(), pycolmap.ImportedPairingOptions()
    matching.num_threads, matching.use_gpu, pairing.match_list_path = settings.threads or -1, False, pairs
    pycolmap.match_image_pairs(file, matching, pairing, device=pycolmap.Device.cpu)


def _map(
    file: Path,
    images: Path,
    out: Path,
    log: Path,
    names: list[str],
    chosen: list[str],
    settings: AlignSettings,
    focal_known: bool,
    mapper: str,
) -> list[SparseMap]:
    pycolmap = colmap()
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 2)
    pycolmap.logging.logtostderr, pycolmap.logging.verbose_level = True, 1
    pycolmap.logging.minloglevel = pycolmap.logging.Level.INFO.value
    threads = settings.threads or -1
    if mapper == "global":
        if not focal_known:
            pycolmap.calibrate_view_graph(file)
        options = pycolmap.GlobalPipelineOptions()
        inner = options.mapper
        inner.num_threads, inner.random_seed = threads, settings.seed
        inner.global_positioning.use_gpu = inner.bundle_adjustment.ceres.use_gpu = False
        adjustment = inner.bundle_adjustment
        adjustment.refine_focal_length, adjustment.refine_extra_params = settings.refines
        # Enough to place the images, which takes most of the time otherwise; all others are triangulated after that.
        inner.track_required_tracks_per_view = PLACING_TRACKS
    else:
        options = pycolmap.IncrementalPipelineOptions()
        options.ba_refine_focal_length, options.ba_refine_extra_params = settings.refines
    options.image_names, options.min_num_matches = chosen, LEAST_MATCHES
    options.num_threads, options.random_seed = threads, settings.seed
    run = pycolmap.global_mapping if mapper == "global" else pycolmap.incremental_mapping
    run(file, images, out, options)
    return _read_maps(out, names)  # as written: the numbers of several maps are others than those of its answer


# How far rays of rough poses may miss each other (degrees) and points their features (px), round by round.
_POSED_ROUNDS = ((8.0, 30.0), (4.0, 8.0), (2.0, 4.0))


def _map_posed(
    file: Path, out: Path, names: list[str], T_map_cam: dict[str, Float64], settings: AlignSettings
) -> SparseMap:
    pycolmap = colmap()
    chosen = pycolmap.DatabaseCacheOptions()
    chosen.min_num_matches, chosen.image_names, chosen.load_all_images = LEAST_MATCHES, set(T_map_cam), True
    with pycolmap.Database.open(file) as database:
        cache = pycolmap.DatabaseCache.create(database, chosen)
    native = pycolmap.Reconstruction()
    native.load(cache)
    for image in list(native.images.values()):
        T = np.linalg.inv(T_map_cam[image.name])
        frame = native.frame(image.frame_id)
        frame.set_cam_from_world(image.camera_id, pycolmap.Rigid3d(pycolmap.Rotation3d(T[:3, :3]), T[:3, 3]))
        native.register_frame(image.frame_id)
    mapper = pycolmap.IncrementalMapper(cache)
    mapper.begin_reconstruction(native)
    limits, rays = pycolmap.IncrementalMapperOptions(), pycolmap.IncrementalTriangulatorOptions()
    adjustment = pycolmap.BundleAdjustmentOptions()
    adjustment.print_summary = False
    adjustment.refine_focal_length, adjustment.refine_extra_params = settings.refines
    adjustment.ceres.solver_options.num_threads = limits.num_threads = settings.threads or -1
    adjustment.ceres.loss_function_type = pycolmap.LossFunctionType.HUBER
    limits.random_seed = rays.random_seed = settings.seed
    rays.ignore_two_view_tracks = False
    for angle_deg, error_px in _POSED_ROUNDS:
        rays.create_max_angle_error = rays.continue_max_angle_error = rays.re_max_angle_error = angle_deg
        rays.merge_max_reproj_error = rays.complete_max_reproj_error = error_px
        limits.filter_max_reproj_error = error_px
        for image_id in native.reg_image_ids():
            mapper.triangulate_image(rays, image_id)
        mapper.iterative_global_refinement(3, 0.001, limits, adjustment, rays, False)
    if not native.num_points3D():
        raise UserError("the pictures have no point in common")
    mapper.end_reconstruction(False)
    folder = out / "0"
    folder.mkdir()
    native.write(folder)
    return _read(native, names, folder)


def _mapped(log: Path, frames: int) -> float:
    """Which share of a mapper's work is done, by what it logs."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    if registered := re.findall(r"num_reg_frames=(\d+)", text):  # the incremental one
        return min(max(map(int, registered)) / frames, 1.0)
    done = 0.0
    for (mark, begin), (_, end) in pairwise(_GLOBAL_MARKS):
        if mark in text:
            lines = text.rpartition(mark)[2].count("\n")
            done = begin + (end - begin) * lines / (lines + _MARKED_LINES)
    return done


def _read_maps(out: Path, names: Sequence[str]) -> list[SparseMap]:
    pycolmap = colmap()
    return [_read(pycolmap.Reconstruction(folder), names, folder) for folder in sorted(out.glob("[0-9]*"))]


def _read(found: pycolmap.Reconstruction, names: Sequence[str], folder: Path) -> SparseMap:
    index = {name: i for i, name in enumerate(names)}
    images = sorted(
        (image for image in found.images.values() if image.has_pose and image.name in index),
        key=lambda image: index[image.name],
    )
    point_ids = np.array(sorted(found.points3D), dtype=np.uint64)
    points = [found.points3D[point_id] for point_id in point_ids.tolist()]
    T_sfm_cam = np.tile(np.eye(4), (len(images), 1, 1))
    seen_point, seen_px = [np.zeros(0, np.int64)], [np.zeros((0, 2))]
    of_images = Counter(image.camera_id for image in images)
    main = of_images.most_common(1)[0][0]
    cameras = {number: our_camera(found.cameras[number]) for number in of_images}
    for i, image in enumerate(images):
        cam_from_sfm = image.cam_from_world()
        R = cam_from_sfm.rotation.matrix()
        T_sfm_cam[i, :3, :3], T_sfm_cam[i, :3, 3] = R.T, -R.T @ cam_from_sfm.translation
        seen = image.get_observation_points2D()
        seen_point.append(np.searchsorted(point_ids, np.array([each.point3D_id for each in seen], np.uint64)))
        # COLMAP's pixel (0, 0) is the corner of the first pixel, ours its centre.
        pixels = np.array([each.xy for each in seen]).reshape(-1, 2) - 0.5
        if image.camera_id != main and len(pixels):
            pixels = cameras[main].project(cameras[image.camera_id].unproject(pixels))
        seen_px.append(pixels)
    frames = np.array([index[image.name] for image in images], dtype=np.int64)
    return SparseMap(
        frames=frames, T_sfm_cam=T_sfm_cam, camera=cameras[main],
        points=np.array([point.xyz for point in points]).reshape(-1, 3),
        colors=np.array([point.color for point in points], dtype=np.uint8).reshape(-1, 3),
        track_length=np.array([point.track.length() for point in points], dtype=np.int64),
        seen_frame=np.repeat(frames, [len(each) for each in seen_point[1:]]),
        seen_point=np.concatenate(seen_point), seen_px=np.concatenate(seen_px),
        reprojection_px=float(found.compute_mean_reprojection_error()), folder=folder,
        cameras=tuple(cameras[image.camera_id] for image in images) if len(cameras) > 1 else (),
    )  # fmt: skip


def refine(
    found: SparseMap,
    names: Sequence[str],
    reference: Georeference,
    position_map: Float64,
    settings: AlignSettings,
    rolled_px: Float64 | None = None,
) -> SparseMap:
    """The map in metres at its place, adjusted with the recorded positions (N, 3) as priors.

    A similarity alone cannot undo that a map of many images bends. Each prior has the sigma measured of all, wider by
    what residuals that resemble their neighbours are worth less; positions found wrong are none. `rolled_px` (M, 2) is
    by how much a rolling shutter moved what is seen.
    """
    result: SparseMap = _in_child(_refine, found, list(names), reference, position_map, settings, rolled_px)
    return result


def _refine(
    found: SparseMap,
    names: list[str],
    reference: Georeference,
    position_map: Float64,
    settings: AlignSettings,
    rolled_px: Float64 | None,
) -> SparseMap:
    pycolmap = colmap()
    native = pycolmap.Reconstruction(found.folder)
    native.transform(pycolmap.Sim3d(reference.scale, pycolmap.Rotation3d(reference.R_map_sfm), reference.t_map_sfm))
    by_name = {image.name: image for image in native.images.values()}
    images = [by_name[names[frame]] for frame in found.frames]
    if rolled_px is not None:
        seen = (point for image in images for point in image.points2D if point.has_point3D())
        for point, rolled in zip(seen, rolled_px, strict=True):
            point.xy = point.xy - rolled
    config, priors = pycolmap.BundleAdjustmentConfig(), []
    for image, position, is_bad in zip(images, position_map, reference.is_bad, strict=True):
        config.add_image(image.image_id)
        if not is_bad:
            prior = pycolmap.PosePrior()
            prior.corr_data_id, prior.position = image.data_id, position
            prior.position_covariance = np.diag(reference.tied_sigma_m**2)
            prior.coordinate_system = pycolmap.PosePriorCoordinateSystem.CARTESIAN
            priors.append(prior)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length, options.refine_extra_params = settings.refines
    options.ceres.loss_function_type = pycolmap.LossFunctionType.HUBER
    options.ceres.solver_options.num_threads = settings.threads or -1
    options.ceres.solver_options.function_tolerance = 1e-6
    options.ceres.max_num_images_direct_sparse_cpu_solver = MOST_DIRECT
    robust = pycolmap.PosePriorBundleAdjustmentOptions()
    robust.ceres.prior_position_loss_function_type = pycolmap.LossFunctionType.CAUCHY
    adjuster = pycolmap.create_pose_prior_bundle_adjuster(options, robust, config, priors, native)
    adjuster.solve()
    adjusted = _read(native, names, found.folder)
    return adjusted if rolled_px is None else replace(adjusted, seen_px=adjusted.seen_px + rolled_px)


class _Bar:
    """A progress bar that counts what is in the database."""

    def __init__(self, name: str, total: int, shown: bool, count: Callable[[], int]) -> None:
        self._bar = tqdm(total=total, desc=name, unit="", disable=not shown or None)
        self._count, self._next = count, 0.0

    def poll(self) -> None:
        """Move on; at most once a second. Drawn anew even where nothing moved: the clock does."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 1.0
            self._bar.update(max(0, min(self._count(), self._bar.total or 0) - self._bar.n))
            self._bar.refresh()

    def fill(self) -> None:
        """Show that all is done."""
        self._bar.update((self._bar.total or 0) - self._bar.n)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._next = 0.0
        self.poll()
        self._bar.close()


def choose_pairs(T_map_cam: Float64, neighbours: int) -> list[tuple[int, int]]:
    """Which frames to compare (ascending indices), of frames in time order with rough poses (N, 4, 4).

    Those that follow each other, and of the nearest ones as many as `neighbours`: half of them whichever way they
    look, half of those that look about the same way (within 60 degrees), for nadir and oblique views of one place.
    """
    count = len(T_map_cam)
    if count <= EXHAUSTIVE:
        return [(a, b) for a in range(count) for b in range(a + 1, count)]
    pairs = {(a, a + k) for k in range(1, FOLLOWING + 1) for a in range(count - k)}
    position, forward = T_map_cam[:, :3, 3], T_map_cam[:, :3, 2]
    _, nearest = KDTree(position).query(position, k=min(3 * neighbours, count))
    for a, row in enumerate(np.atleast_2d(nearest)):
        others = row[row != a]
        alike = others[forward[others] @ forward[a] > 0.5]
        half = neighbours // 2
        for b in {*others[:half].tolist(), *alike[:neighbours].tolist()[: neighbours - half + half]}:
            pairs.add((min(a, b), max(a, b)))
    return sorted(pairs)


def colmap_camera(camera: Camera, lens: Lens) -> tuple[str, list[float]]:
    """Name and parameters of COLMAP's camera model for one of ours. An unknown focal length is guessed."""
    f = camera.fx if camera.is_calibrated else GUESSED_FOCAL * max(camera.width, camera.height)
    fy = camera.fy if camera.is_calibrated else f
    cx, cy = (camera.cx, camera.cy) if camera.is_calibrated else ((camera.width - 1) / 2, (camera.height - 1) / 2)
    cx, cy, k = cx + 0.5, cy + 0.5, list(camera.distortion)
    if lens == "auto":
        if camera.distortion_model == "rational_polynomial":
            return "FULL_OPENCV", [f, fy, cx, cy, *k]
        wide = np.rad2deg(2 * np.arctan(camera.width / 2 / f)) > WIDE_DEG
        lens = "fisheye" if camera.distortion_model == "equidistant" or wide else "opencv" if any(k[1:]) else "radial"
    if lens == "pinhole":
        return _MODELS[lens], [f, cx, cy]
    if lens == "radial":
        return _MODELS[lens], [f, cx, cy, k[0] if camera.distortion_model == "plumb_bob" else 0.0]
    if lens == "fisheye" and camera.distortion_model != "equidistant":
        wide = camera.width / 2 / f  # a pinhole's; the fisheye that sees as much
        return _MODELS[lens], [f * wide / np.arctan(wide), fy * wide / np.arctan(wide), cx, cy, *[0.0] * 4]
    if lens == "fisheye":
        return _MODELS[lens], [f, fy, cx, cy, *k]
    return _MODELS[lens], [f, fy, cx, cy, *(k[:4] if camera.distortion_model == "plumb_bob" else [0.0] * 4)]


def our_camera(found: pycolmap.Camera) -> Camera:
    """COLMAP's camera as one of ours."""
    name, p = found.model.name, [float(value) for value in found.params]
    if name in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL"):
        focal, centre, k = (p[0], p[0]), p[1:3], p[3:]
    else:
        focal, centre, k = (p[0], p[1]), p[2:4], p[4:]
    size = int(found.width), int(found.height)
    if name == "SIMPLE_RADIAL":
        k = [k[0], 0.0, 0.0, 0.0]
    model = {"SIMPLE_PINHOLE": "none", "OPENCV_FISHEYE": "equidistant", "FULL_OPENCV": "rational_polynomial"}
    return Camera(*size, *focal, centre[0] - 0.5, centre[1] - 0.5, model.get(name, "plumb_bob"), tuple(k))

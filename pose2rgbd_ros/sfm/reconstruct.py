"""Features, matches and the map, by pycolmap: from images with rough poses to cameras and points of one unit.

Features and matches stay in a database beside the dataset: what is there is not done again, so an interrupted run goes
on, and more photographs cost only themselves.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse
from scipy.interpolate import CubicSpline
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation, RotationSpline
from tqdm import tqdm

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64, UInt8
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
LEAST_MAP = 3  # frames
_MODELS = {"pinhole": "SIMPLE_PINHOLE", "radial": "SIMPLE_RADIAL", "opencv": "OPENCV", "fisheye": "OPENCV_FISHEYE"}
_POLL_S = 0.2
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
    threads: int = setting(0, "CPU threads; 0: one per core", ge=0, le=256)
    seed: int = setting(0, "draws the samples of the robust estimates", ge=0)

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
        camera: the camera of all of them.
        points: (P, 3); `colors` (P, 3) uint8; `track_length` (P,) how many frames see each.
        seen_frame, seen_point: (M,) index of a frame of the dataset, and of the point that it sees.
        seen_px: (M, 2) where, pixel centres at integers.
        reprojection_px: mean over all observations.
        folder: COLMAP's own files of it.
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


def _in_child(job: Callable[..., Any], *arguments: Any, poll: Callable[[], None] = lambda: None) -> Any:
    """Run a long call of pycolmap in a process of its own, and call `poll` meanwhile.

    A fault that ends the process (C++ aborts) is a UserError here, Ctrl-C ends it at once, and the database is read by
    another process than the one that writes it: SQLite's locks are the process'. What was committed stays.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_begin_process) as pool:
        try:
            future = pool.submit(job, *arguments)
            while not future.done():
                with contextlib.suppress(TimeoutError):
                    future.exception(_POLL_S)
                poll()
            return future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "structure from motion was ended from outside (out of memory?); what it had found is kept: run again, "
                "perhaps with fewer --features or a smaller --image-size"
            ) from error
        except BaseException:
            for process in list(pool._processes.values()):
                process.kill()
            raise


def _begin_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides


def colmap() -> Any:
    """pycolmap, quiet. UserError where it is not installed."""
    try:
        import pycolmap
    except ImportError as error:
        raise UserError("structure from motion needs pycolmap; install it: pip install pycolmap") from error
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    return pycolmap


class FeatureDatabase:
    """The features of a dataset's images and their matches. One process at a time."""

    def __init__(
        self, file: Path, images: Path, names: Sequence[str], chosen: Int64, camera: Camera, settings: AlignSettings
    ) -> None:
        """`names` are files below `images`, all of one camera; `chosen` are the indices of those to be used."""
        self.file, self.images, self.names, self.camera = file, images, list(names), camera
        self.chosen = [self.names[i] for i in chosen.tolist()]
        self._settings = settings
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

    def extract(self, progress: bool = True) -> None:
        """Find the features of the images that have none yet. UserError for images that cannot be read."""
        done = self._names_with("keypoints")
        missing = [name for name in self.chosen if name not in done]
        if not missing:
            return
        with _Bar("features", len(missing), progress, lambda: self._count("keypoints") - len(done)) as bar:
            _in_child(
                _extract, self.file, self.images, missing, self.camera, self._settings, self._camera_id(), poll=bar.poll
            )
        lost = set(missing) - self._names_with("keypoints")
        if len(lost) == len(missing):
            raise UserError(f"no features were found in {counted(len(lost), 'image')} of {self.images}")

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
        ids = {number: self.names.index(name) for number, name in self._ids().items() if name in set(self.names)}
        found = {}
        for pair_id, rows in self._query("SELECT pair_id, rows FROM two_view_geometries"):
            second = pair_id % 2147483647
            first = (pair_id - second) // 2147483647
            if first in ids and second in ids:
                a, b = sorted((ids[first], ids[second]))
                found[a, b] = int(rows)
        return found

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
        """The maps of three frames or more that the matches give, largest first; most often one, or none."""
        out = self.file.with_name(f"map_{mapper}")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        with _Bar(f"{mapper} map", len(self.chosen), progress, lambda: 0) as bar:
            found = _in_child(
                _map, self.file, self.images, out, self.names, self.chosen, settings, self.camera.is_calibrated,
                mapper,
                poll=bar.poll,
            )  # fmt: skip
        return sorted((each for each in found if len(each.frames) >= LEAST_MAP), key=lambda each: -len(each.frames))

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

    def _camera_id(self) -> int | None:
        rows = self._query("SELECT camera_id FROM cameras LIMIT 1")
        return int(rows[0][0]) if rows else None


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
    names: list[str],
    chosen: list[str],
    settings: AlignSettings,
    focal_known: bool,
    mapper: str,
) -> list[SparseMap]:
    pycolmap = colmap()
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
    else:
        options = pycolmap.IncrementalPipelineOptions()
        options.ba_refine_focal_length, options.ba_refine_extra_params = settings.refines
    options.image_names, options.min_num_matches = chosen, LEAST_MATCHES
    options.num_threads, options.random_seed = threads, settings.seed
    run = pycolmap.global_mapping if mapper == "global" else pycolmap.incremental_mapping
    return [_read(native, names, out / str(number)) for number, native in run(file, images, out, options).items()]


def _read(found: pycolmap.Reconstruction, names: Sequence[str], folder: Path) -> SparseMap:
    index = {name: i for i, name in enumerate(names)}
    images = sorted(
        (image for image in found.images.values() if image.has_pose and image.name in index),
        key=lambda image: index[image.name],
    )
    point_ids = {point_id: i for i, point_id in enumerate(found.points3D)}
    points = list(found.points3D.values())
    T_sfm_cam = np.tile(np.eye(4), (len(images), 1, 1))
    seen: list[tuple[int, int, float, float]] = []
    for i, image in enumerate(images):
        cam_from_sfm = image.cam_from_world()
        R = cam_from_sfm.rotation.matrix()
        T_sfm_cam[i, :3, :3], T_sfm_cam[i, :3, 3] = R.T, -R.T @ cam_from_sfm.translation
        for point in image.points2D:
            if point.has_point3D():
                # COLMAP's pixel (0, 0) is the corner of the first pixel, ours its centre.
                seen.append((index[image.name], point_ids[point.point3D_id], *(point.xy - 0.5)))
    table = np.array(seen).reshape(-1, 4)
    return SparseMap(
        frames=np.array([index[image.name] for image in images], dtype=np.int64),
        T_sfm_cam=T_sfm_cam,
        camera=our_camera(next(iter(found.cameras.values()))),
        points=np.array([point.xyz for point in points]).reshape(-1, 3),
        colors=np.array([point.color for point in points], dtype=np.uint8).reshape(-1, 3),
        track_length=np.array([point.track.length() for point in points], dtype=np.int64),
        seen_frame=table[:, 0].astype(np.int64), seen_point=table[:, 1].astype(np.int64), seen_px=table[:, 2:],
        reprojection_px=float(found.compute_mean_reprojection_error()), folder=folder,
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
        for point, pixel in zip(seen, found.seen_px - rolled_px + 0.5, strict=True):
            point.xy = pixel
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
    robust = pycolmap.PosePriorBundleAdjustmentOptions()
    robust.ceres.prior_position_loss_function_type = pycolmap.LossFunctionType.CAUCHY
    adjuster = pycolmap.create_pose_prior_bundle_adjuster(options, robust, config, priors, native)
    adjuster.solve()
    return replace(_read(native, names, found.folder), seen_px=found.seen_px)


# How sure an adjusted map is: the inverse of the normal equations, points eliminated.


MOST_FRAMES = 1500  # of more the matrix to invert is too large
LEAST_SIGMA_PX = 0.2  # of a feature; what is left of it after the adjustment is less
NEIGHBOUR_S = 2.0  # from frames so near in time a camera's velocity is known,
VELOCITY_SIGMA = 0.05  # to this share, where it turns and sways as drones do
INDEPENDENT = 30  # features of an image, as far as the lens goes: rows and lens model err alike all over it
_STIFF, _STEP = 1e-9, 1e-4


@dataclass(frozen=True, eq=False)
class Certainty:
    """How sure cameras and lens are, and how long the rows of an image are exposed one after the other.

    Attributes:
        covariance: (N, 6, 6) of each camera: rotation vector in its own axes (rad), position (m).
        focal_sigma: of the focal length, as a share of it.
        readout_s: time from the first row to the last by what is left of the features, with its sigma; inf where
            nothing says it.
        rolled_px: (M, 2) by how much this moved what is seen; its root mean square is `rolled_rms_px`.
    """

    covariance: Float64
    focal_sigma: float
    readout_s: float
    readout_sigma_s: float
    rolled_px: Float64

    @property
    def rolled_rms_px(self) -> float:
        """Of all features along each axis."""
        return float(np.sqrt(np.mean(self.rolled_px**2)))


def certainty(
    found: SparseMap,
    sigma_m: Float64,
    sigma_rad: float,
    is_bad: Bool,
    stamps_ns: Int64,
    *,
    focal_known: float | None = None,
    readout_s: float = 0.0,
) -> Certainty | None:
    """How sure an adjusted map in metres is, whose frames were taken at `stamps_ns` (N,).

    Features have the scatter that the adjustment left; positions are tied to recorded ones of `sigma_m` (3,) but for
    those that are bad, which is what holds the map in its place (Triggs et al. 2000, section 6), and orientations of
    all together to recorded ones of `sigma_rad`, for their errors may be one. The lens is unknown too, but for a focal
    length that is `focal_known` to this share. `readout_s` is what the map was adjusted for: the estimate is one
    step on from there. None for more than MOST_FRAMES frames.
    """
    count = len(found.frames)
    if count > MOST_FRAMES or not len(found.points):
        return None
    cam = np.searchsorted(found.frames, found.seen_frame).astype(np.int64)
    T_cam_map = se3.inverse(found.T_sfm_cam)[cam]
    R = T_cam_map[:, :3, :3]
    p = (R @ found.points[found.seen_point][:, :, None])[:, :, 0] + T_cam_map[:, :3, 3]
    projection = np.stack([_slope(found.camera.project, p, axis) for axis in range(3)], axis=-1)  # (M, 2, 3)
    x, y, z = p.T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    to_camera = np.concatenate([projection @ cross, -projection @ R], axis=2)  # (M, 2, 6)
    row = ((found.seen_px[:, 1] + 0.5) / found.camera.height - 0.5)[:, None]
    rolled = (to_camera @ _velocities(found.T_sfm_cam, stamps_ns)[cam][:, :, None])[:, :, 0] * row  # (M, 2) px/s
    error_px = found.camera.project(p) - found.seen_px + rolled * readout_s
    near = (p[:, 2] > 1e-6) & (np.abs(error_px) < 10).all(axis=1) & np.isfinite(rolled).all(axis=1)
    rolled = np.nan_to_num(rolled)
    cam, point, R, p, error_px = cam[near], found.seen_point[near], R[near], p[near], error_px[near]
    sigma_px = max(float(np.sqrt(np.mean(error_px**2))), LEAST_SIGMA_PX)
    to_point = projection[near] @ R / sigma_px  # (M, 2, 3)
    lens = _lens_columns(found.camera, p)
    others = np.concatenate([lens, rolled[near][:, :, None]], axis=2) / sigma_px  # (M, 2, K)
    A = sparse.hstack(
        [_blocks(to_camera[near] / sigma_px, cam, count), sparse.csr_matrix(others.reshape(-1, others.shape[2]))]
    ).tocsr()
    B = _blocks(to_point, point, len(found.points))
    V = np.zeros((len(found.points), 3, 3))
    np.add.at(V, point, np.einsum("nij,nik->njk", to_point, to_point))
    V += np.eye(3) * (_STIFF * np.trace(V, axis1=1, axis2=2)[:, None, None] + 1e-12)
    V_inverse = sparse.block_diag(list(np.linalg.inv(V)), format="csr")
    W = (A.T @ B).tocsr()
    S = (A.T @ A - W @ V_inverse @ W.T).toarray()
    tied = np.flatnonzero(~is_bad)
    for axis in range(3):
        S[6 * tied + 3 + axis, 6 * tied + 3 + axis] += 1 / sigma_m[axis] ** 2
    turns = (6 * np.arange(count)[:, None] + np.arange(3)).ravel()
    S[turns, turns] += 1 / (count * sigma_rad**2)
    if focal_known is not None:
        S[6 * count, 6 * count] += 1 / focal_known**2
    S += np.diag(np.diag(S)) * _STIFF + 1e-6 * np.eye(len(S))  # a camera without points is known to 1 km and not more
    whole = np.linalg.inv(S)
    # Cameras, lens and points are where nothing pulls at them any more: the readout alone is yet to be moved.
    readout_s -= float(whole[-1, -1] * np.sum(rolled[near] * error_px) / sigma_px**2)
    focal_sigma = float(np.sqrt(whole[6 * count, 6 * count] * max(len(cam) / (INDEPENDENT * count), 1.0)))
    sigma_s = np.hypot(np.sqrt(whole[-1, -1]), VELOCITY_SIGMA * readout_s) if rolled[near].any() else np.inf
    return Certainty(
        np.stack([whole[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] for i in range(count)]),
        min(focal_sigma, focal_known or np.inf), readout_s, float(sigma_s), rolled * readout_s,
    )  # fmt: skip


def _slope(project: Callable[[Float64], Float64], p: Float64, axis: int) -> Float64:
    """(M, 2) pixels per metre that points (M, 3) move along an axis of the camera."""
    step = np.zeros_like(p)
    step[:, axis] = _STEP * np.linalg.norm(p, axis=1)
    return np.asarray((project(p + step) - project(p - step)) / (2 * step[:, axis, None]))


def _lens_columns(camera: Camera, p: Float64) -> Float64:
    """(M, 2, K): what the unknowns of a lens do to pixels of points (M, 3): log focal length, then distortion; last,
    where they are two, log fy.
    """
    uv = camera.project(p)
    away = uv - (camera.cx, camera.cy)
    model = camera.distortion_model if camera.distortion else "plumb_bob"
    k = np.array(camera.distortion or [0.0] * 4)
    radial = model == "plumb_bob" and not k[1:].any()
    columns = [away]
    for i in range(1 if radial else min(len(k), 8)):
        more = replace(camera, distortion_model=model, distortion=tuple(k + _STEP * (np.arange(len(k)) == i)))
        columns.append((more.project(p) - uv) / _STEP)
    if not radial:
        columns.append(away * [0.0, 1.0])
    return np.stack(columns, axis=-1)


def _velocities(T_map_cam: Float64, stamps_ns: Int64) -> Float64:
    """(N, 6) of cameras (N, 4, 4) in order of time: rad/s in their own axes, m/s in the map; by splines through the
    frames, 0 where the next one is farther than NEIGHBOUR_S.
    """
    seconds = (stamps_ns - stamps_ns[0]) / 1e9
    R = Rotation.from_matrix(T_map_cam[:, :3, :3])
    turn_rad = RotationSpline(seconds, R)(seconds, 1)
    velocity = np.concatenate([turn_rad, CubicSpline(seconds, T_map_cam[:, :3, 3])(seconds, 1)], axis=1)
    gap = np.diff(seconds) > NEIGHBOUR_S
    velocity[np.append(gap, False) | np.insert(gap, 0, False)] = 0.0
    return np.asarray(velocity)


def _blocks(values: Float64, columns: Int64, count: int) -> sparse.csr_matrix:
    """Blocks (M, 2, K), each in its own two rows and at block column `columns` (M,) of `count`."""
    rows, width = values.shape[0], values.shape[2]
    row = np.repeat(np.arange(2 * rows), width)
    column = (columns[:, None, None] * width + np.arange(width) + np.zeros((1, 2, 1), int)).ravel()
    return sparse.csr_matrix((values.ravel(), (row, column)), shape=(2 * rows, count * width))


class _Bar:
    """A progress bar that counts what is in the database."""

    def __init__(self, name: str, total: int, shown: bool, count: Callable[[], int]) -> None:
        self._bar = tqdm(total=total, desc=name, unit="", disable=not shown or None)
        self._count, self._next = count, 0.0

    def poll(self) -> None:
        """Move on; at most once a second."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 1.0
            self._bar.update(max(0, min(self._count(), self._bar.total or 0) - self._bar.n))

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
    if lens == "fisheye":
        return _MODELS[lens], [f, fy, cx, cy, *(k if camera.distortion_model == "equidistant" else [0.0] * 4)]
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

"""Poses in, finished images out: the one class nodes and tools use to run a trained model."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.models.backends import (
    PRECISIONS,
    Backend,
    RenderedImages,
    check_renderable,
    empty_images,
    is_installed,
    usable_cores,
)
from pose2rgbd_ros.rendering.bounds import load_calibration
from pose2rgbd_ros.rendering.trust import Guard, GuardAnswer
from pose2rgbd_ros.training.checkpoint import Checkpoint, checkpoint_directory, load_checkpoint
from pose2rgbd_ros.training.families import has_part, network_family, part_of

# Can a model be rendered for a camera, and what is to be known of its pictures?


MAX_PIXELS = 2**25  # 32 MPx: three images of it are 0.4 GB
WARN_FINER = 3.0  # pixels so many times finer than the training's get a warning
TOLD_OUTSIDE = 0.005
_LOOKED_AT = 64  # a side of the image that stands in for the camera's


def check_camera(camera: Camera, trained: Camera, any_camera: bool) -> str:
    """What to know of pictures for `camera` by a model trained with `trained`; empty: nothing.

    A model of geometry (`any_camera`) renders every calibrated camera; another one's pictures are resampled, and show
    nothing outside the trained field of view.

    Raises:
        UserError: too many pixels, one of the two is uncalibrated, or the fields of view do not meet.
    """
    if camera.width * camera.height > MAX_PIXELS:
        raise UserError(f"{camera.width} x {camera.height} pixels are more than the {MAX_PIXELS} that are rendered")
    if camera == trained:
        return ""
    for which, asked in (("the camera asked for", camera), ("the camera the model was trained with", trained)):
        if not asked.is_calibrated:
            raise UserError(f"{which} is not calibrated (K[0] = 0), so its field of view is unknown")
    warnings = []
    outside = 0.0 if any_camera else 1.0 - _share_inside(camera, trained)
    if outside == 1.0:
        raise UserError("the camera asked for sees nothing of the trained field of view, all this model can show")
    if outside > TOLD_OUTSIDE:
        warnings.append(f"{outside:.0%} of the image lie outside the trained field of view and stay black")
    finer = float(np.sqrt(camera.fx * camera.fy / (trained.fx * trained.fy)))
    if finer > WARN_FINER:
        warnings.append(f"its pixels are {finer:.1f} times finer than the training's, so pictures are blurred")
    return "; ".join(warnings)


def _share_inside(camera: Camera, trained: Camera) -> float:
    """The share of the image that the trained camera sees, looked at coarsely."""
    side = min(_LOOKED_AT, camera.width), min(_LOOKED_AT, camera.height)
    return float(np.isfinite(resample_map(trained, camera.resized(*side))[..., 0]).mean())


BACKENDS = ("auto", "torch", "onnx")
# Outside the trained field of view: black, unknown depth, no confidence.
OUTSIDE = {"rgb": 0, "depth": np.nan, "confidence": 0, "depth_lower": np.nan, "depth_upper": np.nan}
BOUNDS = ("depth_lower", "depth_upper")
PREVIEW = 4  # so many times smaller a side of the first of two pictures

_log = logging.getLogger(__name__)


class Renderer:
    """A trained model, ready to render.

    Attributes: `camera` (the trained intrinsics), `map_frame`, `camera_frame`, `output`, `depth_kind` ("metric": depth
    is in metres; "relative": it has no unit; None: no depth), `depth_range` (lowest, highest), `has_confidence`,
    `any_camera` (renders any intrinsics, not the trained ones alone), `guard` (where the model may be trusted),
    `calibration` (None without), `device`, `backend_name` and `backend_note` (why not the usual backend).

    With a calibration (`pose2rgbd calibrate`) each known depth has bounds, and is NaN where held-out frames say
    nothing.

    Base and Slice: depth is a bounded output scaled to the training set's extremes, so it cannot leave `depth_range`
    but for the rounding of a float32; a scene nearer or farther than that is shown at the bound. Models with geometry
    inside say NaN where they do not know.

    Base, Slice, relief and warp need no PyTorch on a CPU, and do not load it there; Base and Slice then need the graph
    that a training leaves, or `pose2rgbd export`.
    """

    def __init__(
        self,
        checkpoint: Path | str,
        device: str = "auto",
        backend: str = "auto",
        threads: int | None = None,
        precision: str = "float32",
        guard: bool = True,
        calibrated: bool = True,
        loaded: Checkpoint | None = None,
    ) -> None:
        """Load a checkpoint directory.

        Args:
            device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
            backend: "auto" is the quickest: on a CPU ONNX Runtime for Base and Slice, compiled code for relief, PyTorch
                for what has neither; PyTorch on CUDA. "torch" on a CPU is the eager reference, "onnx" for Base and
                Slice only.
            threads: CPU threads, no more than there are cores; None is half the cores for ONNX Runtime and all of them
                for compiled code, at most 4, and PyTorch's own choice for PyTorch, whose number is set for the whole
                process.
            precision: "float32"; "float16" and "bfloat16" on CUDA only (a CPU without hardware support is many times
                slower with them).
            guard: make depth NaN and confidence 0 where they are not to be trusted. Without it depth is as the model
                gives it, and bounds hold where held-out frames were alike, nowhere else.
            calibrated: use the checkpoint's calibration if there is one.
            loaded: what `load_checkpoint` gave, where it was asked already; a large one takes part of a second.

        Raises:
            UserError: bad checkpoint, a calibration that is damaged or of other weights,
                CUDA asked for and absent, unknown or impossible choice.
        """
        self.device = choose_device(device)
        _check_choices(self.device, backend, threads, precision)
        threads = _at_most_the_cores(threads)
        directory = checkpoint_directory(Path(checkpoint))
        loaded = loaded or load_checkpoint(directory)
        check_renderable(loaded)
        self.camera = loaded.camera
        self.map_frame = loaded.map_frame
        self.camera_frame = loaded.camera_frame
        self.output = loaded.output
        self.depth_kind = loaded.depth_kind
        self.normalization = loaded.normalization
        self.any_camera = loaded.any_camera
        self.calibration = load_calibration(directory, loaded.weights_sha256) if calibrated else None
        self.guard = self._make_guard(loaded)
        self._guarded = guard
        self._formats = {
            name: (images.shape[3:], images.dtype)
            for name, images in empty_images(loaded, self.camera, 0).present().items()
        }
        if self.calibration is not None and "depth" in self._formats:
            self._formats.update(dict.fromkeys(BOUNDS, self._formats["depth"]))
        self.backend_note = ""
        self._backend = self._make_backend(directory, loaded, backend, threads, precision)
        del loaded
        give_memory_back()
        self._lookup: tuple[Camera, NDArray[np.float32]] | None = None

    @property
    def backend_name(self) -> str:
        """ "torch", "onnx", or "numba" for compiled code."""
        return self._backend.name

    @property
    def depth_range(self) -> tuple[float, float] | None:
        """Lowest and highest depth of the training frames; None without depth."""
        lowest, highest = self.normalization.depth_min, self.normalization.depth_max
        return None if "depth" not in self._formats else (float(lowest), float(highest))  # type: ignore[arg-type]

    @property
    def has_confidence(self) -> bool:
        return "confidence" in self._formats

    def render(self, T_map_cam: ArrayLike, out: RenderedImages | None = None) -> RenderedImages:
        """Images at poses (B, 4, 4), or at one (4, 4), which makes B = 1.

        The arrays are new and the caller's own; give an earlier result as `out` to have it overwritten instead, which
        saves the allocation.

        Raises:
            UserError: poses of another shape, or not finite.
            ValueError: `out` has other images, shapes or types than the result.
        """
        return self._render(_poses(T_map_cam), self.camera, out)

    def render_for_camera(
        self, T_map_cam: ArrayLike, camera: Camera, out: RenderedImages | None = None
    ) -> RenderedImages:
        """The same as another camera at the same pose would see it, (B, height, width) of that camera.

        A model that renders any camera is asked for this one (`out` as in `render`). Another model's images are
        resampled: colour is interpolated, depth and confidence are looked up (nearest); depth stays valid because
        the optical axis is shared. Outside the trained field of view: depth NaN, colour and confidence 0.

        Raises:
            UserError: as `render`; or one of two different cameras is uncalibrated (K[0] = 0).
        """
        T = _poses(T_map_cam)
        if camera == self.camera:
            return self._render(T, camera, out)
        if self.any_camera:
            _check_calibrated("the camera asked for", camera)
            return self._render(T, camera, out)
        lookup = self._lookup_for(camera)
        seen = self._prepared(out, len(T), camera)
        images = seen.present()
        for name, batch in self._render(T, self.camera, None).present().items():
            for index, frame in enumerate(batch):
                images[name][index] = resample(frame, lookup, name != "rgb", OUTSIDE[name])
        return seen

    def progressive(
        self, T_map_cam: ArrayLike, camera: Camera | None = None, out: RenderedImages | None = None
    ) -> Iterator[RenderedImages]:
        """A small picture soon, then the whole one, which is that of `render_for_camera`; leave the loop to do without.

        The first is that of the same camera resized to 1 / PREVIEW of its sides, with bounds and guard of its own; it
        takes about an eighth of the time. Models of one size show no less than all, so theirs is the only picture.

        Args:
            camera: the trained one if not given.
            out: for the whole picture, as in `render`.

        Raises:
            UserError: as `render_for_camera`, instead of the first picture.
        """
        camera = camera or self.camera
        small = camera.resized(*(max(side // PREVIEW, 1) for side in (camera.width, camera.height)))
        if self.any_camera and small != camera:
            yield self.render_for_camera(T_map_cam, small)
        yield self.render_for_camera(T_map_cam, camera, out)

    @property
    def volume(self) -> Guard:
        """The guard: where the model may be trusted, and an example of it."""
        return self.guard

    def guard_score(self, T_map_cam: ArrayLike) -> GuardAnswer:
        """Whether depth at a pose (4, 4) may be trusted, and why not; with the guard off it is said all the same."""
        return self.guard.check(T_map_cam)

    def _render(self, T_map_cam: NDArray[np.float64], camera: Camera, out: RenderedImages | None) -> RenderedImages:
        prepared = self._prepared(out, len(T_map_cam), camera)
        self._backend.render(T_map_cam, camera, RenderedImages(prepared.rgb, prepared.depth, prepared.confidence))
        if self._guarded or prepared.depth_lower is not None:
            for index, T in enumerate(T_map_cam):
                self._judge(self.guard.check(T), camera, prepared, index)
        return prepared

    def _judge(self, answer: GuardAnswer, camera: Camera, images: RenderedImages, index: int) -> None:
        """Give a picture its bounds, and take away what the guard does not vouch for."""
        depth = None if images.depth is None else images.depth[index]
        if self._guarded and not answer.inside:
            for name, batch in images.present().items():
                if name != "rgb":
                    batch[index].fill(OUTSIDE[name])
        elif depth is not None and images.depth_lower is not None and images.depth_upper is not None:
            assert self.calibration is not None
            confidence = None if images.confidence is None else images.confidence[index]
            bounds = images.depth_lower[index], images.depth_upper[index]
            self.calibration.table.bound(
                depth, confidence, answer.score, camera.focal_px, *bounds, forget=self._guarded
            )

    def _make_guard(self, loaded: Checkpoint) -> Guard:
        if self.calibration is not None:
            limit, distance_m = self.calibration.guard_limit, self.calibration.distance_m
            return Guard(loaded.training_T_map_cam, distance_m, limit, self.any_camera)
        return Guard(loaded.training_T_map_cam, typical_depth(loaded), None, self.any_camera)

    def _prepared(self, out: RenderedImages | None, count: int, camera: Camera) -> RenderedImages:
        """`out` if it fits, else new images."""
        if out is None:
            return self._allocate(count, camera)
        if not self._fits(out, count, camera):
            raise ValueError(f"out must be a result of this renderer for {count} poses, writeable and contiguous")
        return out

    def _lookup_for(self, camera: Camera) -> NDArray[np.float32]:
        """The resampling map; the last one is kept, since one client asks with one camera."""
        _check_calibrated("the camera asked for", camera)
        _check_calibrated("the camera the model was trained with", self.camera)
        if self._lookup is None or self._lookup[0] != camera:
            self._lookup = (camera, resample_map(self.camera, camera))
        return self._lookup[1]

    def _make_backend(
        self, directory: Path, loaded: Checkpoint, backend: str, threads: int | None, precision: str
    ) -> Backend:
        network = loaded.architecture["network"]
        family = network_family(network)
        fast = part_of(family, "backend") if has_part(family, "backend") else None
        if backend == "onnx" and (fast is None or fast.NAME != "onnx"):
            raise UserError(f"{network} has no ONNX graph: use the checkpoint as it is, with backend auto or torch")
        if fast is not None and (backend == "onnx" or (backend == "auto" and self.device == "cpu")):
            try:
                made: Backend = fast.make(directory, loaded, threads)
                return made
            except UserError as error:
                if backend == "onnx" or not is_installed("torch"):
                    raise
                self.backend_note = f"{error}; rendering with torch, which is slower"
                _log.warning(self.backend_note)
        model = loaded.build_model()
        from pose2rgbd_ros.models.torch_backend import TorchBackend  # there is torch

        return TorchBackend(model, loaded.normalization, self.device, precision, threads)

    def _allocate(self, count: int, camera: Camera) -> RenderedImages:
        size = (count, camera.height, camera.width)
        images = {name: np.empty((*size, *channels), dtype) for name, (channels, dtype) in self._formats.items()}
        return RenderedImages(**{name: images.get(name) for name in OUTSIDE})

    def _fits(self, out: RenderedImages, count: int, camera: Camera) -> bool:
        present = out.present()
        return present.keys() == self._formats.keys() and all(
            images.shape == (count, camera.height, camera.width, *self._formats[name][0])
            and images.dtype == self._formats[name][1]
            and images.flags.c_contiguous
            and images.flags.writeable
            for name, images in present.items()
        )


def typical_depth(loaded: Checkpoint) -> float:
    """Metres that turns are counted by when nothing better is known: the middle of the depth range on a log scale.

    Without metric depth half the extent of the flight stands in for it.
    """
    lowest, highest = loaded.normalization.depth_min, loaded.normalization.depth_max
    if loaded.depth_kind == "metric" and lowest is not None and highest is not None:
        return float(np.sqrt(max(lowest, 0.1) * max(highest, 0.1)))
    span = np.subtract(loaded.normalization.position_max_m, loaded.normalization.position_min_m)
    return max(float(np.linalg.norm(span)) / 2, 0.1)


def choose_device(device: str) -> str:
    """ "cpu", "cuda" or "cuda:N" for what was asked; UserError when it is absent or unknown."""
    if device == "auto" and not (_has_gpu_driver() and is_installed("torch")):
        return "cpu"
    if device == "auto":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if device != "cpu" and (kind != "cuda" or (":" in device and not index.isdecimal())):
        raise UserError(f"device is {device!r}; choose auto, cpu, cuda or cuda:N")
    if kind == "cuda":
        if not is_installed("torch"):
            raise UserError(f"device {device} needs PyTorch, which is not installed here; use device cpu")
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise UserError(
                f"device {device} was asked for, but PyTorch {torch.__version__} sees {count} CUDA devices; "
                "use device auto or cpu"
            )
    return device


def _has_gpu_driver() -> bool:
    """Whether there is a driver that PyTorch's CUDA could use (NVIDIA's, or AMD's), asked without loading PyTorch."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True


def give_memory_back() -> None:
    """Let go of what loading a model has left: to be called where something was loaded, and may be at any time.

    glibc keeps what was freed, of a relief as much as it has on disk. Of libraries, what only loading has needed is
    forgotten: it stays in the system's cache of files as long as there is room, and what is needed again is read again.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc_trim(0)
        for start, size in _parts_of_files():
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_DONTNEED)


def _parts_of_files() -> Iterator[tuple[int, int]]:
    """Address and bytes of the parts of memory that are as a library's file has them: nothing in them can be lost."""
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    for mapping in mappings[1:]:
        addresses, rights, _, _, inode, *_ = mapping.split(maxsplit=5)
        # Relocated addresses are the process' own ("anonymous") even where it may no longer write to them.
        if rights in ("r-xp", "r--p") and inode != "0" and re.search(r"^Anonymous: +0 kB$", mapping, re.MULTILINE):
            start, end = (int(address, 16) for address in addresses.split("-"))
            yield start, end - start


def _check_calibrated(which: str, camera: Camera) -> None:
    if not camera.is_calibrated:
        raise UserError(f"{which} is not calibrated (K[0] = 0), so its field of view is unknown")


def _check_choices(device: str, backend: str, threads: int | None, precision: str) -> None:
    if backend not in BACKENDS:
        raise UserError(f"backend is {backend!r}; choose one of: {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise UserError(f"precision is {precision!r}; choose one of: {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise UserError(f"threads is {threads}; it must be at least 1")
    if device == "cpu" and precision != "float32":
        raise UserError(f"precision {precision} needs a CUDA device; on a CPU use float32")
    if device != "cpu" and backend == "onnx":
        raise UserError(f"backend onnx runs on the CPU; with device {device} use backend torch or auto")


def _at_most_the_cores(threads: int | None) -> int | None:
    """More threads than cores would only wait for each other: one launch file serves many computers."""
    cores = usable_cores()
    if threads is None or threads <= cores:
        return threads
    _log.warning("%d threads were asked for, and this process may use %d cores: it takes %d", threads, cores, cores)
    return cores


def _poses(T_map_cam: ArrayLike) -> NDArray[np.float64]:
    T = np.asarray(T_map_cam, dtype=np.float64)
    T = T[None] if T.ndim == 2 else T
    if T.ndim != 3 or T.shape[1:] != (4, 4):
        raise UserError(f"poses of shape {T.shape}; expected (B, 4, 4) or (4, 4)")
    if not np.isfinite(T).all():
        raise UserError("a pose is not finite")
    return T

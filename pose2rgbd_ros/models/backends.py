"""Ways to run a model on a CPU: ONNX Runtime and Numba. PyTorch is in torch_backend.py: not every computer has it."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.training.checkpoint import Checkpoint

WHY_NO_NUMBA = ""
try:
    import numba
except (ImportError, OSError, SystemError) as error:  # missing, or built for another NumPy
    numba: Any = None  # type: ignore[no-redef]
    WHY_NO_NUMBA = f"numba is not usable here ({error})"

HAS_NUMBA = numba is not None

PRECISIONS = ("float32", "float16", "bfloat16")
MOST_DEFAULT_THREADS = 4  # the layers are small: more threads only wait for each other


@dataclass
class RenderedImages:
    """Images of B poses; None for what the model does not predict.

    rgb: uint8 (B, H, W, 3). depth: float32 (B, H, W), metres or relative as the model's `depth_kind` says.
    confidence: float32 (B, H, W), as ``training.families.RenderTensors`` says, enlarged to the image.
    depth_lower, depth_upper: float32 (B, H, W), the calibrated interval around depth; None without a calibration.
    """

    rgb: NDArray[np.uint8] | None
    depth: NDArray[np.float32] | None
    confidence: NDArray[np.float32] | None
    depth_lower: NDArray[np.float32] | None = None
    depth_upper: NDArray[np.float32] | None = None

    def present(self) -> dict[str, NDArray[Any]]:
        """The images there are, by name."""
        named = {
            "rgb": self.rgb,
            "depth": self.depth,
            "confidence": self.confidence,
            "depth_lower": self.depth_lower,
            "depth_upper": self.depth_upper,
        }
        return {name: images for name, images in named.items() if images is not None}


def check_renderable(checkpoint: Checkpoint) -> None:
    """UserError when the parts of a checkpoint, each of them sound, do not fit together."""
    if checkpoint.output == "pose":
        raise UserError("this model finds poses and shows no pictures; render with posegan, base or relief")
    camera, size = checkpoint.camera, checkpoint.architecture.get("size")
    fixed = not checkpoint.any_camera
    if fixed and (camera.width, camera.height) != (size, size):
        problem = f"its camera is {camera.width} x {camera.height}, but its network makes {size} x {size} images"
    elif fixed and checkpoint.normalization.pose_dim != checkpoint.architecture.get("pose_dim"):
        problem = "its network and its normalization take poses of different kinds"
    elif not fixed and not camera.is_calibrated:
        problem = "its model needs intrinsics, but its camera has none"
    elif checkpoint.output != "rgb" and checkpoint.normalization.depth_min is None:
        problem = "its network predicts depth, but its normalization has no range of depth"
    elif len(checkpoint.training_T_map_cam) == 0:
        problem = "it holds no training poses, so it is unknown where it is valid"
    else:
        return
    raise UserError(f"the checkpoint contradicts itself: {problem}; train again")


def empty_images(checkpoint: Checkpoint, camera: Camera, count: int) -> RenderedImages:
    """Unfilled images of everything the checkpoint's model predicts, `count` of each, as large as the camera's."""
    shape, output = (count, camera.height, camera.width), checkpoint.output
    return RenderedImages(
        np.empty((*shape, 3), np.uint8) if output != "depth" else None,
        np.empty(shape, np.float32) if output != "rgb" else None,
        np.empty(shape, np.float32) if checkpoint.has_confidence else None,
    )


class Backend(Protocol):
    """Fills `out` with the images of poses, float64 (B, 4, 4), as `camera` sees them."""

    name: str

    def render(self, T_map_cam: NDArray[np.float64], camera: Camera, out: RenderedImages) -> None: ...


class OnnxBackend:
    """An exported graph of Base or Slice on ONNX Runtime's CPU provider, frame by frame: batching gains nothing
    there.
    """

    name = "onnx"

    def __init__(self, graph: bytes, normalization: Normalization, threads: int | None = None) -> None:
        """UserError when ONNX Runtime is missing or cannot run the graph."""
        self._normalization = normalization
        self._session = onnx_session(graph, threads or default_threads())

    def render(self, T_map_cam: NDArray[np.float64], camera: Camera, out: RenderedImages) -> None:
        """Each frame is written by ONNX Runtime straight into its place in `out`; the camera is the trained one."""
        pose = self._normalization.encode_pose(T_map_cam)
        images = out.present()
        for index in range(len(pose)):
            binding = self._session.io_binding()
            binding.bind_cpu_input("pose", np.ascontiguousarray(pose[index : index + 1]))
            for name, batch in images.items():
                frame = batch[index]
                shape = (1, *frame.shape)
                binding.bind_output(name, "cpu", 0, frame.dtype.type, shape, frame.ctypes.data)
            self._session.run_with_iobinding(binding)


def is_installed(library: str) -> bool:
    """Whether a library such as torch is there; it is not loaded for that."""
    try:
        return importlib.util.find_spec(library) is not None
    except ImportError:
        return False


def compiled(function: Any) -> Any:
    """`numba.njit` without the interpreter lock, kept on disk where a folder allows; the function itself without numba.

    Numba keeps compiled code in $NUMBA_CACHE_DIR if that is set, else beside the source, else in the user's cache
    folder.
    """
    if numba is None:
        return function
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # none of these folders can be written to: compiled at every start
        return numba.njit(nogil=True, error_model="numpy")(function)


def onnx_session(graph: bytes, threads: int) -> Any:
    """A graph on ONNX Runtime's CPU provider; UserError when that is missing or cannot run the graph."""
    try:
        import onnxruntime
    except (ImportError, OSError) as error:  # missing, or built for another NumPy or system
        raise UserError(f"ONNX Runtime is not usable here ({error}); install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads sleep: spinning would take the core from the node that publishes the images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base class but Exception
        raise UserError(f"ONNX Runtime cannot run the graph ({str(error).splitlines()[0]})") from error


def default_threads() -> int:
    """Half the cores this process may use, at most MOST_DEFAULT_THREADS: the other half is for whoever uses the
    images.
    """
    return min(max(usable_cores() // 2, 1), MOST_DEFAULT_THREADS)


def all_threads() -> int:
    """The cores this process may use, at most MOST_DEFAULT_THREADS."""
    return min(usable_cores(), MOST_DEFAULT_THREADS)


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

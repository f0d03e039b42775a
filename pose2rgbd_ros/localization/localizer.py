"""Images in, poses out, with how far to trust them: the one class nodes and tools use to run a trained pose network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.covariance import CovarianceModel
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.localization.gate import FeatureModel, Gate, KeyframeFeatures, novelty_cues
from pose2rgbd_ros.localization.predict import CROPS, ImageEncoder, PosePrediction, Query, image_figures
from pose2rgbd_ros.rendering.bounds import CalibrationFiles
from pose2rgbd_ros.rendering.renderer import choose_device
from pose2rgbd_ros.training.checkpoint import Checkpoint, checkpoint_directory, load_checkpoint
from pose2rgbd_ros.training.families import PoseModel


def pose_network(loaded: Checkpoint) -> PoseModel:
    """A checkpoint's network with its weights; UserError for one that finds no poses."""
    if not isinstance(loaded.network(), PoseModel):
        raise UserError(
            f"a network {loaded.architecture['network']!r} finds no poses; give a model trained with "
            "pose2rgbd train posegan or posenet"
        )
    model = loaded.build_model()
    assert isinstance(model, PoseModel)
    return model


class Localizer:
    """A trained pose network, ready to find cameras: a `PoseEstimator`.

    Attributes: `name` (the network's), `camera` (the trained intrinsics, of `image_size` pixels), `map_frame`,
    `camera_frame`, `device`, `calibration` (None without).

    With a calibration (`pose2rgbd calibrate`) estimates have a covariance, and images unlike the training frames are
    rejected. Without one only blank images are, and nothing says how wrong a pose may be.
    """

    def __init__(
        self,
        checkpoint: Path | str,
        device: str = "auto",
        threads: int | None = None,
        gate: bool = True,
        calibrated: bool = True,
    ) -> None:
        """Load a checkpoint directory, or the folder of a run.

        Args:
            device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
            threads: of PyTorch, for the whole process; None is 1 on a CPU.
            gate: reject images that are unlike the training frames; without it only blank ones are, for tests.
            calibrated: use the checkpoint's calibration if there is one.

        Raises:
            UserError: bad checkpoint, or of a network that finds no poses; a calibration that is damaged or of other
                weights; CUDA asked for and absent; threads below 1.
        """
        self.device = choose_device(device)
        if threads is not None and threads < 1:
            raise UserError(f"threads is {threads}; it must be at least 1")
        directory = checkpoint_directory(Path(checkpoint))
        loaded = load_checkpoint(directory)
        model = pose_network(loaded)
        self.calibration = load_localizer_calibration(directory, loaded.weights_sha256) if calibrated else None
        self._gated = gate
        if self.device == "cpu":
            torch.set_num_threads(threads or 1)
        self.name = str(loaded.architecture["network"])
        self.camera, self.image_size = loaded.camera, model.image_size
        self.map_frame, self.camera_frame = loaded.map_frame, loaded.camera_frame
        self._fit = loaded.provenance.get("fit", "square")
        self._margin_px = int(loaded.provenance.get("margin", 0))
        self._encoder = ImageEncoder(loaded, model, self.device, self.calibration.crops if self.calibration else 1)

    def find(self, rgb: UInt8, camera: Camera) -> Estimate:
        """See :class:`PoseEstimator`."""
        return self.find_all([rgb], camera)[0]

    def find_all(self, images: Iterable[UInt8], camera: Camera) -> list[Estimate]:
        """The estimates of several images of one camera, together and so quicker on a GPU."""
        return self.answer([self.prepare(rgb, camera) for rgb in images])

    def prepare(self, rgb: UInt8, camera: Camera) -> Query:
        """The part of `find` before the network, for a thread that does it while the network is busy with another
        image.
        """
        return self._encoder.prepare(rgb, camera)

    def answer(self, queries: Sequence[Query]) -> list[Estimate]:
        """The rest of `find`."""
        read = iter(self._encoder.read([query for query in queries if not query.reason]))
        return [
            Estimate(None, accepted=False, reason=query.reason) if query.reason else self._estimate(next(read))
            for query in queries
        ]

    def recording_camera(self, width: int, height: int) -> Camera:
        """The camera of images `width` x `height` in size, taken to be the one that recorded the training frames."""
        m, side = self._margin_px, self.camera.width
        wide = self.camera.cropped(-m, -m, side + 2 * m, side + 2 * m)
        if self._fit == "square":
            return wide.resized(width, height)
        inner = min(width, height)
        square = wide.resized(inner, inner)
        return square.cropped(-((width - inner) // 2), -((height - inner) // 2), width, height)

    def _estimate(self, found: PosePrediction) -> Estimate:
        known = self.calibration
        if known is None:
            return Estimate(found.T_map_cam)
        cues = novelty_cues(found, known.features, known.memory)
        reason = known.gate.look(image_figures(found.rgb)) or known.gate.reason(cues)
        rejected = self._gated and bool(reason)
        return Estimate(
            found.T_map_cam,
            known.covariance.covariance_map(cues, found.T_map_cam),
            accepted=not rejected,
            reason=reason if rejected else "",
            score=known.gate.score(cues),
            limit=known.gate.limit,
        )


# What held-out frames taught about a checkpoint that finds poses: how wrong they may be, and which images are refused.
#
# In localization.yaml and localization.safetensors beside the weights, as rendering/bounds.py has it for depth.


FILES = CalibrationFiles("localization", "arrays_sha256")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LocalizerCalibration:
    """Of one checkpoint. crops: how many of each image are looked at, a key of predict.CROPS. true_accept: share of the
    held-out frames that the gate's limit lets pass. figures: what was measured, for people."""

    weights_sha256: str
    crops: int
    true_accept: float
    covariance: CovarianceModel
    gate: Gate
    features: FeatureModel
    memory: KeyframeFeatures
    figures: dict[str, Any] = field(default_factory=dict)


_PARTS = {"covariance": CovarianceModel, "gate": Gate, "features": FeatureModel, "memory": KeyframeFeatures}


def save_localizer_calibration(directory: Path, calibration: LocalizerCalibration) -> None:
    """Write both files into a checkpoint's folder; UserError when it cannot be written."""
    arrays = {
        f"{part}.{item.name}": np.asarray(getattr(getattr(calibration, part), item.name))
        for part, kind in _PARTS.items()
        for item in dataclasses.fields(kind)
    }
    values = {
        "crops": calibration.crops,
        "true_accept": calibration.true_accept,
        "limit": round(calibration.gate.limit, 4),
        "figures": calibration.figures,
    }
    FILES.save(directory, calibration.weights_sha256, values, arrays)


def load_localizer_calibration(directory: Path, weights_sha256: str) -> LocalizerCalibration | None:
    """The calibration of a checkpoint's folder; None without one. UserError as of `CalibrationFiles.load`."""
    return FILES.load(directory, weights_sha256, _from)


def _from(values: dict[str, Any], arrays: dict[str, np.ndarray]) -> LocalizerCalibration:
    parts: dict[str, Any] = {part: _part(kind, part, arrays) for part, kind in _PARTS.items()}
    if values["crops"] not in CROPS:
        raise ValueError(f"crops is {values['crops']!r}")
    return LocalizerCalibration(
        values["weights_sha256"], values["crops"], float(values["true_accept"]), **parts, figures=values["figures"]
    )


def _part(kind: type[T], part: str, arrays: dict[str, np.ndarray]) -> T:
    """A dataclass of arrays and numbers; ValueError for one that is not finite."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        array = arrays[f"{part}.{item.name}"]
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{part}.{item.name} is not finite")
        values[item.name] = array if array.ndim else array.item()
    return kind(**values)

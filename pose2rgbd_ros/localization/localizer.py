"""Images in, poses out, with how far to trust them: the one class nodes and tools use to run a trained pose network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.calibration import load_localizer_calibration
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.localization.gate import novelty_cues
from pose2rgbd_ros.localization.predict import ImageEncoder, PosePrediction, Query, image_figures
from pose2rgbd_ros.models.base import PoseModel
from pose2rgbd_ros.rendering.renderer import choose_device
from pose2rgbd_ros.training.checkpoint import Checkpoint, checkpoint_directory, load_checkpoint


def pose_network(loaded: Checkpoint) -> PoseModel:
    """A checkpoint's network with its weights; UserError for one that finds no poses."""
    if not isinstance(loaded.network(), PoseModel):
        raise UserError(
            f"a network {loaded.architecture['network']!r} finds no poses; give a model trained with "
            "--model posegan or posenet"
        )
    model = loaded.build_model()
    assert isinstance(model, PoseModel)
    return model


class Localizer:
    """A trained pose network, ready to find cameras: a `Finder`.

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
        """See :class:`Finder`."""
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

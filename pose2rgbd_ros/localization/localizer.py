"""Images in, poses out, with how far to trust them: the one class nodes and tools use to run a trained pose network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.localization.query import Query, QueryView
from pose2rgbd_ros.localization.reading import CROPS, Reader, Reading
from pose2rgbd_ros.models.pose_model import PoseModel
from pose2rgbd_ros.rendering.renderer import choose_device
from pose2rgbd_ros.training.checkpoint import Checkpoint, checkpoint_directory, load_checkpoint


class Localizer:
    """A trained pose network, ready to find cameras: a `Finder`.

    Attributes: `name` (the network's), `camera` (the trained intrinsics, of `image_size` pixels), `map_frame`,
    `camera_frame`, `device`.
    """

    def __init__(
        self, checkpoint: Path | str, device: str = "auto", threads: int | None = None, crops: int = 1
    ) -> None:
        """Load a checkpoint directory, or the folder of a run.

        Args:
            device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
            threads: of PyTorch, for the whole process; None is 1 on a CPU.
            crops: how many crops of each image are looked at (a key of reading.CROPS).

        Raises:
            UserError: bad checkpoint, or of a network that finds no poses; CUDA asked for and absent; impossible choice.
        """
        self.device = choose_device(device)
        if crops not in CROPS or (threads is not None and threads < 1):
            raise UserError(
                f"crops is {crops} and threads {threads}; choose {', '.join(map(str, CROPS))} and at least 1"
            )
        loaded = load_checkpoint(checkpoint_directory(Path(checkpoint)))
        model = pose_network(loaded)
        if self.device == "cpu":
            torch.set_num_threads(threads or 1)
        self.name = str(loaded.architecture["network"])
        self.camera, self.image_size = loaded.camera, model.image_size
        self.map_frame, self.camera_frame = loaded.map_frame, loaded.camera_frame
        self._view = QueryView(loaded.camera, loaded.provenance.get("fit", "square"))
        self._reader = Reader(model, loaded.normalization, self.device, crops)

    def find(self, rgb: UInt8, camera: Camera) -> Estimate:
        """See :class:`Finder`."""
        return self.find_all([rgb], camera)[0]

    def find_all(self, images: Iterable[UInt8], camera: Camera) -> list[Estimate]:
        """The estimates of several images of one camera, together and so quicker on a GPU."""
        queries = [self._view.query(rgb, camera) for rgb in images]
        read = iter(self._reader.read([query for query in queries if not query.reason]))
        return [_refused(query) if query.reason else self._estimate(next(read)) for query in queries]

    def _estimate(self, reading: Reading) -> Estimate:
        return Estimate(reading.T_map_cam)


def pose_network(loaded: Checkpoint) -> PoseModel:
    """The network with its weights; UserError for one that finds no poses."""
    if not isinstance(loaded.network(), PoseModel):
        raise UserError(
            f"a network {loaded.architecture['network']!r} finds no poses; give a model trained with "
            "--model posegan or posenet"
        )
    model = loaded.build_model()
    assert isinstance(model, PoseModel)
    return model


def _refused(query: Query) -> Estimate:
    return Estimate(None, accepted=False, reason=query.reason)

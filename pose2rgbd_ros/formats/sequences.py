"""Sources of video as sequences of frames: our datasets."""

from __future__ import annotations

from pathlib import Path

from pose2rgbd_ros.dataset import layout, splits
from pose2rgbd_ros.dataset.made_depth import without_made_depth
from pose2rgbd_ros.dataset.reader import Dataset, cache_root, state
from pose2rgbd_ros.depth_from_images.snippets import Sequence
from pose2rgbd_ros.errors import UserError


def open_sequences(source: Path, hfov_deg: float | None = None) -> list[Sequence]:
    """The sequences of a source. UserError: there is none, or it is none that can be read."""
    if (source / layout.META).is_file():
        return [sequence_of_dataset(source)]
    raise UserError(f"{source} is no dataset")


def sequence_of_dataset(folder: Path) -> Sequence:
    """A dataset's frames. Depth that was made from its pictures is no truth, and left out."""
    dataset = without_made_depth(Dataset(folder))
    positions = dataset.T_map_cam[:, :3, 3]
    own = splits.default_split(folder, dataset.stamps_ns, positions) if (folder / layout.SPLIT).exists() else None
    return Sequence(
        name=folder.resolve().name,
        stamps_ns=dataset.stamps_ns,
        camera=dataset.camera,
        read_rgb=dataset.rgb,
        cache=cache_root(dataset),
        state=state(dataset),
        read_depth=dataset.depth if dataset.has_depth else None,
        depth_kind=dataset.depth_kind or "metric",
        T_map_cam=dataset.T_map_cam,
        split=own,
    )

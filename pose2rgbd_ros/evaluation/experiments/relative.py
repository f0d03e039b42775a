"""Depth without a unit, as a monocular depth network gives it: a stand-in made from a dataset with metric depth."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset import layout, splits
from pose2rgbd_ros.dataset.meta import DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.streams.samples import ImageSample

FACTORS = (10.0, 1000.0)  # metres that one unit of a recording may stand for


def write_relative_twin(source: Path, out: Path, seed: int) -> None:
    """Copy a dataset, its depth divided by a factor drawn for each recording and written down nowhere.

    Colour files, poses and the split are the source's. What an interrupted copy wrote stays and is completed.

    Raises:
        UserError: no dataset with depth at `source`; `out` holds something else; a full disk.
    """
    dataset = Dataset(source)
    recording = splits.recordings(dataset.stamps_ns)
    low, high = np.log(FACTORS)
    factors = np.exp(np.random.default_rng(seed).uniform(low, high, recording.max() + 1))
    meta = dataclasses.replace(dataset.meta, depth=DepthMeta(kind="relative"), sources=[])
    with DatasetWriter(out, meta, resume=(out / layout.META).exists()) as writer:
        writer.begin_source(f"{source.resolve().name}, its depth without a unit")
        for index, (stamp_ns, factor) in enumerate(zip(dataset.stamps_ns, factors[recording], strict=True)):
            if int(stamp_ns) in writer:
                continue
            file = (source / dataset.records[index].rgb).read_bytes()
            image = ImageSample.from_compressed(int(stamp_ns), dataset.meta.camera_frame, file)
            depth = (dataset.depth(index) / factor).astype(np.float32)
            writer.add(int(stamp_ns), dataset.T_map_cam[index], image, depth)
    if (source / layout.SPLIT).exists():
        shutil.copyfile(source / layout.SPLIT, out / layout.SPLIT)

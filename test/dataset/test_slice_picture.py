"""Depth slices of a dataset's frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pose2rgbd_ros.cli import data as command
from pose2rgbd_ros.dataset.inspect import draw_slices, slice_of
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.pose2rgbd.learner import slice_target


def test_slices_are_those_the_network_learns():
    depth = np.random.default_rng(0).uniform(3.0, 60.0, (16, 16)).astype(np.float32)
    depth[0, 0], depth[0, 1], depth[0, 2] = np.nan, 3.0, 60.0
    encoded = torch.from_numpy((depth - 3.0) / 57.0 * 2 - 1)[None]
    target, known = slice_target(encoded, 4, 16)
    index = slice_of(depth, 3.0, 60.0, 4)
    learned = np.where(known[0, 0].numpy(), target[0].argmax(dim=0).numpy(), -1)
    assert (index == learned).mean() > 0.99  # float32 rounding may differ at a bound
    assert index[0, :3].tolist() == [-1, 0, 3]


def test_command_draws_every_slice(flight_dataset, tmp_path, capsys):
    path = flight_dataset(tmp_path / "flight", frames=12)
    assert command.inspect_main([str(path), "--slices", "4"]) == 0
    assert "slices.png" in capsys.readouterr().out
    picture = cv2.imread(str(path / "inspect" / "slices.png"))
    assert picture.shape[1] > 6 * 100
    assert picture.std() > 10


def test_refusals(flight_dataset, tmp_path):
    colour = Dataset(flight_dataset(tmp_path / "colour", frames=6, depth_kind=None))
    with pytest.raises(UserError, match="no depth"):
        draw_slices(colour, tmp_path / "no.png")
    with pytest.raises(UserError, match="2 to 16"):
        draw_slices(Dataset(flight_dataset(tmp_path / "metric", frames=6)), tmp_path / "no.png", slices=1)

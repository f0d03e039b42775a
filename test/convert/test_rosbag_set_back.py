"""A clock that is set back while a bag is recorded: whatever becomes of the frames, none has the pose of another
time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose2rgbd_ros.bags.messages import StampedTransform
from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.reader import Dataset

SECOND = 1_000_000_000
SET_BACK_AT_S, BY_S = 7, 3


def set_back(flight, tf: bool):
    """All stamps of what is received from 7 s on are 3 s less."""

    def spoil(make, entries):
        for i, (received_ns, topic, message) in enumerate(entries):
            if topic == "/odom" and tf:
                pose = StampedTransform(received_ns, "map", "base_link", *flight.body_pose(received_ns))
                message = make.tf_message([pose])
                entries[i] = (received_ns, "/tf", message)
            if topic == "/tf_static" or received_ns < flight.start_ns + SET_BACK_AT_S * SECOND:
                continue
            for part in getattr(message, "transforms", [message]):
                part.header.stamp.sec -= BY_S
        return entries

    flight.spoil = spoil
    return flight


@pytest.mark.parametrize(("tf", "stamps"), [(False, "header"), (True, "header"), (True, "auto")])
def test_no_frame_has_a_pose_of_the_other_time(flight, tmp_path: Path, tf: bool, stamps: str) -> None:
    recorded = set_back(flight(frames=120), tf)
    report = convert([recorded.write(tmp_path / "bag")], tmp_path / "out", ConvertConfig(stamps=stamps))
    dataset = Dataset(tmp_path / "out")
    assert len(dataset) == (120 if stamps == "auto" else 60)  # auto joins the stamps
    for stamp, T in zip(dataset.stamps_ns.tolist(), dataset.T_map_cam, strict=True):
        times = stamp, stamp + BY_S * SECOND  # of the first time, or joined on; else of the second
        assert any(np.allclose(T, recorded.T_map_cam(time), atol=1e-6) for time in times)
    by_pose = (dataset.T_map_cam[:, 0, 3] - dataset.T_map_cam[0, 0, 3]) / 2  # it flies 2 m/s along x
    assert len(np.unique(by_pose.round(2))) == len(dataset)
    assert sum(report.rejects.values()) + len(dataset) == recorded.frames
    assert any("was set" in note or "time_jump" in note for note in [*report.notes, *report.warnings])

"""Imports that are killed, gone on with, and added to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import foreign_datasets as foreign

from pose2rgbd_ros.dataset.layout import read_split
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats.importing import import_datasets
from pose2rgbd_ros.formats.settings import ImportConfig


def long_source(root: Path, frames: int) -> None:
    """A Cambridge scene of many large pictures, so that an import takes a while."""
    head = "Visual Landmark Dataset V1\nImageFile, Camera Position [X Y Z W P Q R]\n\n"
    foreign.write_image(root / "seq1/frame00001.png", 1)
    rows = []
    for i in range(frames):
        image = root / f"seq1/frame{i + 1:05d}.png"
        if i:
            os.link(root / "seq1/frame00001.png", image)
        rows.append(f"seq1/{image.name} {i} 0 0 1 0 0 0\n")
    foreign.write(root / "dataset_train.txt", head + "".join(rows))
    foreign.write(root / "dataset_test.txt", head)


def test_a_killed_import_goes_on(tmp_path: Path) -> None:
    long_source(tmp_path / "source", 900)
    out = tmp_path / "out"
    code = "import sys; from pose2rgbd_ros.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "import", str(tmp_path / "source"), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 400
    while not (out / "rgb").is_dir() or len(list((out / "rgb").iterdir())) < 50:
        assert process.poll() is None, "it was over before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = len(Dataset(out))
    assert 40 <= survived < 900
    with pytest.raises(UserError, match="--resume"):
        import_datasets([tmp_path / "source"], out)
    report = import_datasets([tmp_path / "source"], out, ImportConfig(resume=True))
    assert report.frames_already_there == survived
    assert report.frames_written == 900 - survived
    dataset = Dataset(out)
    np.testing.assert_allclose(dataset.T_map_cam[:, 0, 3], np.arange(900))
    assert set(read_split(out / "split.txt", dataset.stamps_ns)) == {"train"}


def test_a_source_is_added_later_and_splits_stay(tmp_path: Path) -> None:
    for name in "abc":
        foreign.cambridge(tmp_path / name)
    (tmp_path / "c/dataset_test.txt").unlink()
    out, config = tmp_path / "out", ImportConfig(resume=True)
    import_datasets([tmp_path / "a"], out)
    collided = import_datasets([tmp_path / "a"], out, config)
    assert (collided.frames_written, collided.frames_already_there) == (0, 4)
    foreign.write(
        tmp_path / "b/dataset_test.txt", (tmp_path / "b/dataset_test.txt").read_text().replace(" 20 ", " 21 ")
    )
    foreign.write(
        tmp_path / "b/dataset_train.txt", (tmp_path / "b/dataset_train.txt").read_text().replace(" 20 ", " 21 ")
    )
    with pytest.raises(UserError, match=r"4 duplicate_stamp .*--start-s"):
        import_datasets([tmp_path / "b"], out, config)
    import_datasets([tmp_path / "b"], out, ImportConfig(resume=True, start_s=100))
    import_datasets([tmp_path / "c"], out, ImportConfig(resume=True, start_s=200))
    dataset = Dataset(out)
    words = read_split(out / "split.txt", dataset.stamps_ns).tolist()
    assert words == ["train", "train", "test", "test"] * 2 + ["train", "train"]
    assert [source.name[0] for source in dataset.meta.sources] == ["a", "b", "c"]


def test_another_camera_does_not_belong(tmp_path: Path) -> None:
    foreign.colmap(tmp_path / "a")
    foreign.kitti(tmp_path / "b")
    with pytest.raises(UserError, match=r"04 does not belong with the others: .*another camera"):
        import_datasets([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert len(Dataset(tmp_path / "out")) == foreign.FRAMES

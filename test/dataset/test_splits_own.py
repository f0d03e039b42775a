"""split.txt: what is written is read again, every mistake is named with its line, and it outlives the writer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.inspect import held_out, inspect
from pose2rgbd_ros.dataset.layout import read_split, write_split
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import default_split, own_split, split_from_dict
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError

STAMPS = np.array([1_700_000_000_000_000_000, 1_700_000_000_033_333_333, 1_700_000_001_000_000_001])
LABELS = ["train", "test", "unused"]


@settings(max_examples=40)
@given(st.dictionaries(st.integers(0, 2**62), st.sampled_from(LABELS), min_size=1, max_size=30))
def test_what_is_written_is_read_again(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("split") / layout.SPLIT
    write_split(path, list(labels), list(labels.values()))  # in any order
    assert read_split(path, sorted(labels)).tolist() == [labels[stamp] for stamp in sorted(labels)]


def test_the_file_is_text_one_can_read_and_edit(tmp_path):
    path = tmp_path / layout.SPLIT
    write_split(path, STAMPS, LABELS)
    assert path.read_text().splitlines()[1:] == [
        "1700000000.000000000 train",
        "1700000000.033333333 test",
        "1700000001.000000001 unused",
    ]
    path.write_text(path.read_text().replace("unused", "test") + "\n# a remark\n")
    split = own_split(tmp_path, STAMPS)
    assert (split.train.tolist(), split.test.tolist(), split.name) == ([0], [1, 2], "dataset")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("1700000000.5 test", r"line 5: there is no frame at 1700000000.500000000"),
        ("1700000001.000000001 validate", r"line 5: 'validate' is none of: train, choose, test, unused"),
        ("1700000001.000000001", r"line 5: 1 fields; expected a stamp and one of"),
        ("1.7e9 train", r"line 5: '1.7e9' is no timestamp"),
        ("1700000001.000000001 test", r"line 5: the frame at 1700000001.000000001 was there before"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, wrong):
    path = tmp_path / layout.SPLIT
    write_split(path, STAMPS, LABELS)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=wrong) as told:
        read_split(path, STAMPS)
    assert str(path) in str(told.value)


def test_frames_left_out_are_counted(tmp_path):
    path = tmp_path / layout.SPLIT
    write_split(path, STAMPS[:1], LABELS[:1])
    with pytest.raises(UserError, match=r"says nothing of 2 frames, the first at 1700000000\.033333333"):
        read_split(path, STAMPS)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        read_split(path, STAMPS)
    path.unlink()
    with pytest.raises(UserError, match=r"split\.txt does not exist: the dataset brings no split"):
        read_split(path, STAMPS)


def test_bad_labels_are_not_written(tmp_path):
    path = tmp_path / layout.SPLIT
    for stamps, labels, wrong in [
        (STAMPS, [*LABELS[:2], "Test"], "cannot be 'Test'"),
        (STAMPS, LABELS[:2], "3 stamps but 2 labels"),
        (STAMPS[[0, 0, 1]], LABELS, "twice"),
    ]:
        with pytest.raises(UserError, match=wrong):
            write_split(path, stamps, labels)
    assert not path.exists()


def test_the_default_is_the_datasets_own_where_it_holds_something_out(tmp_path):
    stamps, position = STAMPS[0] + np.arange(40) * 10**8, np.arange(40)[:, None] * np.ones(3)
    assert default_split(tmp_path, stamps, position).name == "held_out_segments"
    labels = np.where(np.arange(40) // 10 == 2, "test", "train")
    write_split(tmp_path / layout.SPLIT, stamps, labels)
    assert default_split(tmp_path, stamps, position).test.tolist() == list(range(20, 30))
    write_split(tmp_path / layout.SPLIT, stamps, ["train"] * 40)
    assert default_split(tmp_path, stamps, position).name == "held_out_segments"
    with pytest.raises(UserError, match="no frame is 'test'"):
        own_split(tmp_path, stamps)


def test_frames_may_be_named_that_choose(tmp_path):
    labels = ["train", "test", "choose"]
    write_split(tmp_path / layout.SPLIT, STAMPS, labels)
    split = own_split(tmp_path, STAMPS)
    assert (split.train.tolist(), split.choose.tolist(), split.judge.tolist()) == ([0], [2], [1])


def test_whole_held_out_lines_choose_where_none_are_named(tmp_path):
    stamps = np.arange(90) * 100_000_000
    labels = np.where(np.arange(90) % 30 < 12, "test", "train")
    write_split(tmp_path / layout.SPLIT, stamps, labels)
    split = own_split(tmp_path, stamps)
    lines = [list(range(start, start + 12)) for start in (0, 30, 60)]
    assert split.judge.tolist() == lines[0] + lines[2]
    assert split.choose.tolist() == lines[1]
    again = split_from_dict(split.to_dict(), stamps, np.zeros((90, 3)), folder=tmp_path)
    assert again.choose.tolist() == lines[1]


def test_a_recipe_repeats_the_file_and_tells_when_it_changed(tmp_path):
    write_split(tmp_path / layout.SPLIT, STAMPS, LABELS)
    recorded = own_split(tmp_path, STAMPS).to_dict()
    again = split_from_dict(recorded, STAMPS, np.zeros((3, 3)), folder=tmp_path)
    assert again.to_dict() == recorded
    write_split(tmp_path / layout.SPLIT, STAMPS, LABELS[::-1])
    assert split_from_dict(recorded, STAMPS, np.zeros((3, 3)), folder=tmp_path).to_dict() != recorded


def test_resuming_leaves_the_split_alone_and_inspect_shows_it(tmp_path: Path, flight_dataset: Callable[..., Path]):
    folder = flight_dataset(tmp_path / "flight", frames=12)
    dataset = Dataset(folder)
    write_split(folder / layout.SPLIT, dataset.stamps_ns, ["train"] * 5 + ["unused"] * 2 + ["test"] * 5)
    before = (folder / layout.SPLIT).read_bytes()
    DatasetWriter(folder, dataset.meta, resume=True).close()
    assert (folder / layout.SPLIT).read_bytes() == before
    split = held_out(Dataset(folder))
    assert split is not None
    assert split.test.tolist() == [7, 8, 9, 10, 11]
    text = inspect(dataset).text
    assert "5 frames held out in 1 stretch (too few to choose by: they judge only); 5 for training (as split" in text

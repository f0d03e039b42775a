"""A sample of bench/fuzz_bags.py: damaged recordings are converted or refused in one line, and what is readable is
read.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support import bag_mutants

from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.errors import UserError

# 38, 56 and 83 ended in tracebacks of bz2, 1131 in one of a time beyond 64 bits; 1664 gave rows
# twice.
SAMPLE = (*range(18), 38, 56, 83, 1131, 1664)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, bytes, list[int]]]:
    return bag_mutants.make_wholes(tmp_path_factory.mktemp("whole"))


def count(path: Path) -> int:
    """Messages of known types that are found, readable or not."""
    with open_bag(path) as bag:
        known = [name for name, info in bag.topics.items() if info.type in bag_mutants.TYPES]
        return sum(1 for _ in bag.messages(known)) + sum(bag.unreadable.values())


@pytest.mark.parametrize("number", SAMPLE)
def test_a_damaged_recording_is_converted_or_refused(wholes, tmp_path: Path, number: int) -> None:
    mutant = bag_mutants.mutant(number, wholes)
    path = tmp_path / f"bag{mutant.suffix}"
    path.write_bytes(mutant.data)
    try:
        found = count(path)
    except UserError:
        found = 0
    assert found >= mutant.least, f"{mutant.kind}, {mutant.damage}"
    assert found <= 2 * len(wholes["db3"][2]), "nothing is read again and again"
    told = ""
    try:
        convert([path], tmp_path / "out", ConvertConfig(jobs=1))
    except UserError as error:
        told = str(error)
    assert "\n" not in told


@pytest.mark.parametrize("kind", ["ros1", "ros1 bz2", "mcap", "mcap, chunks packed", "db3"])
@pytest.mark.parametrize("part", [0.3, 0.62, 0.9])
def test_all_messages_before_a_cut_are_read(wholes, tmp_path: Path, kind: str, part: float) -> None:
    suffix, data, ends = wholes[kind]
    assert len(ends) > 100
    path = tmp_path / f"bag{suffix}"
    path.write_bytes(data[: int(part * len(data))])
    whole = sum(end <= part * len(data) for end in ends)
    assert whole > 10
    assert whole <= count(path) <= len(ends)


@pytest.mark.parametrize("kind", ["ros1", "ros1 bz2", "mcap", "mcap, chunks packed", "db3"])
def test_one_damaged_place_does_not_cost_what_follows(wholes, tmp_path: Path, kind: str) -> None:
    suffix, data, _ = wholes[kind]
    path, middle = tmp_path / f"bag{suffix}", len(data) // 2
    path.write_bytes(data[:middle] + bytes(3000) + data[middle + 3000 :])
    with open_bag(path) as bag:
        stamps = [stamp for _, stamp, _ in bag.messages([bag_mutants.ODOM])]
        told = bool(bag.problems or sum(bag.unreadable.values()))
    assert max(stamps) == bag_mutants.T0 + bag_mutants.FRAMES * bag_mutants.STEP, "the last one comes after the damage"
    assert len(stamps) >= 0.7 * (4 * bag_mutants.FRAMES + 1)
    assert told or len(stamps) == 4 * bag_mutants.FRAMES + 1

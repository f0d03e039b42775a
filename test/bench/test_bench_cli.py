"""`pose2rgbd bench`: Table 4 with tiny networks, and sets of pages by their commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pose2rgbd_ros.bench.table4 import PAPER, table4
from pose2rgbd_ros.cli import bench
from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.errors import UserError


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_table_4_of_tiny_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench table4 --size 32 --rounds 1 --batches 1 3 --networks base slice-10".split()
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert f"look at {tmp_path / 'table4.md'}" in capsys.readouterr().out
    text = (tmp_path / "table4.md").read_text()
    command = "pose2rgbd bench table4 --rounds 1 --batches 1 3 --networks base slice-10 --size 32"
    assert f"`{command}`" in text
    rows = {row["name"]: row for row in json.loads((tmp_path / "table4.json").read_text())["rows"]}
    for network in ("base", "slice-10"):
        assert rows[f"paper {network} parameters"]["value"] == PAPER[network].parameters
        for batch in (1, 3):
            fps = rows[f"{network} batch {batch} onnx"]
            assert fps["ratio"] == pytest.approx(fps["value"] / fps["baseline"])
            assert fps["share_of_limit"] == pytest.approx(fps["value"] / fps["limit"])
            arithmetic = rows[f"{network} batch {batch} onnx arithmetic"]
            assert arithmetic["value"] == pytest.approx(fps["value"] * rows[f"{network} operations"]["value"])
            assert arithmetic["unit"] == "GFLOP/s"
            for way in ("autograd", "eager", "onnx"):
                ram = rows[f"{network} batch {batch} {way} RAM grown"]
                assert ram["unit"] == "MB"
                assert ram["value"] <= rows[f"{network} batch {batch} {way} RAM peak"]["value"] + 0.5


def test_what_table_4_cannot_measure() -> None:
    with pytest.raises(UserError, match=r"slice-11.*choose of base"):
        table4("", networks=["slice-11"])
    with pytest.raises(UserError, match=r"batches \(0,\)"):
        table4("", batches=[0])


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two quick pages, one of which fails, and a slower one."""
    results = tmp_path / "bench" / "results"
    results.mkdir(parents=True)
    program = "import sys; from pathlib import Path; Path('made').open('a').write(' '.join(sys.argv[1:]) + chr(10))"
    (tmp_path / "bench" / "good.py").write_text(program)
    (tmp_path / "bench" / "bad.py").write_text("raise SystemExit(1)")
    (results / "sources.yaml").write_text(
        yaml.safe_dump(
            {
                "bad": {"set": "quick", "command": "python bench/bad.py"},
                "good": {"set": "quick", "command": "python bench/good.py --frames 3"},
                "slow": {"set": "full", "command": "python bench/good.py slow"},
                "strange": {"set": "alone", "command": "rm -r all"},
            }
        )
    )
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    return tmp_path


def test_a_set_makes_its_pages_and_names_those_that_failed(
    checkout: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["bench", "quick", "--out", "elsewhere"]) == 1
    assert (checkout / "made").read_text() == f"--frames 3 --out {Path('elsewhere').resolve()}\n"
    said = capfd.readouterr()
    assert "failed, or missed what it asks for: bad" in said.err
    assert "1 page of 2 done" in said.out
    assert main(["bench", "full", "--only", "slow", "good"]) == 0
    assert (checkout / "made").read_text().splitlines()[1:] == ["--frames 3", "slow"]


def test_a_set_can_be_looked_at_first(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "full", "--list"]) == 0
    assert "3 of 3: slow: python bench/good.py slow" in capfd.readouterr().out
    assert not (checkout / "made").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["quick", "--only", "none"], "has no page none; it has bad, good"),
        (["full", "--out", "x"], "--out is for the quick set"),
        (["full", "--only", "strange"], "must begin with python or pose2rgbd"),
    ],
)
def test_sets_refuse(checkout: Path, words: list[str], problem: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert problem in capfd.readouterr().err


def test_sets_need_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    assert main(["bench", "quick"]) == 2
    assert "run this in the checkout" in capfd.readouterr().err

"""Exports appear whole or not at all, replace only exports, and say what they leave out."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats.exporting import export_dataset
from pose2rgbd_ros.formats.importing import import_datasets
from pose2rgbd_ros.formats.settings import NAMES, ExportConfig
from pose2rgbd_ros.geometry.camera import Camera

LENS = Camera(24, 16, 20.5, 21.25, 11.3, 7.9, "rational_polynomial", (0.1, 0.02, 0, 0, 0, 0.05, 0, 0))


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_second_export_needs_to_be_asked_for(name: str, make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight, out = make_flight(), tmp_path / "out"
    export_dataset(flight, out, ExportConfig(format=name))
    before = files(out)
    assert ".lock" not in before
    with pytest.raises(UserError, match="--force"):
        export_dataset(flight, out, ExportConfig(format=name))
    (out / "extra").write_text("of the first")
    export_dataset(flight, out, ExportConfig(format=name, force=True))
    assert files(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["flight", "out"]


def test_folders_that_are_no_exports_are_left_alone(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight, other = make_flight(), tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    for force in (False, True):
        for out in (other, flight, flight / "inside", tmp_path):
            with pytest.raises(UserError, match="choose another folder"):
                export_dataset(flight, out, ExportConfig(format="tum", force=force))
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial/thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="in the way"):
        export_dataset(flight, tmp_path / "new", ExportConfig(format="tum"))
    assert (tmp_path / "new.partial/thesis.txt").read_text() == (other / "thesis.txt").read_text() == "mine"
    assert len(Dataset(flight)) == 8


def test_what_a_killed_export_left_is_cleared_and_a_running_one_is_not(
    make_flight: Callable[..., Path], tmp_path: Path
) -> None:
    flight, partial = make_flight(), tmp_path / "out.partial"
    partial.mkdir()
    (partial / "rgb").mkdir()
    (partial / "rgb/old.png").write_text("half")
    with (partial / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"):
            export_dataset(flight, tmp_path / "out", ExportConfig(format="tum"))
        assert (partial / "rgb/old.png").exists()
    export_dataset(flight, tmp_path / "out", ExportConfig(format="tum"))
    assert "rgb/old.png" not in files(tmp_path / "out")


def test_an_export_that_fails_half_way_leaves_nothing(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight, out = make_flight(jpeg=True), tmp_path / "out"
    export_dataset(flight, out, ExportConfig(format="tum"))
    before = files(out)
    (flight / Dataset(flight).records[5].rgb).write_bytes(b"no image")
    with pytest.raises(UserError, match="is not a readable image"):
        export_dataset(flight, out, ExportConfig(format="tum", force=True))
    assert files(out) == before
    assert not (tmp_path / "out.partial").exists()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("link", [False, True])
def test_a_full_disk_is_one_line(make_flight: Callable[..., Path], tiny_disk: Path, link: bool) -> None:
    with pytest.raises(UserError, match=r"no space left for .*; nothing was left behind"):
        export_dataset(make_flight(), tiny_disk / "out", ExportConfig(format="nerfstudio", link=link))
    assert not list(tiny_disk.iterdir())


def test_an_import_onto_a_full_disk_goes_on_elsewhere(
    make_flight: Callable[..., Path], tiny_disk: Path, tmp_path: Path
) -> None:
    export_dataset(make_flight(), tmp_path / "there", ExportConfig(format="tum"))
    with pytest.raises(UserError, match=r"no space left"):
        import_datasets([tmp_path / "there"], tiny_disk / "out")


def test_files_are_linked_when_asked_for(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight = Dataset(make_flight())
    for link in (False, True):
        out = tmp_path / f"out{link}"
        export_dataset(flight.path, out, ExportConfig(format="nerfstudio", link=link))
        image = out / f"images/{flight.stamps_ns[0]}.png"
        depth = out / f"depth/{flight.stamps_ns[0]}.png"
        for file, name in ((image, flight.records[0].rgb), (depth, str(flight.records[0].depth))):
            assert file.samefile(flight.path / name) == link


def test_jpeg_is_kept_where_that_is_allowed(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight = make_flight(jpeg=True)
    for keep, suffix in ((True, ".jpg"), (False, ".png")):
        out = tmp_path / f"out{keep}"
        export_dataset(flight, out, ExportConfig(format="7scenes", keep_jpeg=keep))
        assert (out / f"seq-01/frame-000000.color{suffix}").is_file()
        import_datasets([out], tmp_path / f"back{keep}")
        np.testing.assert_array_equal(Dataset(tmp_path / f"back{keep}").rgb(2), Dataset(flight).rgb(2))


@pytest.mark.parametrize("name", ["nerfstudio", "kitti", "euroc", "7scenes"])
def test_a_lens_the_format_cannot_describe_is_refused_or_undistorted(
    name: str, make_flight: Callable[..., Path], tmp_path: Path
) -> None:
    flight = Dataset(make_flight(camera=LENS))
    with pytest.raises(UserError, match=r"knows no distortion of this kind .* --undistort"):
        export_dataset(flight.path, tmp_path / "out", ExportConfig(format=name))
    export_dataset(flight.path, tmp_path / "out", ExportConfig(format=name, undistort=True))
    import_datasets([tmp_path / "out"], tmp_path / "back")
    back = Dataset(tmp_path / "back")
    assert back.camera == Camera(24, 16, 20.5, 21.25, 11.3, 7.9)
    # At the new image's pixel is what the old one shows along the same ray.
    pixel = np.array([[6, 4], [17, 11]])
    uv = LENS.project(back.camera.unproject(pixel))
    if back.has_depth:
        u, v = np.rint(uv).astype(int).T
        np.testing.assert_allclose(back.depth(2)[pixel[:, 1], pixel[:, 0]], flight.depth(2)[v, u], rtol=0, atol=1e-6)
    for (column, row), (u_, v_) in zip(pixel, uv, strict=True):
        window = flight.rgb(2)[int(v_) : int(v_) + 2, int(u_) : int(u_) + 2].astype(float)
        across = window[:, 0] * (1 - u_ % 1) + window[:, 1] * (u_ % 1)
        mixed = across[0] * (1 - v_ % 1) + across[1] * (v_ % 1)
        np.testing.assert_allclose(back.rgb(2)[row, column], mixed, atol=6)  # OpenCV mixes in steps of 1/32 pixel


@pytest.mark.parametrize("name", ["nerfstudio", "kitti", "euroc", "colmap"])
def test_formats_of_intrinsics_refuse_a_camera_without(
    name: str, make_flight: Callable[..., Path], tmp_path: Path
) -> None:
    flight = make_flight(camera=Camera(24, 16, 0, 0, 0, 0))
    with pytest.raises(UserError, match="needs intrinsics"):
        export_dataset(flight, tmp_path / "out", ExportConfig(format=name))
    assert not list(tmp_path.glob("out*"))


def test_the_split_of_our_training_is_lent_to_others(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight = make_flight(n=40)
    report = export_dataset(flight, tmp_path / "out", ExportConfig(format="cambridge", split="training"))
    test = (tmp_path / "out/dataset_test.txt").read_text().splitlines()[3:]
    train = (tmp_path / "out/dataset_train.txt").read_text().splitlines()[3:]
    assert len(test) == 8
    assert f"{40 - 8 - len(train)} frames of neither list left out" in report.notes
    plain = export_dataset(flight, tmp_path / "plain", ExportConfig(format="cambridge"))
    assert any("dataset_test.txt is empty" in note for note in plain.notes)


def test_recordings_and_labels_are_sequences_in_seven_scenes(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    labels = ["train", "train", "unused", "test", "test", "unused", "train", "train"]
    export_dataset(make_flight(split=labels), tmp_path / "out", ExportConfig(format="7scenes"))
    names = sorted(p.name for p in (tmp_path / "out").glob("seq-*"))
    assert names == [f"seq-{i:02d}" for i in range(1, 6)]
    assert (tmp_path / "out/TrainSplit.txt").read_text() == "sequence1\nsequence5\n"
    assert (tmp_path / "out/TestSplit.txt").read_text() == "sequence3\n"

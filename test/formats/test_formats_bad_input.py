"""Damaged foreign datasets: one line that names the file and the line, or frames counted by reason; never a
traceback.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from support import foreign_datasets as foreign

from pose2rgbd_ros.dataset.encode import BadFrame
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats.importing import ImportReport, import_datasets
from pose2rgbd_ros.formats.reading import read_depth
from pose2rgbd_ros.formats.settings import NAMES, ImportConfig


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., ImportReport]:
    """load(name, spoil, **options): import a hand-written dataset that `spoil(root)` has damaged."""

    def run(name: str, spoil: Callable[[Path], object], **options: object) -> ImportReport:
        foreign.WRITERS[name](tmp_path / "source")
        spoil(tmp_path / "source")
        return import_datasets([tmp_path / "source"], tmp_path / "out", ImportConfig(**options))

    return run


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    """A change of the first `old` in a text file."""

    def spoil(root: Path) -> None:
        content = (root / name).read_text()
        assert old in content
        (root / name).write_text(content.replace(old, new, 1))

    return spoil


def cut(name: str, characters: int) -> Callable[[Path], object]:
    """A file that lacks its end, as after a broken download."""
    return lambda root: (root / name).write_text((root / name).read_text()[:-characters])


COLMAP_IMAGES, COLMAP_CAMERAS = "sparse/0/images.txt", "sparse/0/cameras.txt"
TRUTH = "mav0/state_groundtruth_estimate0/data.csv"


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("tum", cut("groundtruth.txt", 30), r"groundtruth\.txt, line 25: 5 fields; expected 8"),
        ("tum", cut("rgb.txt", 26), r"rgb\.txt, line 7: 1 fields; expected 2"),
        ("tum", edit("rgb.txt", "1305031102.1", "yesterday"), r"rgb\.txt, line 4: 'yesterday.* no timestamp"),
        ("tum", edit("groundtruth.txt", " 20.0 ", " north "), r"groundtruth\.txt, line 4: .*'north'"),
        ("tum", edit("rgb.txt", "rgb/", "../rgb/"), r"rgb\.txt, line 4: \.\./rgb.* lies outside .*--outside"),
        ("tum", edit("rgb.txt", "rgb/", "/etc/rgb/"), r"line 4: /etc/rgb/.* lies outside"),
        ("tum", edit("rgb.txt", "1305031102.1", "9" * 30 + ".1"), r"line 4: the stamp 9+\.\d+ s is too large"),
        ("tum", lambda root: (root / "groundtruth.txt").write_bytes(b"\xff\xfe\0"), "cannot be read"),
        ("kitti", edit("poses/04.txt", "1.0", "x"), r"04\.txt, line 1: could not convert .*'x"),
        ("kitti", edit("sequences/04/times.txt", "1.0", "-1.0"), r"times\.txt, line 2: the time -1"),
        ("kitti", edit("sequences/04/times.txt", "e-01", "e+305"), r"times\.txt, line 2: the time 1\.037359e\+305"),
        ("kitti", cut("sequences/04/times.txt", 26), r"times\.txt has 2 lines, but there is a frame 2"),
        ("kitti", cut("sequences/04/calib.txt", 200), r"calib\.txt, line 3: \d+ fields; expected 12"),
        ("kitti", edit("sequences/04/calib.txt", "P2:", "Q2:"), r"calib\.txt has no matrix P2"),
        ("euroc", cut(TRUTH, 60), r"data\.csv, line 42: \d fields; expected 8"),
        ("euroc", edit("mav0/cam0/data.csv", "1403", "14o3"), r"cam0/data\.csv, line 2: '14o3.* no stamp in nano"),
        ("euroc", edit("mav0/cam0/sensor.yaml", "pinhole", "omni"), r"sensor\.yaml: camera_model 'omni'"),
        (
            "euroc",
            edit("mav0/cam0/sensor.yaml", "resolution: [", "resolution: [.inf] # ["),
            r"sensor\.yaml: cannot convert",
        ),
        ("euroc", edit("mav0/cam0/sensor.yaml", "T_BS", "T_SB"), r"sensor\.yaml: T_BS is no pose"),
        ("euroc", edit("mav0/cam0/sensor.yaml", "[20.0", "[20.0, 1.0"), r"sensor\.yaml: too many values"),
        ("euroc", lambda root: (root / TRUTH).unlink(), r"state_groundtruth_estimate0/data\.csv does not exist"),
        ("7scenes", edit("seq-01/frame-000001.pose.txt", "\t", "x"), r"000001\.pose\.txt, line 1: "),
        (
            "7scenes",
            edit("seq-01/frame-000001.pose.txt", "\t \n", "\n#"),
            r"000001\.pose\.txt has 3 lines of numbers; exp",
        ),
        ("7scenes", edit("camera-intrinsics.txt", "20.0", "0"), r"camera-intrinsics\.txt is no matrix of intr"),
        ("7scenes", edit("TestSplit.txt", "sequence2", "all"), r"TestSplit\.txt, line 1: 'all' names no sequence"),
        ("cambridge", cut("dataset_test.txt", 12), r"dataset_test\.txt, line 5: 6 fields; expected 8"),
        ("cambridge", edit("dataset_test.txt", " 20 ", " 20m "), r"dataset_test\.txt, line 4: .*'20m'"),
        ("colmap", edit(COLMAP_CAMERAS, "OPENCV", "FOV"), r"cameras\.txt, line 4: camera model FOV; known: "),
        ("colmap", edit(COLMAP_CAMERAS, " 0.002", ""), r"cameras\.txt, line 4: OPENCV has 8 parameters, not 7"),
        ("colmap", edit(COLMAP_CAMERAS, " 20 ", " nan "), r"cameras\.txt, line 4: focal lengths must be pos"),
        ("colmap", edit(COLMAP_CAMERAS, "1 OPENCV", "2 OPENCV"), r"cameras\.txt has no camera 1"),
        ("colmap", edit(COLMAP_IMAGES, "frame00003", "../../frame00003"), "lies outside"),
        ("nerfstudio", cut("transforms.json", 20), r"transforms\.json, line \d+: no JSON"),
        ("nerfstudio", edit("transforms.json", '"frames"', '"pictures"'), "has no list of frames"),
        ("nerfstudio", edit("transforms.json", '"file_path"', '"name"'), r"frames\[0\] has no file_path"),
        (
            "nerfstudio",
            edit("transforms.json", '": "images/frame_00002', '": "/root/2'),
            r"frames\[1\]: /root/2.* outside",
        ),
        ("nerfstudio", edit("transforms.json", "OPENCV", "EQUIRECTANGULAR"), "camera_model 'EQUIRECTANGULAR'"),
        ("nerfstudio", edit("transforms.json", '"k1"', '"k4"'), "k4 is not zero"),
        ("nerfstudio", edit("transforms.json", "20.0", '"wide"'), r"frames\[0\]: could not convert"),
        ("nerfstudio", edit("transforms.json", '"w": 16', '"w": 1e999'), r"frames\[0\]: cannot convert"),
    ],
)
def test_damaged_lists_are_one_line_with_file_and_line(
    load: Callable[..., ImportReport], tmp_path: Path, name: str, spoil: Callable[[Path], object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(name, spoil)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def _truncate_image(root: Path) -> None:
    file = root / "seq-02/frame-000001.color.png"
    file.write_bytes(file.read_bytes()[:100])


def _other_size(root: Path) -> None:
    image = np.zeros((20, 16, 3), np.uint8)
    cv2.imwrite(str(sorted((root / "seq2").iterdir())[-1]), image)


def _no_depth_of_one(root: Path) -> None:
    (root / "seq-01/frame-000001.depth.png").unlink()


def _cut_depth(root: Path) -> None:
    file = root / "seq-01/frame-000001.depth.png"
    file.write_bytes(file.read_bytes()[:-40])


def _three_channel_depth(root: Path) -> None:
    shutil.copy(root / "seq-01/frame-000001.color.png", root / "seq-01/frame-000001.depth.png")


def _intrinsics_of_its_own(root: Path) -> None:
    content = json.loads((root / "transforms.json").read_text())
    content["frames"][1]["fl_x"] = 99.0
    (root / "transforms.json").write_text(json.dumps(content))


def _second_camera(root: Path) -> None:
    edit(COLMAP_IMAGES, "1 frame00002", "2 frame00002")(root)
    with (root / COLMAP_CAMERAS).open("a") as file:
        file.write("2 PINHOLE 16 12 5 5 8 6\n")


@pytest.mark.parametrize(
    ("name", "spoil", "rejects"),
    [
        ("tum", lambda root: next((root / "rgb").iterdir()).unlink(), {"image_missing": 1}),
        ("tum", edit("depth.txt", "1305031102.171304", "1305031102.071304"), {"no_depth": 1}),
        ("tum", lambda root: (root / "depth.txt").unlink(), {}),
        ("tum", edit("groundtruth.txt", "20.0", "nan"), {}),  # neighbours bridge a single wrong pose
        ("tum", edit("rgb.txt", "1305031102.175304 ", "1305031199.175304 "), {"after_last_pose": 1}),
        ("kitti", edit("poses/04.txt", "1.000000e+00", "nan"), {"pose_invalid": 1}),
        ("kitti", edit("poses/04.txt", "1.000000e+00", "2.0"), {"pose_invalid": 1}),
        ("kitti", lambda root: (root / "sequences/04/image_2/000002.png").unlink(), {"image_missing": 1}),
        ("kitti", lambda root: foreign.write_image(root / "sequences/04/image_2/000004.png", 9), {"no_pose": 1}),
        ("euroc", edit("mav0/cam0/data.csv", "813555584,", "763555584,"), {"duplicate_stamp": 1}),
        ("7scenes", _truncate_image, {"image_unreadable": 1}),
        ("7scenes", _no_depth_of_one, {"no_depth": 1}),
        ("7scenes", _cut_depth, {"depth_unreadable": 1}),
        ("7scenes", _three_channel_depth, {"depth_unreadable": 1}),
        ("7scenes", edit("seq-02/frame-000000.pose.txt", "1.0000000e+00", "inf"), {"pose_invalid": 1}),
        ("7scenes", lambda root: (root / "seq-02/frame-000000.color.png").unlink(), {"image_missing": 1}),
        ("cambridge", _other_size, {"image_size": 1}),
        ("cambridge", edit("dataset_train.txt", str(foreign.H), "0"), {"pose_invalid": 1}),
        ("cambridge", edit("dataset_train.txt", " 0 0", " 5 0"), {"pose_invalid": 1}),
        ("cambridge", edit("dataset_test.txt", "3 0.7", "1e400 0.7"), {"pose_invalid": 1}),
        ("colmap", _second_camera, {"other_camera": 1}),
        ("colmap", lambda root: (root / "images/frame00002.png").unlink(), {"image_missing": 1}),
        ("nerfstudio", _intrinsics_of_its_own, {"other_camera": 1}),
        ("nerfstudio", edit("transforms.json", "-1.0", "-3.0"), {"pose_invalid": 1}),
        ("nerfstudio", edit("transforms.json", "-1.0", '"down"'), {"pose_invalid": 1}),
        ("nerfstudio", edit("transforms.json", "depth/frame_00001", "depth/none"), {"depth_missing": 1}),
    ],
)
def test_frames_that_cannot_be_used_are_counted(
    load: Callable[..., ImportReport],
    tmp_path: Path,
    name: str,
    spoil: Callable[[Path], object],
    rejects: dict[str, int],
) -> None:
    report = load(name, spoil)
    assert dict(report.rejects) == rejects
    expected = foreign.FRAMES - sum(rejects.values()) + ("no_pose" in rejects)
    assert report.frames_written == len(Dataset(tmp_path / "out")) == expected
    written = yaml.safe_load((tmp_path / "out/import_report.yaml").read_text())
    assert written["sources"][0]["rejects"] == rejects
    assert set(written["sources"][0]["examples"]) == set(rejects)


def test_nothing_usable_says_why(load: Callable[..., ImportReport]) -> None:
    with pytest.raises(UserError, match=r"no frame of .*source can be used: 4 before_first_pose \(first: .*line"):
        load("euroc", lambda root: (root / TRUTH).write_text("2403636579764555584,1,2,3,1,0,0,0\n"))


def test_files_elsewhere_only_when_allowed(load: Callable[..., ImportReport], tmp_path: Path) -> None:
    def spoil(root: Path) -> None:
        shutil.move(root / "images", tmp_path / "images")
        content = (root / "transforms.json").read_text()
        (root / "transforms.json").write_text(content.replace('"images/', '"../images/'))

    with pytest.raises(UserError, match="lies outside"):
        load("nerfstudio", spoil)
    report = import_datasets([tmp_path / "source"], tmp_path / "out", ImportConfig(outside=True))
    assert report.frames_written == foreign.FRAMES


def png_head(width: int, height: int) -> bytes:
    """A 16 bit PNG that says to be of this size, and holds next to nothing."""
    head = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def npy_head(height: int, width: int) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (height, width)})
    return file.getvalue() + bytes(64)


@pytest.mark.parametrize(("name", "data"), [("a.png", png_head(100_000, 100_000)), ("a.npy", npy_head(10**9, 10**6))])
def test_depth_files_that_claim_absurd_sizes_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadFrame) as refused:
        read_depth(0, tmp_path / name, 1.0, None)
    assert refused.value.reason == "depth_unreadable"


def test_what_is_no_known_format_is_told_from_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="of no known format"):
        import_datasets([tmp_path / "empty"], tmp_path / "out")
    foreign.tum(tmp_path / "source")
    import_datasets([tmp_path / "source"], tmp_path / "out")
    with pytest.raises(UserError, match="is a dataset already"):
        import_datasets([tmp_path / "out"], tmp_path / "again")
    with pytest.raises(UserError, match="not of format kitti; it looks like tum"):
        import_datasets([tmp_path / "source"], tmp_path / "again", ImportConfig(format="kitti"))
    with pytest.raises(UserError, match="--resume"):
        import_datasets([tmp_path / "source"], tmp_path / "out")


@pytest.mark.parametrize("name", NAMES)
def test_any_damage_of_lists_is_told_or_survived(name: str, tmp_path: Path) -> None:
    """Bytes changed, dropped, doubled at random: the import works or says one line."""
    source = tmp_path / "source"
    foreign.WRITERS[name](source)
    files = sorted(f for f in source.rglob("*") if f.suffix in (".txt", ".csv", ".json", ".yaml"))
    contents = {file: file.read_bytes() for file in files}
    rng = np.random.default_rng(7)
    outcomes = set()
    for mutant in range(15):
        file = files[rng.integers(len(files))]
        file.write_bytes(_mutated(contents[file], rng))
        try:
            import_datasets([source], tmp_path / f"out{mutant}", ImportConfig(with_depth=False))
            outcomes.add("survived")
        except UserError as error:
            outcomes.add("told" if "\n" not in str(error) else f"not one line: {error}")
        file.write_bytes(contents[file])
    assert outcomes <= {"survived", "told"}


_TOKENS = (b"nan", b"1e999", b"-", b"\0", b"\xff", b"\n", b" ", b"9" * 400, b"..", b'"', b"[", b"\xed\xa0\x80")


def _mutated(data: bytes, rng: np.random.Generator) -> bytes:
    at, kind = int(rng.integers(len(data))), int(rng.integers(4))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :]
    token = _TOKENS[rng.integers(len(_TOKENS))]
    return data[:at] + token + data[at + (int(rng.integers(1, 9)) if kind == 2 else 0) :]

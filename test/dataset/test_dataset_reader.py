"""A dataset read by other tools, and damaged datasets named by file and line."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.meta import DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera


def test_evo_reads_the_trajectory(make_dataset):
    evo_files = pytest.importorskip("evo.tools.file_interface")
    dataset = Dataset(make_dataset(9))
    trajectory = evo_files.read_tum_trajectory_file(dataset.path / layout.GROUNDTRUTH)
    np.testing.assert_allclose(trajectory.poses_se3, dataset.T_map_cam, atol=1e-9)
    np.testing.assert_allclose(trajectory.timestamps, dataset.stamps_ns / 1e9, rtol=0, atol=1e-6)


def test_the_associations_are_tums(make_dataset):
    """`timestamp rgb/file timestamp depth/file`, files there, colour and depth of one size."""
    path = make_dataset(3)
    for line in (path / layout.ASSOCIATIONS).read_text().splitlines():
        if line.startswith("#"):
            continue
        rgb_stamp, rgb, depth_stamp, depth = line.split(" ")
        assert float(rgb_stamp) == float(depth_stamp)
        assert cv2.imread(str(path / rgb)).shape[:2] == cv2.imread(str(path / depth), -1).shape == (24, 32)


def test_nerfstudio_gets_opengl_poses(make_dataset):
    """Its camera looks along -z with y up; an observer of the transforms must see the same points at the same
    pixels.
    """
    dataset = Dataset(make_dataset(5))
    content = json.loads((dataset.path / layout.TRANSFORMS).read_text())
    assert (content["w"], content["h"], content["camera_model"]) == (32, 24, "OPENCV")
    assert content["depth_unit_scale_factor"] == 0.001
    frames = sorted(content["frames"], key=lambda frame: frame["file_path"])
    assert [frame["file_path"] for frame in frames] == [record.rgb for record in dataset.records]
    assert [frame["depth_file_path"] for frame in frames] == [record.depth for record in dataset.records]
    point = np.array([0.3, -0.4, 1.2])  # in the map
    for frame, T_map_cam in zip(frames, dataset.T_map_cam, strict=True):
        T = np.array(frame["transform_matrix"])
        np.testing.assert_allclose(T @ np.diag([1, -1, -1, 1]), T_map_cam, atol=1e-12)
        x, y, z = np.linalg.inv(T)[:3] @ [*point, 1]
        u = content["fl_x"] * x / -z + content["cx"]
        v = content["fl_y"] * -y / -z + content["cy"]
        ours = dataset.camera.project(se3.transform_points(se3.inverse(T_map_cam), point))
        np.testing.assert_allclose([u, v], ours + 0.5, atol=1e-9)  # its pixel centres are at half integers


@pytest.mark.parametrize(
    ("model", "distortion", "expected"),
    [
        ("plumb_bob", (0.1, -0.2, 0.001, 0.002, 0.03), {"k1": 0.1, "k2": -0.2, "p1": 0.001, "p2": 0.002, "k3": 0.03}),
        ("equidistant", (0.1, 0.2, 0.3, 0.4), {"k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4}),
        ("rational_polynomial", (0.1, 0.2, 0.0, 0.0, 0.3, 0.1, 0.1, 0.1), None),
    ],
)
def test_distortion_is_written_where_nerfstudio_has_words_for_it(toy, tmp_path, model, distortion, expected):
    camera = Camera(32, 24, 30.0, 31.0, 15.2, 12.1, model, distortion)
    with DatasetWriter(tmp_path / "set", toy.meta(None, camera=camera)) as writer:
        writer.add(toy.stamp(0), toy.pose(toy.stamp(0)), toy.rgb(0))
    path = tmp_path / "set" / layout.TRANSFORMS
    if expected is None:
        assert not path.exists()
    else:
        content = json.loads(path.read_text())
        assert {key: value for key, value in content.items() if key[0] in "kp"} == expected
        assert content["camera_model"] == ("OPENCV_FISHEYE" if model == "equidistant" else "OPENCV")
    assert Dataset(tmp_path / "set").camera == camera


def test_an_uncalibrated_camera_makes_a_dataset_without_transforms(toy, tmp_path):
    with DatasetWriter(tmp_path / "set", toy.meta(None, camera=Camera(32, 24, 0, 0, 0, 0))) as writer:
        writer.add(toy.stamp(0), toy.pose(toy.stamp(0)), toy.rgb(0))
    assert not (tmp_path / "set" / layout.TRANSFORMS).exists()
    assert not Dataset(tmp_path / "set").camera.is_calibrated


def write_depths(toy, path, depths, depth_format="auto", kind="metric"):
    with DatasetWriter(path, toy.meta(kind), depth_format=depth_format) as writer:
        for t, depth in zip(map(toy.stamp, range(len(depths))), depths, strict=True):
            writer.add(t, toy.pose(t), toy.rgb(t), depth)
    return Dataset(path), writer


def plane(metres: float) -> np.ndarray:
    depth = np.full((24, 32), metres, np.float32) + np.linspace(0, 0.9, 32, dtype=np.float32)
    depth[3, 4] = np.nan
    return depth


@pytest.mark.parametrize(
    ("metres", "storage", "unit_m", "error_m"),
    [(4.0, "counts", 0.001, 0.0005), (80.0, "counts", 0.01, 0.005), (900.0, "float", None, 0.0)],
)
def test_the_unit_follows_the_depths(toy, tmp_path, metres, storage, unit_m, error_m):
    dataset, _ = write_depths(toy, tmp_path / "set", [plane(metres)])
    assert dataset.meta.depth == DepthMeta("metric", storage, unit_m)
    np.testing.assert_allclose(dataset.depth(0), plane(metres), atol=error_m * 1.01, rtol=0)


def test_a_drone_that_takes_off_loses_no_depth(toy, tmp_path):
    """The first frames fit millimetres, the later ones do not: all become float, and none loses a digit."""
    source = toy.depth_sample(toy.stamp(0))
    dataset, writer = write_depths(toy, tmp_path / "set", [source, plane(2.0), plane(120.0), plane(3.0)])
    assert dataset.meta.depth == DepthMeta("metric", "float", None)
    np.testing.assert_array_equal(dataset.depth(0), source.depth_m)
    np.testing.assert_array_equal(dataset.depth(2), plane(120.0))
    np.testing.assert_allclose(dataset.depth(3), plane(3.0), atol=0.00051)
    assert {p.suffix for p in (dataset.path / "depth").iterdir()} == {".tiff"}
    assert json.loads((dataset.path / layout.TRANSFORMS).read_text())["depth_unit_scale_factor"] == 1.0
    assert writer.too_far_pixels == 0


def test_a_fixed_unit_makes_too_far_unknown_and_counts_it(toy, tmp_path):
    dataset, writer = write_depths(toy, tmp_path / "set", [plane(65.0), plane(3.0)], "mm")
    beyond = plane(65.0) > 65.5355
    assert 0 < beyond.sum() == writer.too_far_pixels
    assert np.isnan(dataset.depth(0)[beyond]).all()
    assert dataset.meta.depth == DepthMeta("metric", "counts", 0.001)


@pytest.mark.parametrize(("depth_format", "unit_m"), [("cm", 0.01), ("float", None)])
def test_a_unit_can_be_asked_for(toy, tmp_path, depth_format, unit_m):
    dataset, _ = write_depths(toy, tmp_path / "set", [plane(3.0)], depth_format)
    assert dataset.meta.depth.unit_m == unit_m
    np.testing.assert_allclose(dataset.depth(0), plane(3.0), atol=(unit_m or 0) / 2 + 1e-6, rtol=0)


def test_unknown_first_depths_leave_the_unit_open(toy, tmp_path):
    nothing = np.full((24, 32), np.nan, np.float32)
    dataset, _ = write_depths(toy, tmp_path / "near", [nothing, plane(3.0)])
    assert dataset.meta.depth.unit_m == 0.001
    assert np.isnan(dataset.depth(0)).all()
    dataset, _ = write_depths(toy, tmp_path / "far", [nothing, plane(2000.0)])
    assert np.isnan(dataset.depth(0)).all()
    np.testing.assert_array_equal(dataset.depth(1), plane(2000.0))
    dataset, _ = write_depths(toy, tmp_path / "none", [nothing])
    assert np.isnan(dataset.depth(0)).all()


def test_relative_depth_never_looks_like_metres(toy, make_dataset):
    dataset = Dataset(make_dataset(2, depth="relative"))
    assert dataset.depth_kind == "relative"
    assert not (dataset.path / "depth").exists()
    assert {p.suffix for p in (dataset.path / "depth_relative").iterdir()} == {".tiff"}
    assert "depth" not in (dataset.path / layout.TRANSFORMS).read_text()
    expected = toy.counts(toy.stamp(1)) * np.float32(0.37)
    np.testing.assert_array_equal(dataset.depth(1), np.where(expected > 0, expected, np.nan))
    with pytest.raises(UserError, match="no unit"):
        DepthMeta("relative", "counts", 0.001)


def test_recordings_are_parted_by_pauses(toy, tmp_path):
    with DatasetWriter(tmp_path / "set", toy.meta(None)) as writer:
        for i in [*range(5), *range(100, 108)]:
            writer.add(toy.stamp(i), toy.pose(toy.stamp(i)), toy.rgb(i))
    assert [part.tolist() for part in Dataset(tmp_path / "set").segments()] == [list(range(5)), list(range(5, 13))]


def edit(path, name, old, new, count=1):
    text = (path / name).read_text()
    assert old in text
    (path / name).write_text(text.replace(old, new, count))


DAMAGES = {
    "no meta": (lambda p, t: (p / "meta.yaml").unlink(), "is not a dataset"),
    "newer format": (lambda p, t: edit(p, "meta.yaml", "format_version: 1", "format_version: 9"), "format 9"),
    "meta without a camera": (lambda p, t: edit(p, "meta.yaml", "camera:", "lens:"), "'camera' is missing"),
    "meta is a list": (lambda p, t: (p / "meta.yaml").write_text("[1, 2]"), "no YAML mapping"),
    "a code-carrying meta": (
        lambda p, t: (p / "meta.yaml").write_text("!!python/object/apply:os.system ['false']"),
        "cannot be read as YAML",
    ),
    "unknown depth kind": (lambda p, t: edit(p, "meta.yaml", "kind: metric", "kind: feet"), "depth of kind 'feet'"),
    "counts without a unit": (lambda p, t: edit(p, "meta.yaml", "unit_m: 0.001", "unit_m: null"), "needs unit_m"),
    "no associations": (lambda p, t: (p / "associations.txt").unlink(), "associations.txt does not exist"),
    "no poses": (lambda p, t: (p / "groundtruth.txt").unlink(), "groundtruth.txt does not exist"),
    "a line of three fields": (
        lambda p, t: edit(p, "associations.txt", f" depth/{t}.png", ""), "associations.txt, line 3: 3 fields",
    ),
    "a file outside": (
        lambda p, t: edit(p, "associations.txt", f"rgb/{t}.png", "rgb/../../x.png"), "lies outside the dataset",
    ),
    "a stamp that is none": (
        lambda p, t: edit(p, "associations.txt", f"{layout.stamp_text(t)} rgb", "soon rgb"), "no timestamp",
    ),
    "a NaN pose": (lambda p, t: edit(p, "groundtruth.txt", layout.stamp_text(t) + " ", f"{layout.stamp_text(t)} nan "),
                   "groundtruth.txt, line 3"),
    "a pose is missing": (lambda p, t: edit(p, "groundtruth.txt", layout.stamp_text(t), "5.000000000"),
                          "no pose for 1"),
    "an image is missing": (lambda p, t: (p / f"rgb/{t}.png").unlink(), "1 image file missing"),
    "text that is no text": (lambda p, t: (p / "associations.txt").write_bytes(b"\xff\xfe\n"), "cannot be read"),
    "no depth for a frame": (
        lambda p, t: edit(p, "associations.txt", f" {layout.stamp_text(t)} depth/{t}.png", ""), "has no depth image",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(toy, make_dataset, name):
    path = make_dataset(3)
    damage, message = DAMAGES[name]
    damage(path, toy.stamp(1))
    with pytest.raises(UserError, match=message) as caught:
        Dataset(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "0 bytes"), (b"\x89PNG", "not a readable image"), (None, "uint8 pixels")]
)
def test_damaged_depth_is_named(toy, make_dataset, content, message):
    dataset = Dataset(make_dataset(2))
    path = dataset.path / dataset.records[1].depth
    path.write_bytes(cv2.imencode(".png", toy.rgb(1))[1].tobytes() if content is None else content)
    with pytest.raises(UserError, match=message):
        dataset.depth(1)


def test_an_image_of_another_size_is_named(make_dataset):
    dataset = Dataset(make_dataset(2))
    cv2.imwrite(str(dataset.path / dataset.records[0].rgb), np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(UserError, match="10 x 10 pixels"):
        dataset.rgb(0)


def test_a_folder_that_is_no_dataset(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="is not a dataset"):
            Dataset(path)

"""What tools of Gaussian splatting open: COLMAP's binary files, judged by pycolmap, and points to begin from."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support import foreign_datasets as foreign

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats.colmap_model import MODELS, CameraRow, ImageRow, Model, Points, read_cameras, read_images
from pose2rgbd_ros.formats.exporting import export_dataset
from pose2rgbd_ros.formats.importing import import_datasets
from pose2rgbd_ros.formats.settings import ExportConfig, ImportConfig
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera

LABELS = ["train", "train", "unused", "test", "test", "unused", "train", "train"]
FEW = settings(max_examples=25, derandomize=True, deadline=None)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Cameras of several models, images with and without keypoints, points seen from anywhere or from nowhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = draw(st.lists(st.sampled_from(MODELS), min_size=1, max_size=3))
    cameras = [
        CameraRow(str(i + 1), name, 640, 480, tuple(rng.uniform(0.01, 500, count).tolist()))
        for i, (name, count) in enumerate(kinds)
    ]
    count = draw(st.integers(1, 5))
    ids = np.sort(rng.choice(1000, count, replace=False)) + 1
    quats_xyzw = Rotation.random(count, random_state=draw(st.integers(0, 99))).as_quat()
    names = draw(
        st.lists(
            st.from_regex(r"[abé./-]( ?[abé./-]){0,8}", fullmatch=True), min_size=count, max_size=count, unique=True
        )
    )
    images = [
        ImageRow(
            int(id_), (w, x, y, z), tuple(rng.normal(0, 1e4, 3).tolist()), str(rng.integers(len(cameras)) + 1), name
        )
        for id_, (x, y, z, w), name in zip(ids, quats_xyzw.tolist(), names, strict=True)
    ]
    points, seen = draw(st.integers(0, 6)), draw(st.integers(0, 20))
    seen = seen if points else 0
    return Model(
        cameras,
        images,
        Points(
            rng.normal(0, 1e3, (points, 3)),
            rng.integers(0, 256, (points, 3), dtype=np.uint8),
            rng.integers(0, max(points, 1), seen),
            rng.choice(ids, seen).astype(np.int64),
            rng.uniform(0, 400, (seen, 2)),
        ),
    )


def write(model: Model, folder: Path, end: str) -> None:
    for name, data in model.files().items():
        if name.endswith(end):
            (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


@FEW
@given(models())
def test_any_model_is_to_pycolmap_what_it_is_to_us(model: Model) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(model, folder, ".bin")
        theirs = pycolmap.Reconstruction(folder)
        assert {str(id_): (each.model.name, each.width, each.height, tuple(each.params)) for id_, each in
                theirs.cameras.items()} == {
            row.id: (row.model, row.width, row.height, row.params) for row in model.cameras
        }  # fmt: skip
        points = model.points
        assert theirs.num_images() == len(model.images)
        for row in model.images:
            image = theirs.images[row.id]
            assert (image.name, str(image.camera_id)) == (row.name, row.camera)
            pose = image.cam_from_world()
            np.testing.assert_allclose(pose.rotation.quat[[3, 0, 1, 2]], row.quat_wxyz, atol=1e-12)
            np.testing.assert_array_equal(pose.translation, row.translation)
            mine = points.of_image(row.id)
            assert [each.point3D_id for each in image.points2D] == (points.point[mine] + 1).tolist()
            np.testing.assert_array_equal(
                np.array([each.xy for each in image.points2D]).reshape(-1, 2), points.pixel[mine]
            )
        assert sorted(theirs.points3D) == list(range(1, len(points.xyz) + 1))
        for id_, point in theirs.points3D.items():
            np.testing.assert_array_equal(point.xyz, points.xyz[id_ - 1])
            np.testing.assert_array_equal(point.color, points.rgb[id_ - 1])
            # Of each element of a track COLMAP can find the keypoint, and there it is this point.
            seen = [theirs.images[each.image_id].points2D[each.point2D_idx] for each in point.track.elements]
            assert [each.point3D_id for each in seen] == [id_] * int((points.point == id_ - 1).sum())


@FEW
@given(models(), st.sampled_from([".txt", ".bin"]))
def test_what_is_written_is_read_again(model: Model, end: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        write(model, Path(name), end)
        cameras, images = read_cameras(Path(name)), read_images(Path(name))
    for row, back in zip(model.cameras, cameras.values(), strict=True):
        assert (back.id, back.model, back.width, back.height) == (row.id, row.model, row.width, row.height)
        np.testing.assert_allclose(back.params, row.params, rtol=1e-14)
    for image, again in zip(model.images, images, strict=True):
        assert (again.id, again.camera, again.name) == (image.id, image.camera, image.name)
        np.testing.assert_allclose(again.quat_wxyz + again.translation, image.quat_wxyz + image.translation, rtol=1e-14)


def test_a_binary_model_of_pycolmap_is_imported_like_its_text(tmp_path: Path) -> None:
    for name in ("text", "binary"):
        foreign.colmap(tmp_path / name)
    model = tmp_path / "binary/sparse/0"
    (model / "images.txt").write_text((model / "images.txt").read_text().replace("8.5 6.5 -1 3.25 4.0 -1", ""))
    theirs = pycolmap.Reconstruction()
    theirs.read_text(str(model))
    for file in model.glob("*.txt"):
        file.unlink()
    theirs.write_binary(str(model))
    found = []
    for name in ("text", "binary"):
        import_datasets([tmp_path / name], tmp_path / f"{name}-out", ImportConfig(format="colmap"))
        found.append(Dataset(tmp_path / f"{name}-out"))
    assert found[0].camera == found[1].camera
    assert found[0].stamps_ns.tolist() == found[1].stamps_ns.tolist()
    np.testing.assert_allclose(found[0].T_map_cam, found[1].T_map_cam, atol=1e-9)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_a_binary_file_cut_anywhere_is_one_line(name: str, make_flight: Callable[..., Path], tmp_path: Path) -> None:
    export_dataset(make_flight(n=2), tmp_path / "there", ExportConfig(format="colmap", points=3))
    model = tmp_path / "there/sparse/0"
    for file in model.glob("*.txt"):
        file.unlink()
    whole = (model / name).read_bytes()
    for length in range(0, len(whole), 7):
        (model / name).write_bytes(whole[:length])
        with pytest.raises(UserError, match=rf"{name} ends too early, after {length} bytes"):
            import_datasets([tmp_path / "there"], tmp_path / "out")
    (model / name).unlink()
    with pytest.raises(
        UserError, match="of no known format" if name == "images.bin" else r"cameras\.bin cannot be read"
    ):
        import_datasets([tmp_path / "there"], tmp_path / "out")


def test_a_camera_model_that_colmap_does_not_know_is_told(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    export_dataset(make_flight(n=2), tmp_path / "there", ExportConfig(format="colmap"))
    model = tmp_path / "there/sparse/0"
    (model / "images.txt").unlink()
    data = bytearray((model / "cameras.bin").read_bytes())
    data[12:16] = (99).to_bytes(4, "little")
    (model / "cameras.bin").write_bytes(data)
    with pytest.raises(UserError, match=r"cameras\.bin, camera 1: camera model number 99 is unknown"):
        import_datasets([tmp_path / "there"], tmp_path / "out", ImportConfig(format="colmap"))


@pytest.mark.parametrize("lens", ["none", "plumb_bob"])
def test_pycolmap_sees_the_points_of_an_export_at_their_keypoints(
    lens: str, make_flight: Callable[..., Path], tmp_path: Path
) -> None:
    camera = Camera(24, 16, 20.5, 21.25, 11.3, 7.9, lens, (0.1, -0.02, 0.001, 0.002) if lens != "none" else ())
    flight = Dataset(make_flight(camera=camera, split=LABELS))
    export_dataset(flight.path, tmp_path / "there", ExportConfig(format="colmap", points=300))
    model = tmp_path / "there/sparse/0"
    text = pycolmap.Reconstruction()
    text.read_text(str(model))
    binary = pycolmap.Reconstruction()
    binary.read_binary(str(model))
    assert binary.num_images() == text.num_images() == 6
    assert binary.num_points3D() == text.num_points3D() == 300
    assert binary.compute_mean_reprojection_error() == pytest.approx(0, abs=1e-6)
    for id_, image in binary.images.items():
        assert text.images[id_].name == image.name
        assert len(image.points2D) == (0 if LABELS[id_ - 1] == "test" else 75)
        for keypoint in image.points2D:
            pixel = image.project_point(binary.points3D[keypoint.point3D_id].xyz)
            np.testing.assert_allclose(pixel, keypoint.xy, atol=1e-6)


def vertices_of(ply: Path) -> np.ndarray:
    """By the letter of the header, as any reader of PLY does it."""
    header, _, body = ply.read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [(line.split()[2], kinds[line.split()[1]]) for line in lines if line.startswith("property")]
    vertices = np.frombuffer(body, fields)
    assert f"element vertex {len(vertices)}" in lines
    return vertices


def test_nerfstudio_begins_from_points_of_frames_that_train(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight = Dataset(make_flight(split=LABELS))
    export_dataset(flight.path, tmp_path / "there", ExportConfig(format="nerfstudio", points=400))
    content = json.loads((tmp_path / "there/transforms.json").read_text())
    vertices = vertices_of(tmp_path / "there" / content["ply_file_path"])
    assert len(vertices) == 400
    xyz = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(float)
    rgb = np.stack([vertices[colour] for colour in ("red", "green", "blue")], axis=1)
    mine = np.zeros(len(xyz), int)
    for i, label in enumerate(LABELS):
        # The point lies as far as recorded at the pixel through which the frame sees it, with that pixel's colour.
        at = se3.transform_points(se3.inverse(flight.T_map_cam[i]), xyz)
        uv = flight.camera.project(at)
        column, row = np.nan_to_num(uv, nan=-9).round().astype(int).T
        inside = (column >= 0) & (column < 24) & (row >= 0) & (row < 16)
        column, row = column[inside], row[inside]
        same = np.abs(flight.depth(i)[row, column] - at[inside, 2]) < 1e-3
        same &= (flight.rgb(i)[row, column] == rgb[inside]).all(axis=1)
        assert same.sum() == (100 if label == "train" else 0)
        mine[np.flatnonzero(inside)[same]] += 1
    assert (mine == 1).all()


def test_points_of_an_alignment_go_before_those_of_depth(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    """Four points, of which the third is seen by a frame that is held out and one other, the last by one alone."""
    flight = Dataset(make_flight(split=LABELS))
    points = se3.transform_points(flight.T_map_cam[0], np.array([[0, 0, 30], [1, 0, 29], [2, 1, 31], [-1, 1, 30.0]]))
    point, frame = np.array([0, 1, 2, 3, 0, 1, 2, 0]), np.array([0, 0, 0, 0, 1, 1, 3, 6])
    seen = np.arange(16.0).reshape(8, 2)
    colours = np.arange(12, dtype=np.uint8).reshape(4, 3)
    np.savez_compressed(
        flight.path / "sparse_points.npz", points=points.astype(np.float32), colors=colours,
        track_length=np.array([3, 2, 2, 1]), seen_stamp_ns=flight.stamps_ns[frame], seen_point=point, seen_px=seen,
    )  # fmt: skip
    export_dataset(flight.path, tmp_path / "all", ExportConfig(format="colmap"))
    model = pycolmap.Reconstruction(tmp_path / "all/sparse/0")
    found = {tuple(each.color): each for each in model.points3D.values()}
    assert set(found) == {(0, 1, 2), (3, 4, 5)}, "two training frames see these"
    np.testing.assert_allclose(found[0, 1, 2].xyz, points[0], atol=1e-4)
    assert sorted(each.image_id for each in found[0, 1, 2].track.elements) == [1, 2, 7]
    np.testing.assert_array_equal(model.images[2].points2D[1].xy, seen[5] + 0.5)
    export_dataset(flight.path, tmp_path / "one", ExportConfig(format="nerfstudio", points=1))
    assert vertices_of(tmp_path / "one/sparse_pc.ply")["red"].tolist() == [0], "the one that most frames see"
    (flight.path / "sparse_points.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(UserError, match=r"sparse_points\.npz cannot be read"):
        export_dataset(flight.path, tmp_path / "bad", ExportConfig(format="colmap"))


def test_without_depth_there_is_nothing_to_begin_from(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    for depth, count in ((None, 50), ("relative", 50), ("mm", 0)):
        flight = make_flight(name=f"flight-{depth}", depth=depth)
        export_dataset(flight, tmp_path / f"out-{depth}", ExportConfig(format="nerfstudio", points=count))
        assert "ply_file_path" not in json.loads((tmp_path / f"out-{depth}/transforms.json").read_text())
        assert not (tmp_path / f"out-{depth}/sparse_pc.ply").exists()

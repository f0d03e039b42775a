"""Depth of a dataset by the name of its source: networks in ONNX files, models that learn from it first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import toy_video

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset import made_depth
from pose2rgbd_ros.dataset.meta import PosesMeta, read_meta, write_meta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.depth import resize_nearest
from pose2rgbd_ros.models.depth_sources import DepthSettings, LearningSettings, add_depth_by
from pose2rgbd_ros.models.teacher import OnnxDepth, TeacherSettings

OPSET = helper.make_opsetid("", 17)


def export(
    path: Path,
    inputs: list[Any] = [1, 3, "h", "w"],  # noqa: B006 - not changed
    weights: tuple[float, float, float] = (1.0, 10.0, 100.0),
    metadata: dict[str, str] | None = None,
    squeezed: bool = False,
    pooled: int = 1,
) -> Path:
    """A network whose every number is w . (red, green, blue) of its input there; or of blocks of pixels."""
    is_nchw = inputs[-3] == 3
    nodes, constants = [], []
    last = "image"
    if len(inputs) == 3:
        constants.append(numpy_helper.from_array(np.array([0], np.int64), "batch"))
        nodes.append(helper.make_node("Unsqueeze", [last, "batch"], [last := "batched"]))
    if not is_nchw:
        nodes.append(helper.make_node("Transpose", [last], [last := "nchw"], perm=[0, 3, 1, 2]))
    if pooled > 1:
        nodes.append(
            helper.make_node("AveragePool", [last], [last := "pooled"], kernel_shape=[1, pooled], strides=[1, pooled])
        )
    constants.append(numpy_helper.from_array(np.array(weights, np.float32).reshape(1, 3, 1, 1), "w"))
    nodes.append(helper.make_node("Conv", [last, "w"], [last := "map" if squeezed else "depth"]))
    if squeezed:
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "channel"))
        nodes.append(helper.make_node("Squeeze", ["map", "channel"], ["depth"]))
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[OPSET], ir_version=9)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, str(path))
    return path


STATED = {"depth_output": "depth", "depth_normalisation": "levels"}
IMAGE = np.random.default_rng(0).integers(1, 255, (32, 64, 3)).astype(np.uint8)
EXPECTED = IMAGE.astype(np.float32) @ np.array([1.0, 10.0, 100.0], np.float32)


@pytest.mark.parametrize(
    ("inputs", "squeezed"),
    [([1, 3, "h", "w"], False), (["n", 3, 32, 64], True), ([1, "h", "w", 3], False), ([3, 32, 64], True)],
)
def test_images_are_given_as_the_file_takes_them(tmp_path: Path, inputs: list[Any], squeezed: bool) -> None:
    method = OnnxDepth.of_file(export(tmp_path / "a.onnx", inputs, metadata=STATED, squeezed=squeezed))
    np.testing.assert_allclose(method.depth_of(IMAGE), EXPECTED, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("unit", lambda levels: levels / 255),
        ("signed", lambda levels: levels / 127.5 - 1),
        ("imagenet", lambda levels: (levels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ],
)
def test_colours_are_normalised_as_is_said(tmp_path: Path, name: str, of: Callable[[np.ndarray], np.ndarray]) -> None:
    file = export(tmp_path / "a.onnx", metadata={"depth_output": "depth"})
    found = OnnxDepth.of_file(file, TeacherSettings(normalisation=name)).depth_of(IMAGE)  # type: ignore[arg-type]
    expected = of(IMAGE.astype(np.float64)) @ [1.0, 10.0, 100.0]
    np.testing.assert_allclose(found, np.where(expected > 0, expected, np.nan), rtol=1e-4, atol=1e-3)


def test_inverse_depth_is_turned_over_and_zero_is_nowhere(tmp_path: Path) -> None:
    method = OnnxDepth.of_file(export(tmp_path / "a.onnx", metadata=STATED), TeacherSettings(output="inverse"))
    image = IMAGE.copy()
    image[:16] = 0
    known = np.isfinite(method.depth_of(image))
    assert not known[:16].any()
    assert known[16:].all()
    np.testing.assert_allclose(method.depth_of(IMAGE), 1 / EXPECTED, rtol=1e-5)


def test_a_fixed_size_is_kept_and_a_free_one_is_a_multiple(tmp_path: Path) -> None:
    fixed = OnnxDepth.of_file(export(tmp_path / "a.onnx", [1, 3, 24, 40], metadata=STATED))
    assert fixed.depth_of(IMAGE).shape == (24, 40)
    with pytest.raises(
        UserError, match=r"takes images of 40 x 24 pixels, which would stretch these of 64 x 16 by 2\.4"
    ):
        fixed.depth_of(IMAGE[:16])
    free = OnnxDepth.of_file(export(tmp_path / "b.onnx", metadata=STATED), TeacherSettings(size=50, multiple=14))
    assert free.depth_of(IMAGE).shape == (28, 56)


def test_what_a_file_does_not_say_is_not_guessed(tmp_path: Path) -> None:
    file = export(tmp_path / "a.onnx")
    with pytest.raises(UserError, match=r"does not say what its numbers are: --teacher\.output depth\|inverse"):
        OnnxDepth.of_file(file)
    with pytest.raises(UserError, match=r"how images are to be given: --teacher\.normalisation imagenet\|unit"):
        OnnxDepth.of_file(file, TeacherSettings(output="inverse"))
    file = export(tmp_path / "b.onnx", metadata={"depth_output": "disparity?"})
    with pytest.raises(UserError, match="says 'disparity\\?', which is not known"):
        OnnxDepth.of_file(file)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ([4, 3, 32, 64], "for 4 images at once"),
        ([1, 32, 3, 64], "no image of three colours"),
        ([1, 3, 32, "w"], "fixes one side"),
    ],
)
def test_what_is_no_depth_network_is_refused(tmp_path: Path, inputs: list[Any], problem: str) -> None:
    node = helper.make_node("Identity", ["image"], ["depth"])
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, inputs) for name in ("image", "depth")]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[OPSET], ir_version=9), str(tmp_path / "a.onnx"))
    with pytest.raises(UserError, match=problem):
        OnnxDepth.of_file(tmp_path / "a.onnx", TeacherSettings("depth", "unit"))


def test_a_map_of_another_shape_and_a_file_that_is_none(tmp_path: Path) -> None:
    method = OnnxDepth.of_file(export(tmp_path / "a.onnx", metadata=STATED, pooled=2))
    with pytest.raises(UserError, match="gives a map of 32 x 32 for an image of 64 x 32"):
        method.depth_of(IMAGE)
    (tmp_path / "b.onnx").write_text("no graph")
    with pytest.raises(UserError, match=r"b\.onnx: ONNX Runtime cannot run the graph"):
        OnnxDepth.of_file(tmp_path / "b.onnx")
    with pytest.raises(UserError, match="does not exist"):
        OnnxDepth.of_file(tmp_path / "c.onnx")


# In datasets.


@pytest.fixture
def painted(tmp_path: Path, flight_dataset: Callable[..., Path]) -> tuple[Path, np.ndarray]:
    """A dataset whose red is inverse depth (255 at 1 m and nearer), so that a network can read it there; and depth."""
    truth = Dataset(flight_dataset(tmp_path / "truth", frames=60))
    folder = flight_dataset(tmp_path / "flight", frames=60, depth_kind=None)
    depth = np.stack([truth.depth(i) for i in range(len(truth))])
    for record, one, index in zip(Dataset(folder).records, depth, range(60), strict=True):
        image = truth.rgb(index)
        image[..., 0] = np.nan_to_num(np.rint(255 * 4 / np.maximum(one, 4)))
        cv2.imwrite(str(folder / record.rgb.replace(".jpg", ".png")), image[..., ::-1])
    assert Dataset(folder).records[0].rgb.endswith(".png"), "levels are kept"
    return folder, depth


def off(found: Dataset, truth: np.ndarray) -> float:
    """Depth found, in true ones (median)."""
    some = range(0, len(found), 7)
    return float(np.nanmedian([found.depth(i) / resize_nearest(truth[i], *found.depth(i).shape[::-1]) for i in some]))


def reader(path: Path) -> Path:
    return export(path, weights=(1.0, 0.0, 0.0), metadata={"depth_output": "inverse", "depth_normalisation": "unit"})


def test_a_teachers_depth_gets_metres_of_the_poses(painted: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    folder, truth = painted
    assert main(["depth", "add", str(folder), "--method", str(reader(tmp_path / "a.onnx"))]) == 0
    found = Dataset(folder)
    assert found.depth_kind == "metric"
    assert off(found, truth) == pytest.approx(1, rel=0.08)
    made = read_meta(folder).depth.made  # type: ignore[union-attr]
    assert made is not None
    assert (made.method, made.settings["file"], made.settings["output"]) == ("teacher", "a.onnx", "inverse")
    assert made_depth.confidence(found, 3) is not None


def test_of_poses_without_a_unit_depth_gets_theirs_and_stays_relative(
    painted: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, truth = painted
    meta = read_meta(folder)
    meta.poses = PosesMeta(position="pictures", orientation="pictures", unit="none")
    write_meta(folder, meta)
    found = add_depth_by(folder, str(reader(tmp_path / "a.onnx")), DepthSettings(), progress=False)
    assert found.depth_kind == "relative"
    assert off(found, truth) == pytest.approx(1, rel=0.1), "in the unit of the poses"
    assert not read_meta(folder).has_metres


def test_a_model_by_name_learns_from_the_dataset_first(
    tmp_path: Path, flight_dataset: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = flight_dataset(tmp_path / "flight", frames=60, depth_kind=None)
    with toy_video.registered(tmp_path_factory.mktemp("families")):
        learning = LearningSettings(depth_minutes=0.02, depth_width=32, depth_stride=1)
        found = add_depth_by(folder, "toyvideo", DepthSettings(learning), progress=False)
    assert found.has_depth
    assert (tmp_path / "flight-toyvideo/checkpoint/weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("deepv2d", "deepv2d learns from true depth, which a video has not: train it on simulated flights"),
        ("nothing", "there is no source of depth 'nothing': stereo, plane-sweep, sfmlearner"),
        ("no.onnx", "no.onnx does not exist"),
    ],
)
def test_what_cannot_be_a_source_is_refused_before_the_work(
    tmp_path: Path, how: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(tmp_path / "flight.mp4"), str(tmp_path / "out"), "--depth", how]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""Errors of found poses, what rejections do to them, and the files they go to."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.poses import MeanPose, cumulative, localize, scores, to_grey, write_csv
from pose2rgbd_ros.experiments import localization as paper
from pose2rgbd_ros.experiments.saliency import strength, structure_of
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.estimate import Estimate


class Off:
    """Finds every pose a metre east of and 30 degrees turned from where it is; refuses some frames."""

    name = "off"

    def __init__(self, dataset: Dataset) -> None:
        self._poses = iter(dataset.T_map_cam)
        self._count = 0

    def find(self, rgb: UInt8, camera: Camera) -> Estimate:
        T = next(self._poses).copy()
        T[0, 3] += 1.0
        T[:3, :3] = T[:3, :3] @ Rotation.from_euler("z", 30, degrees=True).as_matrix()
        self._count += 1
        if self._count == 2:
            return Estimate(None, accepted=False, reason='it is "black"')
        return Estimate(T, accepted=self._count != 3, reason="far" if self._count == 3 else "")


def test_errors_are_metres_and_degrees_and_rejections_are_counted(
    tmp_path: Path, flight_dataset: Callable[..., Path]
) -> None:
    dataset = Dataset(flight_dataset(tmp_path / "flight", frames=6))
    said = localize(Off(dataset), dataset, np.arange(6))
    found = np.array([True, False, True, True, True, True])
    np.testing.assert_allclose(said.position_m[found], 1.0)
    np.testing.assert_allclose(said.rotation_deg[found], 30.0, atol=1e-6)
    assert np.isnan([said.position_m[1], said.rotation_deg[1]]).all()
    told = said.scores()
    assert (told["frames"], told["rejected"]) == (6, 2)
    assert told["median_position_m"] == pytest.approx(1.0)
    assert told["within_5_m_10_deg"] == 0.0
    write_csv(tmp_path / "frames.csv", said)
    rows = list(csv.DictReader((tmp_path / "frames.csv").open()))
    assert [row["accepted"] for row in rows] == ["1", "0", "0", "1", "1", "1"]
    assert rows[1]["found_x"] == ""
    assert rows[1]["reason"] == 'it is "black"'
    assert float(rows[0]["found_x"]) - float(rows[0]["true_x"]) == pytest.approx(1.0, abs=1e-6)
    assert [int(row["stamp_ns"]) for row in rows] == dataset.stamps_ns.tolist()
    assert said.part(found).scores()["rejected"] == 1


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 180), st.booleans()), min_size=1, max_size=30))
def test_refusing_a_frame_never_helps_the_figures_of_all_frames(rows: list[tuple[float, float, bool]]) -> None:
    metres, degrees, accepted = (np.array(column) for column in zip(*rows, strict=True))
    everything, some = scores(metres, degrees, np.ones(len(rows), bool)), scores(metres, degrees, accepted)
    for name, value in some.items():
        if name.startswith("within"):
            assert value <= everything[name]
        if name.startswith("median_all"):
            assert value >= everything[name]
    at = np.array([0.0, 1.0, 10.0, 200.0])
    curve = cumulative(metres, accepted, at)
    assert (np.diff(curve) >= 0).all()
    assert curve[-1] == pytest.approx(accepted.mean())


def test_grey_is_the_luma_in_all_channels() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    grey = to_grey(rgb)
    assert (grey == grey[..., :1]).all()
    np.testing.assert_allclose(grey[..., 0], rgb @ [0.299, 0.587, 0.114], atol=0.5001)
    np.testing.assert_array_equal(to_grey(grey), grey)


def test_the_mean_pose_is_in_the_middle(tmp_path: Path, flight_dataset: Callable[..., Path]) -> None:
    dataset = Dataset(flight_dataset(tmp_path / "flight", frames=5))
    estimate = MeanPose(dataset.T_map_cam[:3]).find(dataset.rgb(0), dataset.camera)
    assert estimate.T_map_cam is not None
    np.testing.assert_allclose(estimate.T_map_cam[:3, 3], dataset.T_map_cam[:3, :3, 3].mean(axis=0))


def test_structure_keeps_edges_and_drops_what_goes_to_and_fro() -> None:
    side = 48
    image = np.full((side, side, 3), 60.0)
    image[:, side // 2 :] = 180.0
    checks = 25.0 * (-1.0) ** np.add.outer(np.arange(side), np.arange(side))
    checked = (image + checks[..., None]).clip(0, 255).astype(np.uint8)
    structure = structure_of(checked)
    clean = image / 255
    assert np.abs(structure - clean).mean() < 0.15 * np.abs(checked / 255 - clean).mean()
    edges = strength(structure)
    assert edges[:, side // 2 - 1 : side // 2 + 1].mean() > 20 * edges[:, 4 : side // 2 - 4].mean()
    flat = np.full((16, 20, 3), 90, np.uint8)
    np.testing.assert_allclose(structure_of(flat), 90 / 255, atol=1e-9)


@pytest.mark.parametrize(
    ("names", "scene"),
    [
        (["out", "rgbd_7scenes_redkitchen"], "redkitchen"),
        (["Kings_College"], "KingsCollege"),
        (["flight"], None),
        (["overheads", "box_office2"], None),
    ],
)
def test_the_papers_scene_is_told_by_its_name(names: list[str], scene: str | None) -> None:
    assert paper.scene_of(names) == scene


def test_the_papers_figures_are_as_printed() -> None:
    assert paper.printed("posegan", "redkitchen") == (0.26, 8.23)
    assert paper.printed("posegan-a", "StMarysChurch") == (2.67, 7.89)
    assert paper.printed("structure", "chess") == (0.04, 1.96)
    assert paper.printed("posenet-resnet", "stairs", grey=True) == (0.65, 18.22)
    assert paper.printed("posegan-b", "chess", grey=True) is None
    assert paper.printed("posegan", None) is None
    for table in (paper._TABLE_1, paper._TABLE_2):
        assert {len(row.split()) for row in table.values()} == {len(paper.PAPER_SCENES)}

"""Trajectories of other tools, read, paired and measured: as evo does on the same files, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evo.core import metrics, sync
from evo.tools import file_interface

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.odometry import OdometryProtocol, Paired, PairingSettings, odometry_metrics, pair
from pose2rgbd_ros.formats.trajectories import read_pose_list
from pose2rgbd_ros.geometry import se3

RATE_HZ, START_S = 20.0, 1_403_636_579.75
FRAMES = 200


def _path(frames: int = FRAMES, seed: int = 0, noise: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    twists = np.column_stack([np.full(frames - 1, 0.1), np.zeros((frames - 1, 4)), rng.normal(0, 0.05, frames - 1)])
    twists += np.random.default_rng(9).normal(0, 1, twists.shape) * noise * np.array([1, 1, 1, 0.1, 0.1, 0.1])
    T = [np.eye(4)]
    for step in se3.exponential(twists):
        T.append(T[-1] @ step)
    return np.array(T)


def _stamps(frames: int = FRAMES, late_s: float = 0.0) -> np.ndarray:
    return START_S + late_s + np.arange(frames) / RATE_HZ


def _tum(path: Path, stamps_s: np.ndarray, T: np.ndarray) -> Path:
    position, quat = se3.split(T)
    np.savetxt(path, np.column_stack([stamps_s, position, quat]), header="timestamp tx ty tz qx qy qz qw")
    return path


def _euroc(path: Path, stamps_s: np.ndarray, T: np.ndarray) -> Path:
    position, quat = se3.split(T)
    lines = ["#timestamp, p_RS_R_x [m], ..."]
    for stamp, p, (x, y, z, w) in zip(stamps_s, position, quat, strict=True):
        lines.append(",".join([str(round(stamp * 1e9)), *map(repr, map(float, [*p, w, x, y, z]))]))
    path.write_text("\n".join(lines) + "\n")
    return path


def _kitti(path: Path, T: np.ndarray, numbers: np.ndarray | None = None) -> Path:
    rows = T[:, :3].reshape(-1, 12)
    if numbers is not None:
        rows = np.column_stack([numbers, rows])
    np.savetxt(path, rows, fmt="%.9e")
    return path


MOVED = se3.exponential([3.0, -2, 1, 0.3, 0.2, 1.1])
TRUE = MOVED @ _path()
FOUND = _path(noise=0.01)
FOUND[:, :3, 3] *= 0.4  # monocular


@pytest.mark.parametrize(
    ("alignment", "evo_scale", "evo_align"), [("7dof", True, True), ("6dof", False, True), ("scale_7dof", True, False)]
)
@pytest.mark.parametrize("estimate", ["tum", "kitti"])
def test_evo_agrees(tmp_path: Path, estimate: str, alignment: str, evo_scale: bool, evo_align: bool) -> None:
    if estimate == "tum":  # at 20 Hz and a few milliseconds late, of which some frames are missing
        kept = np.r_[0:90, 120:200]
        files = (
            _tum(tmp_path / "true.txt", _stamps(), TRUE),
            _tum(tmp_path / "found.txt", _stamps(late_s=0.004)[kept], FOUND[kept]),
        )
        theirs = sync.associate_trajectories(*map(file_interface.read_tum_trajectory_file, files), max_diff=0.01)
    else:
        files = _kitti(tmp_path / "true.txt", TRUE), _kitti(tmp_path / "found.txt", FOUND)
        theirs = tuple(map(file_interface.read_kitti_poses_file, files))
    paired, notes = pair(*map(read_pose_list, files))
    ours = odometry_metrics(paired, OdometryProtocol(alignment=alignment, lengths_m=(2.0, 4.0)))
    truth, found = theirs
    for trajectory in theirs:  # evo's way of laying first frames on each other
        trajectory.transform(np.linalg.inv(trajectory.poses_se3[0]))
    found.align(truth, correct_scale=evo_scale, correct_only_scale=not evo_align)
    ape = metrics.APE(metrics.PoseRelation.translation_part)
    ape.process_data((truth, found))
    for name, statistic in (
        ("ate_m", "rmse"),
        ("ate_mean_m", "mean"),
        ("ate_median_m", "median"),
        ("ate_max_m", "max"),
    ):
        assert ours[name] == pytest.approx(ape.get_statistic(metrics.StatisticsType(statistic)), rel=1e-6)
    assert ours["scale"] == pytest.approx(1 / 0.4 if evo_scale else 1, rel=0.1)
    if estimate == "tum":
        assert notes == ["1 gap, the longest of 1.55 s after 4.45 s; steps and snippets across one are left out"]
        return  # evo's relative errors step across the gap
    for relation, name in (("translation_part", "rpe_{}_m"), ("rotation_angle_deg", "rpe_{}_deg")):
        rpe = metrics.RPE(metrics.PoseRelation[relation], delta=1, delta_unit=metrics.Unit.frames, all_pairs=True)
        rpe.process_data((truth, found))
        rmse = rpe.get_statistic(metrics.StatisticsType.rmse)
        assert ours[name.format("rmse")] == pytest.approx(rmse, rel=1e-5)
        mean = rpe.get_statistic(metrics.StatisticsType.mean)
        assert ours[name.replace("_{}", "")] == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("sequence", ["09", "10"])
def test_evo_agrees_on_a_published_result(real_data: Path, sequence: str) -> None:
    """Also the public tool's ATE, which is the same figure."""
    files = [real_data / "kitti_odometry" / f"{name}_{sequence}.txt" for name in ("gt", "example_1")]
    paired, _ = pair(*map(read_pose_list, files))
    ours = odometry_metrics(paired)
    truth, found = map(file_interface.read_kitti_poses_file, map(str, files))
    found.align(truth, correct_scale=True)
    ape = metrics.APE(metrics.PoseRelation.translation_part)
    ape.process_data((truth, found))
    assert ours["ate_m"] == pytest.approx(ape.get_statistic(metrics.StatisticsType.rmse), rel=1e-5)
    rpe = metrics.RPE(metrics.PoseRelation.translation_part, delta=1, delta_unit=metrics.Unit.frames, all_pairs=True)
    rpe.process_data((truth, found))
    assert ours["rpe_rmse_m"] == pytest.approx(rpe.get_statistic(metrics.StatisticsType.rmse), rel=1e-5)


def test_every_format_says_the_same(tmp_path: Path) -> None:
    stamps_ns = np.round(_stamps() * 1e9).astype(np.int64)
    times = tmp_path / "times.txt"
    np.savetxt(times, np.arange(FRAMES + 3) / RATE_HZ)
    files = {
        "tum": read_pose_list(_tum(tmp_path / "a.txt", _stamps(), TRUE)),
        "euroc": read_pose_list(_euroc(tmp_path / "b.csv", _stamps(), TRUE)),
        "kitti": read_pose_list(_kitti(tmp_path / "c.txt", TRUE)),
        "numbered": read_pose_list(_kitti(tmp_path / "d.txt", TRUE, np.arange(FRAMES) + 3)),
        "timed": read_pose_list(tmp_path / "d.txt", times),
    }
    for name, poses in files.items():
        np.testing.assert_allclose(poses.T_world_cam, TRUE, atol=1e-7, err_msg=name)
        assert poses.is_timed == (name in ("tum", "euroc", "timed"))
    assert np.abs(files["tum"].key - stamps_ns).max() < 1000  # evo's seconds have a microsecond's digits
    np.testing.assert_array_equal(files["euroc"].key, stamps_ns)
    np.testing.assert_array_equal(files["numbered"].key, np.arange(FRAMES) + 3)
    np.testing.assert_allclose(files["timed"].key / 1e9, 0.15 + np.arange(FRAMES) / RATE_HZ)
    both, notes = pair(files["kitti"], files["numbered"])
    assert len(both) == FRAMES - 3
    assert notes == [
        "3 poses of 200 of the estimate have no partner", "3 poses of 200 of the reference have no partner",
    ]  # fmt: skip
    late, _ = pair(files["tum"], files["timed"], PairingSettings(time_offset_s=START_S))
    assert len(late) == FRAMES - 3


def test_folders_that_hold_a_trajectory(tmp_path: Path) -> None:
    (tmp_path / "mav0/state_groundtruth_estimate0").mkdir(parents=True)
    _euroc(tmp_path / "mav0/state_groundtruth_estimate0/data.csv", _stamps(), TRUE)
    assert read_pose_list(tmp_path).format == "euroc"
    _tum(tmp_path / "groundtruth.txt", _stamps(), TRUE)
    assert read_pose_list(tmp_path).format == "tum"
    with pytest.raises(UserError, match="is a folder without poses; name the trajectory file"):
        read_pose_list(tmp_path / "mav0")


GOOD = "1.0 0 0 0 0 0 0 1\n1.1 1 0 0 0 0 0 1\n"
MATRIX = "1 0 0 0 0 1 0 0 0 0 1 0\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "holds no poses"),
        ("# nothing\n\n", "holds no poses"),
        ("1 2 3\n", "lines of 3 values: no trajectory of a known format; known are TUM"),
        ("a,b,c\n", "lines of 3 values"),
        (GOOD + "1.2 2 0 0 0 0 1\n", "line 3: 7 fields; expected 8"),
        (GOOD + "1.2 2 0 0 0 0 0 x\n", "line 3: could not convert"),
        (GOOD + "1.2 2 0 nan 0 0 0 1\n", "pose 3 is not finite; leave out"),
        (GOOD + "1.2 2 0 0 0 0 0 inf\n", "pose 3 is not finite"),
        (GOOD + "1.2 2 0 0 0 0 0 0.5\n", "pose 3 has length 0.5, not 1; are the columns in another order"),
        (GOOD + "1.1 2 0 0 0 0 0 1\n", "the stamp of pose 3 does not come after the one before; sort the file"),
        (GOOD + "-1 2 0 0 0 0 0 1\n", "line 3: the stamp -1 s is negative"),
        ("1403636579763555584 0 0 0 0 0 0 1\n", "line 1: the stamp 1403636579763555584 s is too large for seconds"),
        (GOOD + "later 2 0 0 0 0 0 1\n", "line 3: 'later' is no timestamp"),
        (GOOD + "nan 2 0 0 0 0 0 1\n", "line 3: 'nan' is no timestamp"),
        (MATRIX * 2 + "1 0 0 0 0 1 0 0 0 0 1\n", "line 3: 11 values, where the lines before have 12"),
        (MATRIX + "1 0 0 0 0 1 0 0 0 0 2 0\n", "matrix of pose 2 holds no rotation; is it written row by row"),
        (MATRIX + "1 0 0 0 0 1 0 0 0 0 -1 0\n", "matrix of pose 2 holds no rotation"),
        ("0 " + MATRIX + "0 " + MATRIX, "the frame number of pose 2 does not come after"),
        ("0.5 " + MATRIX, "line 1: 0.5 is no number of a frame"),
        ("1.5,0,0,0,1,0,0,0\n", "line 1: '1.5' is no stamp in nanoseconds"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "poses.txt"
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        read_pose_list(file)
    assert what in str(refused.value)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_trajectories_that_do_not_meet_are_refused(tmp_path: Path) -> None:
    true = read_pose_list(_tum(tmp_path / "true.txt", _stamps(), TRUE))
    early = read_pose_list(_tum(tmp_path / "early.txt", np.arange(FRAMES) / RATE_HZ, FOUND))
    with pytest.raises(
        UserError, match=r"0 poses in common: 0.000 to 9.950 s against 1403636579.750 .*--time-offset-s"
    ):
        pair(true, early)
    numbered = read_pose_list(_kitti(tmp_path / "numbered.txt", FOUND))
    with pytest.raises(UserError, match=r"numbered.txt has no stamps, and the other has; give its times"):
        pair(true, numbered)
    after = read_pose_list(_kitti(tmp_path / "after.txt", FOUND, np.arange(FRAMES) + 198))
    with pytest.raises(UserError, match="2 poses in common: frames 198 to 397 against 0 to 199"):
        pair(numbered, after)
    np.savetxt(tmp_path / "times.txt", np.arange(9) / RATE_HZ)
    with pytest.raises(UserError, match=r"times.txt has 9 times, and .*numbered.txt a frame 199"):
        read_pose_list(tmp_path / "numbered.txt", tmp_path / "times.txt")
    with pytest.raises(UserError, match=r"nowhere.txt does not exist"):
        read_pose_list(tmp_path / "nowhere.txt")


def test_a_reference_of_another_rate(tmp_path: Path) -> None:
    """Of a reference at ten times the rate each pose gets the nearest, and steps are the estimate's."""
    fine = read_pose_list(_tum(tmp_path / "true.txt", START_S + np.arange(2000) / 200, _path(2000)))
    coarse = read_pose_list(_tum(tmp_path / "found.txt", _stamps(late_s=0.001), _path(2000)[::10]))
    paired, notes = pair(fine, coarse)
    assert (len(paired), notes) == (FRAMES, [])
    assert isinstance(paired, Paired)
    assert paired.follows.all()
    assert odometry_metrics(paired)["ate_max_m"] < 1e-6

"""`pose2rgbd run VIDEO LOG`: the clock that the aligned track corrects, and how sure the page says each step is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.aerial import DATUM, nadir_pose, write_video

from pose2rgbd_ros.cli import run
from pose2rgbd_ros.cli.run import RunConfig, Steps, _by_track, _convert
from pose2rgbd_ros.cli.run_page import PAGE, write_run_page
from pose2rgbd_ros.cli.trust import CALIBRATED, CLOCK, TRUST, Trust, _graded
from pose2rgbd_ros.convert.settings import ConvertConfig, VideoSettings
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta, MadeDepth, PosesMeta, read_meta, write_meta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import enu_to_wgs84
from pose2rgbd_ros.settings import read_yaml, write_yaml

SECOND = 10**9
BEGUN_NS = 1_714_564_800 * SECOND  # 2024-05-01 12:00:00 UTC
LATE_S = 2.6
CONFIG = RunConfig(
    convert=ConvertConfig(datum=(DATUM.latitude_deg, DATUM.longitude_deg, DATUM.altitude_m), body_to_camera="nadir",
                          max_fix_gap_s=3.0, fov_deg=62.0),
    video=VideoSettings(max_rate_hz=2.0),
)  # fmt: skip


def pose(seconds: float) -> np.ndarray:
    """A way that bends and changes its speed."""
    return nadir_pose(6 * seconds - 14 * np.cos(0.4 * seconds), 25 * np.sin(0.23 * seconds), 40.0, 90.0)


def record(folder: Path) -> list[Path]:
    """A video, and a log of 1 m of noise whose clock is ahead."""
    write_video(folder / "a.mp4", pose, 40.0, rate_hz=2.0, metadata={"creation_time": "2024-05-01T12:00:00.000000Z"})
    seconds = np.arange(-15.0, 56.0)
    place = np.array([pose(float(t))[:3, 3] for t in seconds])
    place += np.random.default_rng(1).normal(size=place.shape)
    rows = [
        f'<trkpt lat="{latitude:.9f}" lon="{longitude:.9f}"><ele>{altitude:.3f}</ele>'
        f"<time>{str(np.datetime64(BEGUN_NS + round(1e9 * (t + LATE_S)), 'ns'))[:23]}Z</time></trkpt>"
        for t, latitude, longitude, altitude in zip(seconds, *enu_to_wgs84(place, DATUM), strict=True)
    ]
    gpx = '<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>'
    (folder / "a.gpx").write_text(f"{gpx}{''.join(rows)}</trkseg></trk></gpx>")
    return [folder / "a.mp4", folder / "a.gpx"]


def as_if_aligned(folder: Path) -> None:
    """Exact poses, which the meta calls those of structure from motion."""
    dataset = Dataset(folder)
    lines = [layout.pose_line(int(stamp), pose((stamp - BEGUN_NS) / SECOND)) for stamp in dataset.stamps_ns]
    layout.atomic_write(folder / layout.GROUNDTRUTH, "".join(f"{line}\n" for line in lines).encode())
    write_meta(
        folder, replace(dataset.meta, poses=replace(dataset.meta.poses or PosesMeta(), position="sfm, placed by gps"))
    )


def test_the_aligned_track_corrects_the_clock_once(tmp_path: Path) -> None:
    sources, dataset = record(tmp_path), tmp_path / "run" / "dataset"
    given = replace(CONFIG, video=replace(CONFIG.video, clock="creation"))  # quicker than by flow, and wrong
    for config, applied in ((CONFIG, True), (given, False)):
        steps = Steps(tmp_path / "run", True)
        _convert(steps, sources, dataset, given)
        as_if_aligned(dataset)
        better = _by_track(steps, sources, dataset, tmp_path / "run", config)
        clock = read_yaml(tmp_path / "run" / CLOCK)
        assert abs(clock["offset_s"] - LATE_S) < 0.15
        assert clock["sigma_s"] < 0.1
        assert (clock["applied"], better is not None) == (applied, applied)
        if better is None:  # what the user gave stays
            continue
        _convert(steps, sources, dataset, better, "convert by the clock of the track")
        found = Dataset(dataset)
        exact = np.array([pose((stamp - BEGUN_NS) / SECOND)[:3, 3] for stamp in found.stamps_ns])
        assert np.median(np.linalg.norm(found.T_map_cam[:, :3, 3] - exact, axis=1)) < 3.0
        assert read_meta(dataset).poses.image_time_offset_s == pytest.approx(clock["offset_s"], abs=1e-3)  # type: ignore[union-attr]
        as_if_aligned(dataset)
        again = Steps(tmp_path / "run", False)
        _convert(again, sources, dataset, given)
        assert _by_track(again, sources, dataset, tmp_path / "run", config) == better  # known from before


def test_where_the_corrected_clock_does_not_align_the_first_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, dataset = record(tmp_path), tmp_path / "run" / "dataset"
    wrong = replace(CONFIG, video=replace(CONFIG.video, clock="creation"))
    steps, aligned = Steps(tmp_path / "run", True), list[str]()

    def align(run_step: object, folder: Path, wanted: str, later_min: float, name: str) -> None:
        aligned.append(name)
        if name == "align as at first":
            as_if_aligned(folder)

    monkeypatch.setattr(run, "align_dataset", align)
    _convert(steps, sources, dataset, wrong)
    as_if_aligned(dataset)
    run._correct_clock(steps, sources, dataset, tmp_path / "run", CONFIG)
    assert aligned == ["align once more", "align as at first"]
    assert run.is_aligned(dataset)
    clock = steps_of(tmp_path / "run")["clock"]
    assert clock.mood == "bad"
    assert "but so nothing aligns" in clock.sure


def test_a_log_on_the_time_of_the_video_stays_and_the_difference_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, dataset = record(tmp_path)[0], tmp_path / "run" / "dataset"
    seconds = np.arange(0.0, 40.5, 0.5)
    places = enu_to_wgs84(np.array([pose(float(t) - 0.5)[:3, 3] for t in seconds]), DATUM)  # half a second late
    rows = [
        f"{i}\n00:00:{t:06.3f} --> 00:00:59,000\n[latitude: {latitude:.9f}] [longitude: {longitude:.9f}] "
        f"[rel_alt: 30.0 abs_alt: {altitude:.3f}]\n"
        for i, (t, latitude, longitude, altitude) in enumerate(zip(seconds, *places, strict=True))
    ]
    (tmp_path / "a.srt").write_text("\n".join(rows))
    sources, steps = [video, tmp_path / "a.srt"], Steps(tmp_path / "run", True)
    _convert(steps, sources, dataset, CONFIG)
    as_if_aligned(dataset)
    assert _by_track(steps, sources, dataset, tmp_path / "run", CONFIG) is None
    assert "is by the time of the video itself, and stays" in capsys.readouterr().out
    clock = read_yaml(tmp_path / "run" / CLOCK)
    assert (clock["applied"], round(clock["offset_s"], 1)) == (False, 0.5)
    assert "+0.5" in steps_of(tmp_path / "run")["clock"].sure


def steps_of(out: Path) -> dict[str, Trust]:
    return {each.step: each for each in write_run_page(out)}


def made_dataset(
    folder: Path,
    kind: str = "metric",
    sigma: float | None = 0.004,
    known: float = 1.0,
    focal_sigma: float | None = None,
) -> None:
    meta = DatasetMeta(
        camera=Camera.from_fov(32, 24, 60.0),
        depth=DepthMeta(kind, made=MadeDepth("multi-view stereo", {}, sigma)),  # type: ignore[arg-type]
        poses=PosesMeta(position="gps", orientation="course", accuracy={"focal_sigma": focal_sigma}),
    )
    depth = np.full((24, 32), 20.0, np.float32)
    depth.ravel()[round(known * depth.size) :] = np.nan
    with DatasetWriter(folder, meta) as writer:
        for i in range(6):
            writer.add(i * SECOND, nadir_pose(3.0 * i, 0.0, 40.0, 90.0), np.full((24, 32, 3), 90, np.uint8), depth)
    (folder / layout.CONFIDENCE).mkdir()
    from pose2rgbd_ros.dataset.encode import encode_png

    for i in range(6):
        level = np.where(np.isfinite(depth), 204, 0).astype(np.uint8)
        layout.atomic_write(folder / layout.CONFIDENCE / f"{i * SECOND}.png", encode_png(level))


def test_each_step_says_how_sure_it_is_and_what_helps(tmp_path: Path) -> None:
    made_dataset(tmp_path / "dataset")
    write_yaml(tmp_path / CLOCK, {"before_s": 0.0, "offset_s": 3.73, "sigma_s": 0.03, "why": "", "residual_m": 0.9,
                                  "applied": True})  # fmt: skip
    served = tmp_path / "run"
    (served / "report").mkdir(parents=True)
    write_yaml(served / "report" / "metrics.yaml",
               {"scores": {"model": {"rgb_mae_px": 7.5, "depth_mae": 0.4}}, "depth_unit": "m", "frames": 9,
                "collapsed": False, "better_than_mean_image": {"rgb_mae_px": 0.7}})  # fmt: skip
    write_yaml(served / CALIBRATED, {"said": "90 % bounds hold 91 %", "refused": False})
    steps = steps_of(tmp_path)
    assert list(steps) == ["clock", "poses", "lens", "depth", "metric scale", "model", "calibration"]
    assert "+3.730 s" in steps["clock"].decided
    assert "± 0.049 s (90 %)" in steps["clock"].sure
    assert steps["poses"].mood == "bad"  # of GPS alone
    assert "100% of the pixels known, their confidence 0.80" in steps["depth"].sure
    assert (steps["metric scale"].mood, steps["metric scale"].sure) == ("good", "± 0.7 % (90 %)")
    assert steps["model"].mood == "good"
    page = (tmp_path / PAGE).read_text()
    assert "Not good: poses" in page
    assert "pose2rgbd align DATASET" in page
    assert read_yaml(tmp_path / TRUST)["metric scale"]["sure"] == "± 0.7 % (90 %)"


@pytest.mark.parametrize(
    ("kind", "sigma", "decided", "sure", "mood"),
    [
        ("relative", None, "relative: depth has no unit", "no positions in metres", "neutral"),
        ("relative", 0.3, "relative: depth has no unit", "known to ± 49 % (90 %) only", "neutral"),
        ("metric", 0.09, "metres", "± 14.8 % (90 %)", "bad"),
        ("metric", None, "metres", "not said", "neutral"),
    ],
)
def test_metres_are_called_so_only_where_they_are_earned(
    tmp_path: Path, kind: str, sigma: float | None, decided: str, sure: str, mood: str
) -> None:
    made_dataset(tmp_path / "dataset", kind, sigma, known=0.4)
    steps = steps_of(tmp_path)
    scale = steps["metric scale"]
    assert decided in scale.decided
    assert sure in scale.sure
    assert scale.mood == mood
    assert steps["depth"].mood == "neutral"
    assert "40% of the pixels" in steps["depth"].sure


def test_a_lens_that_the_pictures_leave_open_leaves_metres_open(tmp_path: Path) -> None:
    made_dataset(tmp_path / "dataset", focal_sigma=0.031)
    scale = steps_of(tmp_path)["metric scale"]
    assert scale.sure == "± 5.1 % (90 %), 5.1 % by the focal length"
    assert scale.mood == "neutral"


def test_limits_are_of_what_is_good_and_what_is_bad() -> None:
    assert [_graded(value, (3.0, 10.0)) for value in (2.0, 5.0, 11.0, np.nan)] == ["good", "neutral", "bad", "neutral"]
    assert [_graded(value, (0.9, 0.5)) for value in (0.95, 0.7, 0.3)] == ["good", "neutral", "bad"]

"""bench/align_flight.py on one small flight, and its draws of GPS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support.scripts import load_script

from pose2rgbd_ros.sfm.align import Alignment


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load_script("align_flight", "bench")


@pytest.mark.slow
def test_a_dark_flight_whose_altitude_drifts_is_aligned(bench: ModuleType, tmp_path: Path) -> None:
    """A third of the light, noise, heights that drift by 60 m in half a minute, no attitudes, a wrong focal length."""
    legs = ({"plan": "lawnmower", "area_m": 45.0, "line_spacing_m": 18.0, "speed_mps": 4.0, "camera_pitch_deg": 85.0},)
    gps = bench.Gps(0.2, 0.2, 20.0, height_drift_m=60.0)
    flight = bench.Flight(legs, 2.5, 45.0, (256, 192), gps=gps, light=1 / 3, noise=3.0)
    truth, _, found = bench.fly("small", flight, tmp_path)
    assert isinstance(found, Alignment)
    assert len(found.frames) >= 0.9 * len(truth) >= 14
    exact = bench.truth_of(truth, found.recorded.stamps_ns[found.frames])
    before, after = (bench.Errors.of(T, exact) for T in (found.recorded.T_map_cam[found.frames], found.T_map_cam))
    assert np.median(np.abs(before.offset_m[:, 2])) > 10
    assert np.median(np.abs(after.offset_m[:, 2])) < 3
    assert np.median(after.shape_m) < 0.5
    assert found.camera.focal_px == pytest.approx(truth.camera.focal_px, rel=0.045)  # the recorded one, or better
    assert len(bench.row("small", truth, found)) == len(bench.COLUMNS)
    tied = bench.tied(flight, truth, tmp_path / "small" / "rough", replace(gps, height_drift_m=0.0), 1)
    assert len(tied.row()) == 8


def test_what_gps_leaves_open_is_stated(bench: ModuleType) -> None:
    """Of independent errors the mean of 100 positions is known to a tenth of one; of errors that wander it is not."""
    survey = bench.FLIGHTS["survey"]
    independent, wandering = (bench.placed_alone(survey, 100, gps, 4) for gps in (bench.WHITE, bench.GOOD))
    error_m, sigma_m, inside, *_ = independent.row()
    assert error_m < 0.6
    assert 0.15 < sigma_m < 0.6
    assert inside > 70
    assert wandering.row()[1] > 1.5 * sigma_m  # although each of them is better
    assert wandering.row()[2] > 60

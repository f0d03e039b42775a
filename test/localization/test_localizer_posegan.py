"""A PoseGAN, calibrated: what its discriminator says is a doubt of the gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import support.carpet as carpet

from pose2rgbd_ros.cli import locate
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.calibrate_poses import LocalizerGoal, calibrate_localizer
from pose2rgbd_ros.localization.gate import DOUBTS, novelty_cues
from pose2rgbd_ros.localization.localizer import Localizer, pose_network
from pose2rgbd_ros.localization.predict import ImageEncoder
from pose2rgbd_ros.training.checkpoint import load_checkpoint

FRAMES, REALISM = 120, list(DOUBTS).index("realism")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint with its calibration, and its dataset."""
    folder, t = tmp_path_factory.mktemp("place"), np.linspace(0, 4 * np.pi, FRAMES)
    T = carpet.poses(15 * np.cos(t / 2), 9 * np.sin(t))
    dataset = carpet.write_flight(folder / "data", carpet.carpet(0), T)
    checkpoint = carpet.write_posenet(folder / "checkpoint", dataset, kind="posegan")
    calibrate_localizer(checkpoint, dataset, LocalizerGoal(crops=1))
    return checkpoint, dataset


def test_what_the_discriminator_says_is_measured_and_judged(place: tuple[Path, Path]):
    checkpoint, dataset = place
    known, data, loaded = (Localizer(checkpoint, "cpu").calibration, Dataset(dataset), load_checkpoint(checkpoint))
    assert known is not None
    assert known.gate.spread[REALISM] > 0
    encoder = ImageEncoder(loaded, pose_network(loaded), "cpu", 1)
    (found,) = encoder.read([encoder.prepare(data.rgb(3), data.camera)])
    assert np.isfinite(found.realism)
    as_it_is = novelty_cues(found, known.features, known.memory)
    assert as_it_is[REALISM] == -found.realism, "more realism is less doubt"
    generated = novelty_cues(replace(found, realism=found.realism - 1e3), known.features, known.memory)
    assert known.gate.score(generated) > known.gate.score(as_it_is)
    assert "the discriminator does not take it for a recorded image" in known.gate.reason(generated)


def test_frames_pass_and_spoilt_ones_do_not(place: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    checkpoint, dataset = place
    assert locate.main([str(checkpoint), str(dataset), "--every", "4", "--device", "cpu"]) == 0
    accepted = int(capsys.readouterr().out.splitlines()[-1].split()[0])
    assert accepted >= 0.4 * FRAMES / 4, "weights are random, and most of the flight is elsewhere"
    data, localizer = Dataset(dataset), Localizer(checkpoint, "cpu")
    chosen = carpet.split_of(data).choose
    found = localizer.find_all((data.rgb(int(frame)) for frame in chosen), data.camera)
    assert np.mean([one.accepted for one in found]) >= 0.9, "the limit is that of 95 % of these"
    dark = localizer.find((data.rgb(0) * 0.3).astype(np.uint8), data.camera)
    assert not dark.accepted

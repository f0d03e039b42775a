"""What a calibrated localizer accepts and how far its covariance can be trusted, on images nothing was fitted to.

    python bench/localize_gate.py RUN OTHER --foreign NAME=DATASET ... --what "a sentence about the data"

The published table, in 10 CPU minutes (SIM: `pose2rgbd sim dataset`; DATA: the folder of the 7-Scenes excerpt):

    PLAN="--size 128 --flight.plan lawnmower"
    SIM place $PLAN --frames 2400 --flight.line-spacing-m 8 --flight.holdout 0.32
    PLAN="$PLAN --flight.line-spacing-m 13 --flight.holdout 0 --flight.seed 1"
    SIM other $PLAN --frames 700
    SIM city11 $PLAN --frames 300 --city.seed 11
    SIM city12 $PLAN --frames 300 --city.seed 12
    pose2rgbd import DATA kitchen
    pose2rgbd train posenet place --size 64 --width 0.5 --max-minutes 2.5 --clock cpu --out run
    pose2rgbd calibrate run place
    python bench/localize_gate.py run other --foreign "another city"=city11 "a third city"=city12 "red kitchen"=kitchen

RUN is calibrated on the held-out frames of its dataset that choose; OTHER is another flight over the same place, on
which no weights, covariance or limit were chosen. Accepted: the share of its frames (true accepts), of the same frames
spoilt (evaluation/calibrate_poses.py), and of other places' frames (false accepts), each once with its own camera and
once as if the trained camera had taken it. Coverage: accepted frames of OTHER within the regions of 50, 90 and 95 %;
in brackets 95 % by resampling lines. Doubts: how well each tells frames of OTHER from those of another place by
itself (AUROC). Without a doubt: shares accepted when one of the five is left out, at a limit set on every other line
of OTHER so that as many of its frames pass as with all; the rest of its lines judge. Time: of one query, CPU, mean.
Writes bench/results/localize_gate.md and docs/images/localize_gate.png and localize_scores.png.
"""

from __future__ import annotations

import argparse
import io
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from guard import auroc
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.calibrate_poses import CORRUPTIONS, RED, Example, JudgedPoses, examples_picture
from pose2rgbd_ros.evaluation.depth_bounds import ShareInterval as Share
from pose2rgbd_ros.evaluation.held_out import Units, units_of
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization import covariance
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.localization.gate import DOUBTS, Gate, novelty_cues
from pose2rgbd_ros.localization.localizer import Localizer, pose_network
from pose2rgbd_ros.localization.predict import ImageEncoder
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.training.checkpoint import checkpoint_directory, load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "bench/results/localize_gate.md"
PICTURE, SCORES = (ROOT / f"docs/images/localize_{name}.png" for name in ("gate", "scores"))
REASONS = ("black", "blank", "overexposed", "too dark", "almost without contrast", "of too much contrast", "blurred",
           "sharper", "of the view that was trained", "network sees", "placed far apart", "turned apart",
           "discriminator", "training frames near its pose")  # fmt: skip
SHOWN = 2


def coverage_rows(answers: list[Estimate], data: Dataset, frames: np.ndarray) -> str:
    """Of accepted frames: the share within each region, of position, rotation and both."""
    judged = JudgedPoses.of(answers, data.T_map_cam[frames], Units(frames, lines_of(data, frames), "lines"))
    regions = Table.of({"region": ".0%", **dict.fromkeys(("position", "rotation", "both"), "s")})
    for level, shares in zip(covariance.LEVELS, judged.coverage, strict=True):
        regions.add(level, *(told(one) for one in shares))
    kept = [i for i, one in enumerate(answers) if one.accepted]
    size = np.array([np.linalg.norm(answers[i].T_map_cam[:3, 3] - data.T_map_cam[frames[i], :3, 3]) for i in kept])
    sigma = np.array([answers[i].position_sigma_m for i in kept])
    third = np.argsort(np.argsort(sigma)) * 3 // len(sigma)
    thirds = Table.of({"accepted, by predicted sigma": "", "median sigma (m)": ".1f", "median error (m)": ".1f"})
    for number, name in enumerate(("smallest third", "middle third", "largest third")):
        mine = third == number
        thirds.add(name, np.median(sigma[mine]), np.median(size[mine]))
    text = f"\n{regions.markdown()}\n\n{thirds.markdown()}\n"
    rejected = [
        float(np.linalg.norm(one.T_map_cam[:3, 3] - data.T_map_cam[frame, :3, 3]))
        for one, frame in zip(answers, frames, strict=True)
        if not one.accepted and one.T_map_cam is not None
    ]
    if rejected:
        text += f"\nMedian error of accepted frames {np.median(size):.1f} m, "
        text += f"of rejected ones {np.median(rejected):.1f} m.\n"
    return text


def lines_of(data: Dataset, frames: np.ndarray) -> np.ndarray:
    """Number (N,) of the line of each of some frames."""
    return units_of(np.arange(len(data)), data.T_map_cam[:, :3, 3])[0][frames]


def within(figures: dict[str, Any]) -> str:
    """What the place's own held-out frames tell of the limit and of the position's region of 90 %."""
    judged = figures["judged"]
    parts = [("fitted on half of their lines and counted on the rest", figures)]
    if judged["frames"]:
        parts.append((f"on the {judged['frames']} that judge ({judged['units']} {judged['unit']})", judged))
    words = (
        f"{where}: accepted {told(Share(*one['accepted']))}, position within the region of 90 % "
        f"{told(Share(*one['coverage']['0.9']['position']))}"
        for where, one in parts
    )
    return "Of the place's held-out frames, " + "; ".join(words) + "."


def told(share: Share) -> str:
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"


def row(name: str, answers: list[Estimate]) -> tuple[str | float, ...]:
    """Of the table of accepted shares."""
    reasons = Counter(
        next((key for key in REASONS if key in one.reason), one.reason) for one in answers if not one.accepted
    )
    why = ", ".join(f"{key} {count}" for key, count in reasons.most_common(3))
    return name, len(answers), float(np.mean([one.accepted for one in answers])), why


def squares(data: Dataset, frames: np.ndarray) -> list[UInt8]:
    """The centred squares of frames."""
    side = min(data.camera.width, data.camera.height)
    x0, y0 = (data.camera.width - side) // 2, (data.camera.height - side) // 2
    return [data.rgb(int(frame))[y0 : y0 + side, x0 : x0 + side] for frame in frames]


class Doubter:
    """Doubts (N, 5) of images, as the gate sees them."""

    def __init__(self, run: Path, localizer: Localizer) -> None:
        loaded = load_checkpoint(checkpoint_directory(run))
        assert localizer.calibration is not None
        self.known = localizer.calibration
        self._encoder = ImageEncoder(loaded, pose_network(loaded), "cpu", self.known.crops)

    def __call__(self, images: list[UInt8], camera: Camera) -> np.ndarray:
        """NaN for an image that shows nothing."""
        queries = [self._encoder.prepare(rgb, camera) for rgb in images]
        rows = np.full((len(queries), len(DOUBTS)), np.nan)
        shown = [place for place, query in enumerate(queries) if not query.reason]
        for place, found in zip(shown, self._encoder.read([queries[place] for place in shown]), strict=True):
            rows[place] = novelty_cues(found, self.known.features, self.known.memory)
        return rows


def rows_doubts(own: np.ndarray, foreign: dict[str, np.ndarray]) -> str:
    """AUROC of each doubt, own frames (N, 5) against foreign ones."""
    table = Table.of({"doubt": "", **dict.fromkeys(foreign, ".2f")})
    for column, name in enumerate(DOUBTS):
        if np.ptp(own[:, column]) > 0:
            table.add(name, *(auroc(own[:, column], some[:, column]) for some in foreign.values()))
    return f"\n{table.markdown()}\n"


def rows_without(gate: Gate, own: np.ndarray, line: np.ndarray, foreign: dict[str, np.ndarray], accepted: float) -> str:
    """Shares accepted without one doubt or another, at a limit by which as many of the own frames (N, 5) of even
    lines (N,)
    pass as with all; of the own those of odd lines are counted."""
    setting, judging = own[line % 2 == 0], own[line % 2 == 1]
    counted = {"the place, other lines": judging, **foreign}
    table = Table.of({"without": "", **dict.fromkeys(counted, ".1%")})
    told = {name for name, spread in zip(DOUBTS, gate.spread, strict=True) if spread > 0}
    choices = {"none": told, **{name: told - {name} for name in DOUBTS if name in told}, "all but memory": {"memory"}}
    for name, kept in choices.items():
        judge = replace(gate, spread=np.where([one in kept for one in DOUBTS], gate.spread, 0.0))
        limit = np.quantile([judge.score(one) for one in setting], accepted)
        shares = [np.mean([judge.score(one) <= limit for one in some]) for some in counted.values()]
        table.add(name, *shares)
    return f"\n{table.markdown()}\n"


def spaced(data: Dataset, most: int) -> np.ndarray:
    return np.linspace(0, len(data) - 1, min(most, len(data))).astype(int)


def scores_picture(scores: dict[str, list[float]], limit: float) -> None:
    """Scores by class."""
    figure = Figure(figsize=(9, 4), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    known = {name: values for name, values in scores.items() if values}
    axes.boxplot(
        list(known.values()), orientation="horizontal", tick_labels=list(known), whis=(5, 95), showfliers=False
    )
    axes.axvline(limit, color=RED)
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=2.0)
    axes.set(xlabel="score (box: half of the images, whiskers: 5 to 95 %); beyond the red limit rejected")
    figure.savefig(SCORES)


def main() -> None:
    """Print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("other", type=Path, help="another flight over the place")
    parser.add_argument("--foreign", nargs="*", default=[], metavar="NAME=DATASET")
    parser.add_argument("--frames", type=int, default=300, help="at most so many of each")
    parser.add_argument("--what", default="", help="a sentence about the data, for the file")
    arguments, on = parser.parse_args(), described()
    localizer, data = Localizer(arguments.run, "cpu"), Dataset(arguments.other)
    known = localizer.calibration
    assert known is not None, f"{arguments.run} is not calibrated"
    frames = spaced(data, arguments.frames)
    shown: list[Example] = []
    scores: dict[str, list[float]] = {}
    rows = Table.of({"images": "", "number": "d", "accepted": ".1%", "why rejected": ""})

    def judge(name: str, images: list[UInt8], camera: Camera, show: int = SHOWN) -> list[Estimate]:
        answers = localizer.find_all(images, camera)
        rows.add(*row(name, answers))
        scores[name] = [one.score for one in answers if np.isfinite(one.score)]
        for i in np.linspace(len(images) // 3, len(images) - 1, show).astype(int):
            shown.append(Example(name, images[i], answers[i], float("nan")))
        return answers

    images = [data.rgb(int(frame)) for frame in frames]
    started = time.process_time()
    answers = judge("another flight here", images, data.camera)
    query_ms = (time.process_time() - started) / len(images) * 1e3
    doubter = Doubter(arguments.run, localizer)
    doubted: dict[str, np.ndarray] = {}
    for name, spoil in CORRUPTIONS.items():
        judge(name, [spoil(rgb) for rgb in images[:: max(1, len(images) // 100)]], data.camera)
    for word in arguments.foreign:
        name, _, path = word.partition("=")
        foreign = Dataset(path)
        some = spaced(foreign, arguments.frames)
        if foreign.camera != data.camera:
            own = localizer.find_all([foreign.rgb(int(frame)) for frame in some], foreign.camera)
            rows.add(*row(f"{name}, its own camera", own))
            name = f"{name}, as of the trained camera"
        else:
            doubted[name] = doubter([foreign.rgb(int(frame)) for frame in some], foreign.camera)
        side = min(foreign.camera.width, foreign.camera.height)
        simulated = (Path(path) / "sim.yaml").is_file()  # other people's recordings are not ours to publish
        judge(name, squares(foreign, some), localizer.recording_camera(side, side), SHOWN if simulated else 0)
    table = (
        f"# The localizer's gate and covariance\n\n`python bench/localize_gate.py` (see its docstring) on {on}. "
        f"{arguments.what}\n\n"
        f"Calibrated on {known.figures['frames']} held-out frames ({known.figures['units']} {known.figures['unit']}), "
        f"{known.crops} crops, limit for {known.true_accept:.0%} of them. {within(known.figures)}\n\n"
        f"{rows.markdown()}\n"
        "\nAnother flight, accepted frames within the region that promises:\n" + coverage_rows(answers, data, frames)
    )
    if doubted:
        accepted = float(np.mean([one.accepted for one in answers]))
        ours, line = doubter(images, data.camera), lines_of(data, frames)
        read = np.isfinite(ours).all(axis=1)
        ours, line = ours[read], line[read]
        doubted = {name: some[np.isfinite(some).all(axis=1)] for name, some in doubted.items()}
        table += "\nHow well a doubt by itself tells frames of the other flight from other places (AUROC):\n"
        table += rows_doubts(ours, doubted)
        table += (
            "\nFrames accepted by the score alone when one doubt is left out, at limits set on every other line of "
            "the other "
            "flight so that as many pass:\n"
        )
        table += rows_without(known.gate, ours, line, doubted, accepted)
    table += f"\nOne query takes {query_ms:.0f} CPU ms on one thread (network, doubts and all; mean).\n"
    print(table)
    RESULT.write_text(table)
    Image.open(io.BytesIO(examples_picture(shown))).convert("RGB").quantize(128).save(PICTURE, optimize=True)
    scores_picture(scores, known.gate.limit)


if __name__ == "__main__":
    main()

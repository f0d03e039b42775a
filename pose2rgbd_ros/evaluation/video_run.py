"""A trained model of video on frames it has not seen: its depth, the motion of its snippets, and its track."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.splits import Split
from pose2rgbd_ros.depth_from_images.snippets import SnippetData
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation.depth_images import DepthImages
from pose2rgbd_ros.evaluation.depth_metrics import DepthProtocol
from pose2rgbd_ros.evaluation.depth_report import DepthReport, evaluate_depth
from pose2rgbd_ros.evaluation.odometry import LEAST_POSES, OdometryProtocol, Paired, Snippets, snippet_errors
from pose2rgbd_ros.evaluation.odometry_report import OdometryReport, measure, snippet_table
from pose2rgbd_ros.evaluation.odometry_report import write as write_odometry
from pose2rgbd_ros.formats.sequences import open_sequences
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64, Int64
from pose2rgbd_ros.models.video_depth import TrainedDepth
from pose2rgbd_ros.training.config import ViewSettings
from pose2rgbd_ros.training.metrics import batches

BATCH = 8
TRACK, MOTION = "track", "motion.json"


@dataclass(frozen=True, eq=False)
class VideoEvaluation:
    """What could be measured: None where the source does not know the truth.

    motion: what -> errors of the snippets' motion, the model's first. track: of the steps of its snippets, one after
    the other.
    """

    depth: DepthReport | None
    motion: dict[str, Snippets] | None
    track: OdometryReport | None
    frames: int

    def markdown(self) -> str:
        """Everything in words and numbers."""
        parts = []
        if self.depth is not None:
            parts.append(f"Depth\n\n{self.depth.markdown()}")
        if self.motion is not None:
            parts.append(
                f"Motion of snippets of {self.frames} frames (SfMLearner's error: sqrt of the sum of squares over "
                f"{self.frames}, a scale for each)\n\n{snippet_table(self.motion).markdown()}"
            )
        if self.track is not None:
            parts.append(f"Track\n\n{self.track.markdown()}")
        return "\n\n".join(parts)


def evaluate_video(
    run: Path,
    sources: Sequence[Path],
    out: Path,
    protocol_name: str,
    protocol: DepthProtocol,
    odometry: OdometryProtocol,
    device: str = "auto",
    how: ViewSettings | None = None,
    known_poses: bool = False,
) -> VideoEvaluation:
    """Measure a run on the frames of its sources that judge, or on all of another recording, and write reports.

    Depth into `out` as :func:`evaluate_depth` does, against the truth as it was recorded (of a lens with distortion:
    undistorted, at the model's size). The motion of snippets into motion.json; the track that their steps make, a
    report of its own, into `out`/track.

    Args:
        how: a model of several views is asked. known_poses: its depth is found with the true poses (mapping).

    Raises:
        UserError: no run of video, a source that is none, no frame to judge by, or one that knows neither true depth
            nor poses; views asked of a model of one image.
    """
    method = TrainedDepth.of_run(run, device, how)
    checkpoint, model = method.checkpoint, method.model
    assert checkpoint is not None
    if known_poses and method.views == 1:
        raise UserError(f"{run} is {method.name}, which sees depth in one image: leave out --known-poses")
    config = checkpoint.provenance["config"]
    sequences = [each for path in sources for each in open_sequences(path, config.get("hfov_deg"))]
    seen = np.concatenate([checkpoint.looked_at(each.name, each.stamps_ns) for each in sequences])
    was_trained_on = bool(seen.any())
    if not was_trained_on:  # nothing is held out of what was not looked at
        sequences = [replace(each, split=_whole(len(each))) for each in sequences]
    split: Any = config["split"] if was_trained_on else "dataset"
    data = SnippetData.of(
        sequences,
        model.image_size,
        method.views if method.views > 1 else config["frames"],
        config["stride"],
        split,
        config["test_fraction"],
        config["seed"],
    )
    judge = data.split.judge if was_trained_on else data.split.train
    judge = judge[~seen[data.members(judge)].any(axis=1)]
    if known_poses:
        members = data.members(judge)
        judge = judge[np.isfinite(data.poses(members.ravel())).reshape(*members.shape, 16).all(axis=(1, 2))]
    if not len(judge):
        raise UserError(
            f"{run} was trained on, or chosen by, all frames of {', '.join(each.name for each in sequences)}; give "
            "another recording, or train with more held out (--test-fraction)"
        )
    # The rules of KITTI's papers hold for its laser as they count it.
    model_on = _Model(method, data, protocol_name.startswith("kitti"), known_poses)
    mean = _mean_depth(data) if was_trained_on else None
    depth = _depth(model_on, judge, run, sources[0], out, (protocol_name, protocol), mean)
    motion, track = None, None
    known = judge[np.isfinite(data.poses(data.members(judge).ravel())).reshape(len(judge), -1).all(axis=1)]
    if len(known):
        motion = _motion(model_on, known, was_trained_on)
        track = _track(model_on, known, odometry, run)
    if depth is None and motion is None:
        where = ", ".join(map(str, sources))
        raise UserError(f"{where} knows neither true depth nor poses: nothing can be measured; `depth infer` shows it")
    with os_errors(f"cannot write the report into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        if motion is not None:
            rows = {str(row.pop("what")): row for row in snippet_table(motion).rows}
            facts = {"snippets": len(known), "frames": data.frames, "stride": data.stride, "figures": rows}
            layout.atomic_write(out / MOTION, (json.dumps(facts, indent=2) + "\n").encode())
    if track is not None:
        write_odometry(out / TRACK, track)
    return VideoEvaluation(depth, motion, track, data.frames)


def _whole(frames: int) -> Split:
    """All frames are of one set."""
    nothing = np.zeros(0, np.int64)
    return Split(np.arange(frames), nothing, nothing, "whole")


class _Model:
    """A network at work on the frames of snippets."""

    def __init__(
        self, method: TrainedDepth, data: SnippetData, published: bool = False, known_poses: bool = False
    ) -> None:
        self.data, self._method, self._published, self._known_poses = data, method, published, known_poses

    def depth(self, index: int) -> Float32:
        """(h, w) of a frame."""
        target = np.array([index])
        members = self.data.members(target)[0] if self._method.views > 1 else target
        T_tgt_i = None
        if self._known_poses:
            T_map_cam = self.data.poses(members)
            T_tgt_i = se3.inverse(T_map_cam[self.data.target]) @ T_map_cam
        K = self.data.camera_of(int(self.data.sequence[index])).K
        return self._method.depth_of_views(list(self.data.rgb(members)), K, T_tgt_i)[0]

    @torch.inference_mode()
    def motions(self, targets: Int64) -> Float64:
        """T_tgt_i (B, N, 4, 4) of snippets."""
        found = []
        for chunk in batches(targets, BATCH):
            batch = self.data.batch(chunk)
            device = self._method.device
            motions = self._method.model.motions(batch.images.to(device), batch.K.to(device))
            found.append(motions.double().cpu().numpy())
        return np.concatenate(found)

    def true(self, targets: Int64) -> Float64:
        """T_map_cam (B, N, 4, 4) of the frames of snippets."""
        members = self.data.members(targets)
        return self.data.poses(members.ravel()).reshape(*members.shape, 4, 4)

    def true_depth(self, index: int) -> Float32:
        """(H, W) of a frame, as recorded where the lens has no distortion."""
        number = int(self.data.sequence[index])
        sequence = self.data.sequences[number]
        depth = None
        if not sequence.camera.is_distorted:
            depth = sequence.depth(index - int(np.searchsorted(self.data.sequence, number)), self._published)
        else:
            small = self.data.depth(np.array([index]))
            depth = None if small is None else small[0]
        assert depth is not None
        return depth


def _depth(
    model: _Model,
    judge: Int64,
    run: Path,
    source: Path,
    out: Path,
    protocol: tuple[str, DepthProtocol],
    mean: Float32 | None,
) -> DepthReport | None:
    """None where no sequence knows true depth."""
    data = model.data
    has_depth = np.array([each.read_depth is not None for each in data.sequences])
    frames = judge[has_depth[data.sequence[judge]]]
    if not len(frames):
        return None
    several = len(data.sequences) > 1
    names = [
        f"{data.sequences[int(data.sequence[i])].name} {data.stamps_ns[i]}" if several else str(data.stamps_ns[i])
        for i in frames
    ]
    split = f"{counted(len(frames), 'frame')} that neither trained the model nor chose its weights"
    predicted = DepthImages(run, names, lambda k: model.depth(int(frames[k])), note=split)
    truth = DepthImages(source, names, lambda k: model.true_depth(int(frames[k])))
    return evaluate_depth(predicted, truth, out, *protocol, blind=mean)


def _mean_depth(data: SnippetData) -> Float32 | None:
    """(h, w) of the frames that train."""
    total, count = np.zeros(data.size), np.zeros(data.size)
    for chunk in batches(data.split.train, BATCH):
        depth = data.depth(chunk)
        if depth is None:
            return None
        known = np.isfinite(depth)
        total += np.where(known, depth, 0.0).sum(axis=0)
        count += known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / count, np.float32)


def _motion(model: _Model, targets: Int64, was_trained_on: bool) -> dict[str, Snippets]:
    """Errors of the snippets: the model's, those of the mean motion of all frames that train, and of none."""
    true = model.true(targets)
    still = np.tile(np.eye(4), (*true.shape[:2], 1, 1))
    found = {"model": snippet_errors(true, model.motions(targets))}
    train = model.true(model.data.split.train)
    train = train[np.isfinite(train).all(axis=(1, 2, 3))]
    if was_trained_on and len(train):
        steps = se3.inverse(train[:, :1]) @ train
        mean = np.stack([se3.mean(steps[:, i]) for i in range(steps.shape[1])])
        found["mean motion of the frames trained on"] = snippet_errors(true, np.broadcast_to(mean, true.shape))
    return {**found, "a camera that stands still": snippet_errors(true, still)}


def _track(model: _Model, targets: Int64, settings: OdometryProtocol, run: Path) -> OdometryReport | None:
    """Of each stretch of consecutive targets, a stride apart; None where all are too short."""
    data, stride = model.data, model.data.stride
    joined = (np.diff(targets) == 1) & (np.diff(data.sequence[targets]) == 0)
    sequences = []
    for stretch in np.split(targets, np.flatnonzero(~joined) + 1):
        taken = stretch[::stride]
        if len(taken) + 1 < LEAST_POSES:
            continue
        place = data.target
        steps = model.motions(taken)[:, place + 1]  # the next frame in the target, whose pose is the identity
        T_est = [np.eye(4)]
        for step in steps:
            T_est.append(T_est[-1] @ step)
        frames = np.append(taken, taken[-1] + stride)
        seconds = (data.stamps_ns[frames] - data.stamps_ns[frames[0]]) / 1e9
        paired = Paired(
            data.poses(frames), np.array(T_est), np.arange(len(frames)), np.ones(len(steps), dtype=bool), seconds
        )
        sequence = data.sequences[int(data.sequence[taken[0]])]
        begin_s = (data.stamps_ns[taken[0]] - sequence.stamps_ns[0]) / 1e9
        sequences.append(measure(f"{sequence.name}-{begin_s:.1f}s", paired, settings))
    if not sequences:
        return None
    of = {"run": str(run), "stretches": "steps of consecutive snippets, one after the other; nothing is optimised"}
    return OdometryReport(sequences, settings, f"track of {run.name}", of)

"""`pose2rgbd synthesize interpolate`: more frames than were recorded (PoseGAN, section 6.2 and figure 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, UInt8
from pose2rgbd_ros.geometry.camera import pixel_grid
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.streams.video_write import panels, write_video
from pose2rgbd_ros.synthesis import route
from pose2rgbd_ros.synthesis.common import Recording, Shower, Strip, common_camera, draw_strips, judging, load
from pose2rgbd_ros.synthesis.settings import InterpolateConfig
from pose2rgbd_ros.training.metrics import Scores, spread

# Frames between two recorded ones without any model: what synthesised ones have to beat.


def hold(before: AnyArray, after: AnyArray, share: float) -> UInt8:
    """The frame that is shown until the next one comes: what a recording itself looks like."""
    return np.asarray(before, dtype=np.uint8)


def cross_fade(before: AnyArray, after: AnyArray, share: float) -> UInt8:
    """The two frames blended, `share` of the way."""
    return np.asarray(cv2.addWeighted(before, 1.0 - share, after, share, 0.0), dtype=np.uint8)


def flow(before: AnyArray, after: AnyArray, share: float) -> UInt8:
    """Both frames moved along the optical flow between them, and blended.

    Dense inverse search (Kroeger et al. 2016) as OpenCV has it, in both directions; a pixel of the picture is taken to
    move as the pixel in its place does in the recorded frames (the flow is not projected into the picture's time).
    """
    grey = [cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY) for image in (before, after)]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward = search.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32))
    backward = search.calc(grey[1], grey[0], np.zeros((*grey[0].shape, 2), np.float32))
    grid = pixel_grid(before.shape[1], before.shape[0]).astype(np.float32)
    from_before = _looked_up(before, grid - np.float32(share) * forward)
    from_after = _looked_up(after, grid - np.float32(1.0 - share) * backward)
    return cross_fade(from_before, from_after, share)


def _looked_up(image: AnyArray, at: AnyArray) -> AnyArray:
    return cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


WAYS = {"hold": hold, "cross-fade": cross_fade, "optical flow": flow}


_FASTEST_HZ = 60.0


@dataclass(frozen=True)
class Gap:
    """A left-out frame `target` a part `share` of the time from the kept frame `before` to the kept frame `after`."""

    before: int
    after: int
    target: int
    share: float


@dataclass(frozen=True)
class InterpolationScore:
    """Of one way to make frames, over the left-out frames."""

    source: str
    frames: int
    rgb_mae_px: float
    psnr_db: float
    ssim: float


def interpolate(runs: Sequence[Path], folder: Path, out: Path, config: InterpolateConfig) -> list[InterpolationScore]:
    """Write sheet.png and interpolated.mp4 into `out`; returns the scores on frames that were left out.

    Poses of frames between are interpolated as the paper does: they are not looked up. "at its recorded pose" says
    how much of an error is that.

    UserError: bad checkpoints or dataset, no frames to join, all of them trained on.
    """
    settings.check(config)
    models, dataset = load(runs, config.device), Dataset(folder)
    recording = Recording(dataset, common_camera(models, config.size))
    judges = judging(dataset, models)
    gaps = [gap for gap in left_out(dataset, config) if judges[gap.target]]
    if not gaps:
        raise UserError(
            f"{folder}: every left-out frame trained or chose one of the models; hold whole stretches out of the "
            "training"
        )
    gaps = [gaps[i] for i in spread(np.arange(len(gaps)), config.most)]
    scores = _score(models, recording, gaps)
    start = gaps[len(gaps) // 2].before if config.start == -1 else config.start
    _draw(models, recording, _typical(dataset, gaps), config.columns, out / "sheet.png")
    stop = _joined_until(dataset, start, config)
    pictures = _film(models, recording, range(start, stop + 1), config.times)
    step_s = float(np.median(np.diff(dataset.stamps_ns[start : stop + 1]))) / 1e9
    write_video(out / "interpolated.mp4", pictures, min(config.times / step_s, _FASTEST_HZ))
    return scores


def table(scores: Sequence[InterpolationScore]) -> str:
    """The scores as a Markdown table."""
    columns = [
        Column("source", f"{scores[0].frames} left-out frames by"),
        Column("rgb_mae_px", "RGB error", ".1f", "0..255"),
        Column("psnr_db", "PSNR", ".1f", "dB"),
        Column("ssim", "SSIM", ".2f"),
    ]
    return Table(columns, [vars(score) for score in scores]).markdown()


def left_out(dataset: Dataset, config: InterpolateConfig) -> list[Gap]:
    """All frames between kept ones; not across pauses, nor where the camera turned further than `max_turn_deg`."""
    gaps = []
    for part in dataset.segments():
        for before, after in zip(part[:: config.leave_out], part[config.leave_out :: config.leave_out], strict=False):
            if _turn_deg(dataset.T_map_cam[before], dataset.T_map_cam[after]) > config.max_turn_deg:
                continue
            for target in range(int(before) + 1, int(after)):
                times = dataset.stamps_ns[[before, target, after]]
                share = float((times[1] - times[0]) / (times[2] - times[0]))
                gaps.append(Gap(int(before), int(after), target, share))
    return gaps


def _score(models: Sequence[Shower], recording: Recording, gaps: Sequence[Gap]) -> list[InterpolationScore]:
    """Models at interpolated poses, models at the recorded poses, and what needs no model."""
    T_map_cam = recording.dataset.T_map_cam
    between = np.concatenate(
        [route.route_between(T_map_cam[g.before], T_map_cam[g.after], np.array([g.share])) for g in gaps]
    )
    shown = {model.title: model.show(between, recording.camera) for model in models}
    own = T_map_cam[[gap.target for gap in gaps]]
    shown |= {f"{model.title}, at its recorded pose": model.show(own, recording.camera) for model in models}
    ends = [(recording.rgb(gap.before), recording.rgb(gap.after), gap.share) for gap in gaps]
    shown |= {name: np.stack([way(*each) for each in ends]) for name, way in WAYS.items()}
    truth = _as_tensor(recording.frames(np.array([gap.target for gap in gaps])))
    return [_scored(name, images, truth) for name, images in shown.items()]


def _scored(name: str, images: UInt8, truth: torch.Tensor) -> InterpolationScore:
    scores = Scores()
    for start in range(0, len(images), 16):
        scores.add(_as_tensor(images[start : start + 16]), truth[start : start + 16], None, None)
    means = scores.result()
    return InterpolationScore(name, len(images), means["rgb_mae_px"], means["psnr_db"], means["ssim"])


def _as_tensor(images: AnyArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def _draw(models: Sequence[Shower], recording: Recording, gap: Gap, columns: int, path: Path) -> None:
    """Figure 7: from one kept frame to the next, ends as recorded."""
    dataset, camera = recording.dataset, recording.camera
    ends = recording.rgb(gap.before), recording.rgb(gap.after)
    share = np.linspace(0.0, 1.0, columns)
    T = route.route_between(dataset.T_map_cam[gap.before], dataset.T_map_cam[gap.after], share)
    titles = ["recorded", *(f"{u:.2f}" for u in share[1:-1]), "recorded"]
    rows = {model.title: list(model.show(T, camera)) for model in models}
    rows |= {name: [way(*ends, float(u)) for u in share] for name, way in WAYS.items()}
    strips = [
        Strip(name, [ends[0], *images[1:-1], ends[1]], titles if not row else ())
        for row, (name, images) in enumerate(rows.items())
    ]
    seconds = (dataset.stamps_ns[gap.after] - dataset.stamps_ns[gap.before]) / 1e9
    moved = np.linalg.norm(np.subtract(*dataset.T_map_cam[[gap.after, gap.before], :3, 3]))
    title = f"{dataset.path.resolve().name}: frames between two recorded ones {seconds:.2f} s and {moved:.1f} m apart"
    draw_strips(path, strips, title)


def _film(models: Sequence[Shower], recording: Recording, frames: range, times: int) -> Iterator[UInt8]:
    """Side by side: the recording, each frame held, and each model at interpolated poses."""
    T_map_cam = recording.dataset.T_map_cam
    names = ["recorded", *(model.title for model in models)]
    for before in frames[:-1]:
        T = route.route_between(T_map_cam[before], T_map_cam[before + 1], np.arange(times) / times)
        held = recording.rgb(before)
        shown = [model.show(T, recording.camera) for model in models]
        for step in range(times):
            yield panels([held, *(images[step] for images in shown)], names)


def _joined_until(dataset: Dataset, start: int, config: InterpolateConfig) -> int:
    """The last frame of a video from `start`. UserError: no frame to join it with."""
    last = len(dataset) - 1
    part = next((part for part in dataset.segments() if part[0] <= start <= part[-1]), None)
    stop = start if part is None else min(start + config.frames - 1, int(part[-1]))
    for frame in range(start, min(stop, last)):
        if _turn_deg(dataset.T_map_cam[frame], dataset.T_map_cam[frame + 1]) > config.max_turn_deg:
            stop = frame
            break
    if stop <= start:
        raise UserError(
            f"frame {start} of {dataset.path} (0 to {last}) has no next one to join it with; choose another --start"
        )
    return stop


def _typical(dataset: Dataset, gaps: Sequence[Gap]) -> Gap:
    """The gap of which the sheet is made: the middle one in the order of how far the camera moved."""
    moved = [np.linalg.norm(np.subtract(*dataset.T_map_cam[[g.after, g.before], :3, 3])) for g in gaps]
    return gaps[int(np.argsort(moved, kind="stable")[len(gaps) // 2])]


def _turn_deg(one: Float64, other: Float64) -> float:
    return float(np.rad2deg(se3.apart(one, other)[1]))

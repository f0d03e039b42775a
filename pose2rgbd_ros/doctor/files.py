"""Photographs, and videos with their logs, looked at by converting them without writing anything."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pose2rgbd_ros.convert.photos import PhotoSet, photo_sets
from pose2rgbd_ros.convert.report import BagReport, ConvertReport
from pose2rgbd_ros.convert.settings import ConvertConfig, PhotoSettings, VideoSettings
from pose2rgbd_ros.convert.video import LoggedVideo, has_log
from pose2rgbd_ros.doctor import judge
from pose2rgbd_ros.doctor.diagnosis import Diagnosis, Expected, Stream, size_of
from pose2rgbd_ros.doctor.jobs import add_jobs
from pose2rgbd_ros.doctor.pictures import PictureLog
from pose2rgbd_ros.doctor.rehearsal import Rehearsal
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.sfm.align import plan_of
from pose2rgbd_ros.sfm.reconstruct import AlignSettings
from pose2rgbd_ros.streams.samples import ImageSample
from pose2rgbd_ros.streams.video_file import VideoFile

LOOKED_AT = 24  # photographs and video frames that are decoded
CLOCK_S = 60.0  # of a video, in which its clock is looked for
FEW_KEY_FRAMES = 10
NO_LOG_RATE_HZ = 2.0
_ALIGNED_KEY_FRAMES = 300  # of a video, about, as an alignment chooses them


@dataclass
class FileLook:
    """What was found on the way, for the pictures of the report."""

    pictures: PictureLog
    rehearsal: Rehearsal


def examine_photos(
    source: Path, config: ConvertConfig, options: PhotoSettings, given: tuple[str, ...] = ()
) -> tuple[Diagnosis, FileLook | None]:
    """A folder of photographs, or one. UserError when it holds none."""
    begun = time.perf_counter()
    ((folder, paths),) = photo_sets([source]).items()
    diagnosis = Diagnosis((str(source),), "photographs", given)
    total = sum(path.stat().st_size for path in paths)
    diagnosis.facts["photos"] = f"{counted(len(paths), 'photo')}, {size_of(total)}"
    log = PictureLog(len(paths), LOOKED_AT)
    rehearsal, report = _rehearsal(config, log)
    part = report.begin(folder)
    try:
        PhotoSet(rehearsal, config, options, folder, paths, part).run()
    except UserError as error:
        diagnosis.add("not_convertible", "unusable", "", str(error))
    report.table.close()
    diagnosis.streams.append(Stream(folder.name, "photographs", len(paths), "images and poses"))
    _finish(diagnosis, part, rehearsal, log, len(paths), time.perf_counter() - begun)
    camera = rehearsal.meta.camera if rehearsal.meta else None
    if camera is not None and not camera.is_calibrated:
        diagnosis.add(
            "uncalibrated", "problem", "", "the photographs do not say their focal length",
            "--fov-deg gives the field of view, or `pose2rgbd align` finds the lens",
        )  # fmt: skip
    diagnosis.took_s = time.perf_counter() - begun
    return diagnosis, FileLook(log, rehearsal)


def examine_video(
    video: Path, log_path: Path | None, config: ConvertConfig, options: VideoSettings, given: tuple[str, ...] = ()
) -> tuple[Diagnosis, FileLook | None]:
    """A video, beside its log where there is one."""
    begun = time.perf_counter()
    diagnosis = Diagnosis((str(video), *([str(log_path)] if log_path else [])), "video", given)
    file = VideoFile(video)
    diagnosis.facts["video"] = f"{file.duration_s:.1f} s, {size_of(video.stat().st_size)}"
    frames = len(file.stamps_ns())
    diagnosis.streams.append(
        Stream(video.name, "video", frames, "images", frames / file.duration_s if file.duration_s else None)
    )
    quick = _quick(file, options)
    log = PictureLog(_looked_at(file, quick), LOOKED_AT)
    rehearsal, report = _rehearsal(config, log)
    part = report.begin(video)
    if not has_log(video, log_path):
        diagnosis.add(
            "no_log", "problem", video.name,
            "there is no log: none was given, none of its name lies beside it, and none is inside",
            f"name it: `pose2rgbd doctor {video} LOG`; without one `pose2rgbd convert {video} DATASET --depth HOW` "
            "follows the camera by its pictures alone, in no unit",
        )  # fmt: skip
        _look_alone(file, quick, log)
    else:
        try:
            conversion = LoggedVideo(rehearsal, config, _excerpt(file, options), video, log_path, part)
            conversion.options = quick
            conversion.run()
        except UserError as error:
            diagnosis.add("not_convertible", "unusable", "", str(error))
    report.table.close()
    share = len(rehearsal.stamps_ns) / max(1, part.images)
    seconds = frames * rehearsal.encode_s / max(1, len(rehearsal.stamps_ns))
    _finish(diagnosis, part, rehearsal, log, round(share * frames), seconds, frames)
    if rehearsal.meta is not None and not rehearsal.meta.camera.is_calibrated:
        diagnosis.add(
            "uncalibrated", "problem", "", "a video does not say its focal length",
            "--fov-deg gives the field of view, or `pose2rgbd align` finds the lens",
        )  # fmt: skip
    diagnosis.took_s = time.perf_counter() - begun
    return diagnosis, FileLook(log, rehearsal)


def _rehearsal(config: ConvertConfig, log: PictureLog) -> tuple[Rehearsal, ConvertReport]:
    def watch(index: int, image: ImageSample) -> None:
        log.count += 1
        try:
            log.take_image(image, index)
        except UserError as error:
            log.unreadable[str(error)] += 1

    return Rehearsal(config, log.expected, watch), ConvertReport("")


def _excerpt(file: VideoFile, options: VideoSettings) -> VideoSettings:
    """The part of a long video by which its clock is found."""
    end_s = options.end_s or file.duration_s
    return replace(options, end_s=min(end_s, options.start_s + CLOCK_S)) if end_s > CLOCK_S else options


def _quick(file: VideoFile, options: VideoSettings) -> VideoSettings:
    """The key frames alone; of a video that has few of them, some frames a second."""
    keys = sum(1 for _ in file.frames(options.start_s, options.end_s, True))
    if keys >= FEW_KEY_FRAMES:
        return replace(options, keyframes=True)
    return replace(options, max_rate_hz=options.max_rate_hz or NO_LOG_RATE_HZ)


def _looked_at(file: VideoFile, quick: VideoSettings) -> int:
    if quick.keyframes:
        return sum(1 for _ in file.frames(quick.start_s, quick.end_s, True))
    length_s = (quick.end_s or file.duration_s) - quick.start_s
    return max(1, min(len(file.stamps_ns()), round(length_s * quick.max_rate_hz)))


def _look_alone(file: VideoFile, quick: VideoSettings, log: PictureLog) -> None:
    """At the pictures of a video that nothing places."""
    next_ns = 0.0
    for frame in file.frames(quick.start_s, quick.end_s, quick.keyframes):
        if frame.media_ns >= next_ns:
            next_ns = frame.media_ns + (1e9 / quick.max_rate_hz if quick.max_rate_hz else 0)
            rgb = frame.rgb(quick.image_height)
            height, width = rgb.shape[:2]
            log.count += 1
            log.take_image(ImageSample(0, "", "rgb8", rgb.data, width, height, 3 * width), log.count - 1)


def _finish(
    diagnosis: Diagnosis,
    part: BagReport,
    rehearsal: Rehearsal,
    log: PictureLog,
    frames: int,
    seconds: float,
    images: int | None = None,
) -> None:
    """What is judged alike of all files; `frames` of `images` would come, in so many seconds."""
    names: Sequence[str] = diagnosis.source[:1]
    if log.sizes:
        (width, height), _ = log.sizes.most_common(1)[0]
        diagnosis.facts["images"] = f"{width} x {height}, {', '.join(log.encodings)}"
    several, log.sizes = log.sizes, type(log.sizes)()  # photographs may be of several lenses, which converting joins
    judge.judge_pictures(diagnosis, Path(names[0]).name, log, 0)
    log.sizes = several
    judge.judge_rejects(diagnosis, part.rejects, part.images, {})
    if diagnosis.kind == "video":  # photographs are apart as far as they like
        judge.judge_motion(diagnosis, part.topics.get("pose") or "", rehearsal.stamps_ns, rehearsal.T_map_cam)
    for text in part.warnings:
        diagnosis.add("convert", "problem", "", text)
    diagnosis.notes = part.notes
    kept = len(rehearsal.stamps_ns) if images is None else frames
    if kept:
        every = max(1, len(rehearsal.stamps_ns) // _ALIGNED_KEY_FRAMES)
        camera = rehearsal.meta.camera if rehearsal.meta else None
        size = (camera.width, camera.height) if camera else (0, 0)
        keyframes = np.arange(0, len(rehearsal.stamps_ns), every, dtype=np.int64)
        align_min = plan_of(keyframes, rehearsal.T_map_cam, size, AlignSettings()).minutes
        diagnosis.expected = Expected.of(
            images or part.images,
            kept,
            rehearsal.frame_bytes,
            seconds,
            part.rejects if images is None else {},
            align_min,
        )
    elif diagnosis.status < 2 and part.images:
        diagnosis.add("no_frames", "unusable", "", f"none of {counted(part.images, 'image')} becomes a frame")
    add_jobs(diagnosis, False, bool(rehearsal.meta and rehearsal.meta.camera.is_calibrated), None)

"""What a recording is good for: which jobs it has all for, what the others miss, and the command of each."""

from __future__ import annotations

from pose2rgbd_ros.dataset.splits import FEWEST_FRAMES
from pose2rgbd_ros.doctor.diagnosis import Diagnosis, Job
from pose2rgbd_ros.errors import counted

FEW_FRAMES = 50  # with fewer a model has little to learn from


def add_jobs(diagnosis: Diagnosis, has_depth: bool, is_calibrated: bool, live_topics: dict[str, str] | None) -> None:
    """Of a recording whose conversion was rehearsed. `live_topics`: those that the record node would take, by name."""
    frames = diagnosis.expected.frames if diagnosis.expected else 0
    codes = {it.code for it in diagnosis.findings if it.severity != "note"}
    still = any(it.code == "motion" and "never moves" in it.text for it in diagnosis.findings)
    none = diagnosis.ranked[0].text if diagnosis.status == 2 else "no image becomes a frame"
    trains = none if not frames else _too_few(frames) or ("the camera never moves" if still else "")
    aligns = trains or ("most images are blurred" if "blur" in codes and not _is_partial(diagnosis) else "")
    to_depth = "pose2rgbd train relief DATASET --out RUN"
    if not has_depth:
        to_depth = f"pose2rgbd align DATASET && pose2rgbd depth add DATASET && {to_depth}"
    lens = "" if is_calibrated else "the camera is not calibrated: align finds its lens"
    converts = "" if frames or any(it.flags for it in diagnosis.findings) else none
    jobs = [
        Job("convert", converts, diagnosis.convert_command()),
        Job("train", trains, "pose2rgbd train base DATASET --out RUN"),
        Job("relief, with depth", trains if has_depth else aligns, to_depth),
        Job("align", aligns, "pose2rgbd align DATASET"),
        Job("localize", trains, "pose2rgbd train posegan DATASET --size 128 --out FINDER"),
        Job("localize, refined", trains or lens, "pose2rgbd locate FINDER IMAGE --renderer RUN"),
    ]  # fmt: skip
    if live_topics is not None:
        remaps = " ".join(f"-r {name}:={topic}" for name, topic in live_topics.items())
        missing = "no colour images" if "image" not in live_topics else ""
        jobs.append(Job("record, live", missing, f"pose2rgbd record --out flight --ros-args {remaps}"))
    diagnosis.jobs = jobs
    if 0 < frames < FEW_FRAMES:
        diagnosis.add(
            "few_frames", "note" if frames >= FEWEST_FRAMES else "problem", "",
            f"{counted(frames, 'frame')}: few to learn a place from", "fly longer, or over less",
        )  # fmt: skip


def _too_few(frames: int) -> str:
    return f"too few frames ({frames})" if frames < FEWEST_FRAMES else ""


def _is_partial(diagnosis: Diagnosis) -> bool:
    """Whether blurred pictures can be left out."""
    return any(it.code == "blur" and it.flags for it in diagnosis.findings)

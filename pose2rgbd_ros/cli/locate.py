"""`pose2rgbd locate RUN IMAGE ...|DATASET`: where images were taken, by a network that finds poses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from pose2rgbd_ros.cli import results
from pose2rgbd_ros.cli.results import Json

if TYPE_CHECKING:
    from pose2rgbd_ros.geometry.arrays import Float64, UInt8
    from pose2rgbd_ros.geometry.camera import Camera
    from pose2rgbd_ros.localization.estimate import LocatedImage
    from pose2rgbd_ros.localization.localizer import Localizer
    from pose2rgbd_ros.localization.refine import Refiner


@dataclass(frozen=True)
class Arguments:
    """Find the pose of the camera of each image: one line each with position, heading, standard deviations, and whether
    the answer is accepted or why not."""

    run: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="RUN", help="checkpoint of a network that finds poses, or the run folder around it"),
    ]
    images: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="IMAGE [IMAGE ...] | DATASET",
            help="image files, or one dataset, whose recorded poses then show the error",
            help_behavior_hint="(required)",
        ),
    ]
    camera: Annotated[
        str,
        tyro.conf.arg(
            help="intrinsics of the image files: 'fx fy cx cy', then 'k1 k2 p1 p2 [k3 [k4 k5 k6]]' where the lens "
            "distorts; by default they are of the camera of the training's recording"
        ),
    ] = ""
    fov_deg: Annotated[float, tyro.conf.arg(help="or their horizontal field of view")] = 0.0
    every: Annotated[int, tyro.conf.arg(help="of a dataset, every n-th frame")] = 1
    renderer: Annotated[
        Path | None, tyro.conf.arg(help="a renderer of the same place, whose pictures correct and verify each pose")
    ] = None
    out: Annotated[
        Path | None,
        tyro.conf.arg(help="write all answers to a .csv, or the accepted poses to a .txt or .tum (TUM format)"),
    ] = None
    gate: Annotated[bool, tyro.conf.arg(help="reject images that are unlike the training frames")] = True
    device: Annotated[Literal["auto", "cpu", "cuda"], tyro.conf.arg(help="where to run the networks")] = "auto"
    json: Json = False


def main(argv: list[str]) -> int:
    """Print the answers. Exit status 1 when none is accepted. UserError for a bad checkpoint, dataset or image."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd locate")
    from pose2rgbd_ros.errors import UserError, counted
    from pose2rgbd_ros.localization.estimate import check_poses_path, summary, write_poses
    from pose2rgbd_ros.localization.localizer import Localizer  # torch only once it is needed

    if not arguments.images or arguments.every < 1:
        raise UserError("nothing to locate: give image files or a dataset, and --every 1 or more")
    if arguments.out is not None:
        check_poses_path(arguments.out)
    localizer = Localizer(arguments.run, arguments.device, gate=arguments.gate)
    if localizer.calibration is None:
        print("note: not calibrated (pose2rgbd calibrate): the network's answers have no covariance, and only blank "
              "images are rejected")  # fmt: skip
    refiner = _refiner(arguments, localizer.map_frame)
    found: list[LocatedImage] = []
    try:
        for shot in _shots(arguments):
            found.append(_found(shot, arguments, localizer, refiner))
            print(found[-1].line(), flush=True)
    finally:  # Ctrl-C loses nothing
        if len(found) > 1:
            print(summary(found))
        if found and arguments.out is not None:
            print(f"{counted(write_poses(arguments.out, found), 'pose')} written to {arguments.out}")
        results.add(run=arguments.run, images=[_values(one) for one in found])
    return 0 if any(one.estimate.accepted for one in found) else 1


def _values(found: LocatedImage) -> dict[str, Any]:
    """The answer to an image as plain values."""
    import numpy as np

    from pose2rgbd_ros.geometry import se3

    answer = found.estimate
    position = quat = sigma_m = sigma_deg = None
    if answer.T_map_cam is not None:
        position, quat = se3.split(answer.T_map_cam)
    if answer.covariance is not None:
        sigma_m, sigma_deg = answer.position_sigma_m, np.degrees(answer.rotation_sigma_rad)
    error_m, error_deg = found.error or (None, None)
    return {
        "name": found.name, "stamp_ns": found.stamp_ns, "accepted": answer.accepted, "reason": answer.reason or None,
        "position_m": position, "quat_xyzw": quat, "position_sigma_m": sigma_m, "rotation_sigma_deg": sigma_deg,
        "error_m": error_m, "error_deg": error_deg,
    }  # fmt: skip


@dataclass(frozen=True)
class Shot:
    """An image to be read: its name and stamp; its camera and recorded pose where those are known."""

    name: str
    stamp_ns: int
    read: Callable[[], UInt8]
    camera: Camera | None = None
    T_true: Float64 | None = None


def _shots(arguments: Arguments) -> Iterator[Shot]:
    """What was asked for."""
    from pose2rgbd_ros.dataset.reader import Dataset

    if len(arguments.images) == 1 and arguments.images[0].is_dir():
        data = Dataset(arguments.images[0])
        for frame in range(0, len(data), arguments.every):
            name, stamp_ns = Path(data.records[frame].rgb).name, int(data.stamps_ns[frame])
            yield Shot(name, stamp_ns, partial(data.rgb, frame), data.camera, data.T_map_cam[frame])
        return
    for number, path in enumerate(arguments.images):
        stamp_ns = int(path.stem) if path.stem.isdecimal() else number * 10**9  # as a dataset names its files
        yield Shot(path.name, stamp_ns, partial(_read, path))


def _read(path: Path) -> UInt8:
    import cv2
    import numpy as np

    from pose2rgbd_ros.dataset.encode import read_image

    bgr = read_image(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _found(shot: Shot, arguments: Arguments, localizer: Localizer, refiner: Refiner | None) -> LocatedImage:
    """The answer to an image; one that cannot be read is rejected, and the others go on."""
    from pose2rgbd_ros.errors import UserError
    from pose2rgbd_ros.localization.estimate import Estimate, LocatedImage

    try:
        rgb = shot.read()
    except UserError as error:
        return LocatedImage(shot.name, shot.stamp_ns, Estimate(None, accepted=False, reason=str(error)), shot.T_true)
    camera = shot.camera or _camera(rgb.shape[1], rgb.shape[0], arguments, localizer)
    estimate = localizer.find(rgb, camera)
    if refiner is not None and estimate.T_map_cam is not None:
        estimate = refiner.refine(rgb, camera, estimate)
    return LocatedImage(shot.name, shot.stamp_ns, estimate, shot.T_true)


def _camera(width: int, height: int, arguments: Arguments, localizer: Localizer) -> Camera:
    """Of an image file: as given, or the recording's at the image's size."""
    from pose2rgbd_ros.formats.scene import camera_of_text
    from pose2rgbd_ros.geometry.camera import Camera

    if arguments.camera:
        return camera_of_text(arguments.camera, width, height)
    if arguments.fov_deg:
        return Camera.from_fov(width, height, arguments.fov_deg)
    return localizer.recording_camera(width, height)


def _refiner(arguments: Arguments, map_frame: str) -> Refiner | None:
    """A refiner with the renderer asked for, or None."""
    if arguments.renderer is None:
        return None
    from pose2rgbd_ros.errors import UserError
    from pose2rgbd_ros.localization.refine import Refiner
    from pose2rgbd_ros.rendering.renderer import Renderer

    # Rough poses lie beyond those flown; whether a refined one is right the likeness decides, not the guard.
    renderer = Renderer(arguments.renderer, arguments.device, guard=False)
    if renderer.map_frame != map_frame:
        raise UserError(f"{arguments.renderer} lives in frame {renderer.map_frame!r}, {arguments.run} in {map_frame!r}")
    return Refiner(renderer)

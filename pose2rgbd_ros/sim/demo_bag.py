"""A small flight over the block world, recorded as a drone would: the input of `make demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.bags.messages import StampedTransform
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.geometry import depth, se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.sim.blockworld import BlockWorld
from pose2rgbd_ros.sim.flight import OrbitFlight

START_NS = 1_700_000_000_000_000_000
# The camera looks 40 degrees down from the body's forward axis, a little ahead of and below the centre.
CAMERA_PITCH_RAD = np.deg2rad(40.0)
CAMERA_OFFSET_M = (0.12, 0.0, -0.05)


@dataclass
class DemoBagConfig:
    """What `pose2rgbd demo-bag` records."""

    out: Path = setting(Path("demo.mcap"), "recording to write: a .mcap or .db3 file, or a folder")
    seed: int = setting(0, "draws the world and the flight")
    duration_s: float = setting(90.0, "length of the flight in seconds", ge=1.0)
    image_hz: float = setting(8.0, "images per second", ge=0.1, le=100.0)
    odometry_hz: float = setting(50.0, "odometry messages per second", ge=1.0, le=1000.0)
    width: int = setting(320, "image width in pixels", ge=16, le=4096)
    height: int = setting(240, "image height in pixels", ge=16, le=4096)
    fov_deg: float = setting(56.0, "horizontal field of view in degrees", ge=10.0, le=150.0)
    max_depth_m: float = setting(60.0, "range of the depth sensor in metres", ge=1.0, le=65.0)


def body_to_camera() -> np.ndarray:
    """T_body_cam (4, 4): the camera's optical frame in the drone's body frame (x forward, y left, z up)."""
    pitch = se3.make(CAMERA_OFFSET_M, [0.0, np.sin(CAMERA_PITCH_RAD / 2), 0.0, np.cos(CAMERA_PITCH_RAD / 2)])
    return se3.compose(pitch, se3.T_BODY_OPTICAL)


def write_demo_bag(config: DemoBagConfig) -> Path:
    """Record the flight; returns the path written. Images are JPEG, depth is compressedDepth in millimetres.

    Raises:
        UserError: the path exists, or is of an unknown kind.
    """
    world = BlockWorld(config.seed)
    flight = OrbitFlight(config.seed, duration_s=config.duration_s)
    focal = config.width / 2 / np.tan(np.deg2rad(config.fov_deg) / 2)
    camera = Camera(
        config.width, config.height, focal, focal, (config.width - 1) / 2, (config.height - 1) / 2
    )
    with BagWriter(config.out) as bag:
        _write_mount(bag)
        events = _timeline(config)
        progress = tqdm(events, desc="flying", unit="msg", mininterval=1.0)
        for t_s, kind in progress:
            stamp_ns = START_NS + round(t_s * 1e9)
            T_map_cam = flight.T_map_cam(np.array([t_s]))[0]
            if kind == "odometry":
                _write_odometry(bag, stamp_ns, T_map_cam)
            else:
                _write_images(bag, stamp_ns, *world.render(T_map_cam, camera, 1, config.max_depth_m), camera)
    return config.out


def _timeline(config: DemoBagConfig) -> list[tuple[float, str]]:
    """(seconds, kind) of every message in order; odometry reaches beyond the last image."""
    odometry = np.arange(0, config.duration_s + 2 / config.odometry_hz, 1 / config.odometry_hz)
    # Images fall between odometry messages, so the converter has to interpolate.
    images = np.arange(0.5 / config.odometry_hz, config.duration_s, 1 / config.image_hz)
    return sorted([(float(t), "odometry") for t in odometry] + [(float(t), "images") for t in images])


def _write_mount(bag: BagWriter) -> None:
    position_m, quat_xyzw = se3.split(body_to_camera())
    mount = StampedTransform(
        START_NS, "base_link", "camera_optical_frame", position_m.tolist(), quat_xyzw.tolist()
    )
    bag.write("/tf_static", bag.make.tf_message([mount]), START_NS)


def _write_odometry(bag: BagWriter, stamp_ns: int, T_map_cam: np.ndarray) -> None:
    T_map_body = se3.compose(T_map_cam, se3.inverse(body_to_camera()))
    position_m, quat_xyzw = se3.split(T_map_body)
    message = bag.make.odometry(stamp_ns, "map", "base_link", position_m.tolist(), quat_xyzw.tolist())
    bag.write("/odom", message, stamp_ns)


def _write_images(
    bag: BagWriter, stamp_ns: int, rgb: np.ndarray, depth_m: np.ndarray, camera: Camera
) -> None:
    frame = "camera_optical_frame"
    _, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    data, layout = depth.encode_compressed_depth(depth_m, "16UC1", png_level=1)
    make = bag.make
    bag.write(
        "/camera/image/compressed",
        make.compressed_image(stamp_ns, frame, jpeg.tobytes(), "rgb8; jpeg compressed bgr8"),
        stamp_ns,
    )
    bag.write("/camera/depth/compressedDepth", make.compressed_image(stamp_ns, frame, data, layout), stamp_ns)
    bag.write(
        "/camera/camera_info",
        make.camera_info(stamp_ns, frame, camera.width, camera.height, camera.K),
        stamp_ns,
    )

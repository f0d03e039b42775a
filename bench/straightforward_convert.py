"""The loop that `pose2rgbd convert` is measured against: rosbags, OpenCV, one process, as one writes it in an
afternoon.

    python bench/straightforward_convert.py BAG OUT

Poses first (interpolated linearly and by SLERP with SciPy), then the images: decoded with OpenCV, written with
cv2.imwrite. Compressed images become JPEG of quality 95 (OpenCV's default), raw ones PNG with OpenCV's defaults; poses
go to groundtruth.txt. No checks, no report, no filters, nothing to resume.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation, Slerp


def stamp_ns(message: object) -> int:
    """The header stamp."""
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def convert(bag: Path, out: Path) -> int:
    """Write the frames and their poses; the number of frames."""
    (out / "rgb").mkdir(parents=True)
    store = get_typestore(Stores.ROS2_JAZZY)
    frames = 0
    with AnyReader([bag], default_typestore=store) as reader, (out / "groundtruth.txt").open("w") as poses:
        odometry = [c for c in reader.connections if c.msgtype == "nav_msgs/msg/Odometry"]
        images = [c for c in reader.connections if c.msgtype.endswith(("/Image", "/CompressedImage"))]
        times, positions, quaternions = [], [], []
        for connection, _, data in reader.messages(odometry):
            message = reader.deserialize(data, connection.msgtype)
            pose = message.pose.pose
            times.append(stamp_ns(message))
            positions.append((pose.position.x, pose.position.y, pose.position.z))
            q = pose.orientation
            quaternions.append((q.x, q.y, q.z, q.w))
        t0 = times[0]
        seconds = (np.array(times) - t0) / 1e9
        positions = np.array(positions)
        slerp = Slerp(seconds, Rotation.from_quat(quaternions))
        for connection, _, data in reader.messages(images):
            message = reader.deserialize(data, connection.msgtype)
            stamp = stamp_ns(message)
            t = (stamp - t0) / 1e9
            if not 0 <= t <= seconds[-1]:
                continue
            if hasattr(message, "format"):
                image, suffix = cv2.imdecode(message.data, cv2.IMREAD_COLOR), "jpg"
            else:
                image = message.data.reshape(message.height, message.width, 3)
                if message.encoding == "rgb8":
                    image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
                suffix = "png"
            cv2.imwrite(str(out / "rgb" / f"{stamp}.{suffix}"), image)
            position = [np.interp(t, seconds, positions[:, i]) for i in range(3)]
            poses.write(" ".join(map(str, (stamp / 1e9, *position, *slerp(t).as_quat()))) + "\n")
            frames += 1
    return frames


def main() -> None:
    """Convert one recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    print(f"{convert(options.bag, options.out)} frames")


if __name__ == "__main__":
    main()

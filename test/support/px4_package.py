"""A real ROS package px4_msgs with the two messages that we publish, generated as PX4's is: there is no wheel of it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

OBSTACLE_DISTANCE = """\
uint64 timestamp
uint8 frame
uint8 MAV_FRAME_GLOBAL = 0
uint8 MAV_FRAME_LOCAL_NED = 1
uint8 MAV_FRAME_BODY_FRD = 12
uint8 sensor_type
uint8 MAV_DISTANCE_SENSOR_LASER = 0
uint8 MAV_DISTANCE_SENSOR_ULTRASOUND = 1
uint8 MAV_DISTANCE_SENSOR_INFRARED = 2
uint8 MAV_DISTANCE_SENSOR_RADAR = 3
uint16[72] distances
float32 increment
uint16 min_distance
uint16 max_distance
float32 angle_offset
"""
VEHICLE_ODOMETRY = """\
uint64 timestamp
uint64 timestamp_sample
uint8 POSE_FRAME_UNKNOWN = 0
uint8 POSE_FRAME_NED = 1
uint8 POSE_FRAME_FRD = 2
uint8 pose_frame
float32[3] position
float32[4] q
uint8 VELOCITY_FRAME_UNKNOWN = 0
uint8 VELOCITY_FRAME_NED = 1
uint8 VELOCITY_FRAME_FRD = 2
uint8 VELOCITY_FRAME_BODY_FRD = 3
uint8 velocity_frame
float32[3] velocity
float32[3] angular_velocity
float32[3] position_variance
float32[3] orientation_variance
float32[3] velocity_variance
uint8 reset_counter
int8 quality
"""
FIELDS = {"ObstacleDistance": OBSTACLE_DISTANCE, "VehicleOdometry": VEHICLE_ODOMETRY}
CMAKE = """\
cmake_minimum_required(VERSION 3.20)
project(px4_msgs)
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
rosidl_generate_interfaces(${PROJECT_NAME} msg/ObstacleDistance.msg msg/VehicleOdometry.msg)
ament_package()
"""
PACKAGE = """\
<?xml version="1.0"?>
<package format="3">
  <name>px4_msgs</name>
  <version>1.0.0</version>
  <description>The fields of PX4's ObstacleDistance and VehicleOdometry.</description>
  <maintainer email="tests@pose2rgbd.invalid">tests</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


def build_px4_msgs(folder: Path) -> dict[str, str]:
    """Generate, build and install the package in `folder`; returns the environment in which Python finds it."""
    source, build, prefix = folder / "px4_msgs", folder / "build", folder / "install"
    (source / "msg").mkdir(parents=True)
    for name, fields in FIELDS.items():
        (source / "msg" / f"{name}.msg").write_text(fields)
    (source / "CMakeLists.txt").write_text(CMAKE)
    (source / "package.xml").write_text(PACKAGE)
    where = sysconfig.get_path("purelib", vars={"base": ""})[1:]
    configure = [
        "cmake", "-S", source, "-B", build, f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DBUILD_TESTING=OFF", "-Wno-dev",
        f"-DPYTHON_INSTALL_DIR={where}", f"-DPython3_EXECUTABLE={sys.executable}",
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", build], ["cmake", "--install", build]):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    paths = {"AMENT_PREFIX_PATH": prefix, "LD_LIBRARY_PATH": prefix / "lib", "PYTHONPATH": prefix / where}
    return {**os.environ, **{name: f"{path}:{os.environ.get(name, '')}" for name, path in paths.items()}}

"""How the consumers of our topics read them, restated from their sources; no code was copied (EGO-Planner is GPL-3).

Each function takes a message as it came over DDS, and gives what the consumer would make of it. Read were:

depth_image_proc: ros-perception/image_pipeline (rolling, 5.0.1) at 30b982a: point_cloud_xyz.cpp, conversions.hpp,
    depth_traits.hpp
EGO-Planner: ZJU-FAST-Lab/ego-planner-swarm (branch ros2_version) at 23a8d5a: grid_map.cpp, grid_map.h,
    ego_replan_fsm.cpp, advanced_param.launch.py
MAVROS: mavlink/mavros (branch ros2, 2.12.0) at f8f462d: mavros_extras/src/plugins/obstacle_distance.cpp;
    PX4/PX4-Autopilot: mavlink_receiver.cpp
Nav2: ros-navigation/navigation2 (branch jazzy) at f4108e5: obstacle_layer.cpp, voxel_layer.cpp,
    observation_buffer.cpp, voxel_grid.hpp, nav2_params.yaml
nvblox: NVIDIA-ISAAC-ROS/isaac_ros_nvblox (4.3) at 319438a: nvblox_node.cpp, image_conversions.cpp, node_params.hpp,
    nvblox_base.yaml; nvidia-isaac/nvblox (0.0.5, perhaps not the core of 4.3) at 7c76f90
octomap_server: OctoMap/octomap_mapping (branch ros2, 2.1.0) at 72141b9: octomap_server.cpp,
    tracking_octomap_server.cpp, octomap_tracking_client.launch.xml; octomap 1.9.7: OccupancyOcTreeBase.hxx,
    AbstractOccupancyOcTree.h
PX4: PX4/PX4-Autopilot: CollisionPrevention.cpp at 970e500 and 001d722, collisionprevention_params.yaml at 6ffdc93,
    dds_topics.yaml at 00743c6; PX4/px4_msgs at a4a9864
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2

UNKNOWN_CM = 65535
SECTORS = 36  # of PX4's own map


def points_of(cloud: PointCloud2) -> np.ndarray:
    """x, y, z (H, W, 3) of a cloud, by its fields' names and offsets, as all readers of PointCloud2 do."""
    offsets = {field.name: field.offset for field in cloud.fields if field.datatype == 7 and field.count == 1}
    assert cloud.row_step == cloud.point_step * cloud.width
    assert len(cloud.data) == cloud.row_step * cloud.height
    layout = np.dtype(
        {
            "names": ["x", "y", "z"],
            "formats": ["<f4"] * 3,
            "offsets": [offsets[name] for name in "xyz"],
            "itemsize": cloud.point_step,
        }
    )
    points = np.frombuffer(cloud.data, layout).reshape(cloud.height, cloud.width)
    return np.stack([points[name] for name in "xyz"], axis=-1)


def depth_image_proc(image: Image, info: CameraInfo) -> np.ndarray:
    """Points (H, W, 3) of point_cloud_xyz: pinhole of P, metres, whatever is not finite is a NaN point."""
    assert image.header == info.header, "the exact-time synchronizer would never match them"
    assert image.encoding == "32FC1"
    depth = np.frombuffer(image.data, "<f4").reshape(image.height, image.step // 4)[:, : image.width]
    depth = np.where(np.isfinite(depth), depth, np.nan)
    fx, fy, cx, cy = info.p[0], info.p[5], info.p[2], info.p[6]
    v, u = np.mgrid[: image.height, : image.width]
    return np.stack([(u - cx) * depth / fx, (v - cy) * depth / fy, depth], axis=-1)


@dataclass(frozen=True)
class ObstacleDistance:
    """The fields of MAVLink's OBSTACLE_DISTANCE that PX4 uses."""

    distances_cm: np.ndarray
    increment_deg: float
    offset_deg: float
    min_cm: int
    max_cm: int


def mavros(scan: LaserScan) -> ObstacleDistance:
    """What MAVROS' obstacle plugin sends to the vehicle; scans of up to 72 ranges."""
    assert len(scan.ranges) <= 72
    distances = np.full(72, UNKNOWN_CM)
    for index, range_m in enumerate(scan.ranges):
        cm = np.float32(range_m) * np.float32(100)
        if not np.isnan(cm) and 0 <= cm < UNKNOWN_CM:
            distances[index] = int(cm)
    return ObstacleDistance(
        distances,
        float(np.float32(np.degrees(scan.angle_increment))),
        float(np.degrees(scan.angle_min)),
        int(scan.range_min * 100),
        int(scan.range_max * 100),
    )


def px4_sectors(message: ObstacleDistance) -> np.ndarray:
    """The 36 sectors in cm that Collision Prevention fills from a first message in BODY_FRD: one bin each, no
    pooling.
    """
    factor = np.float32(1) / np.float32(message.increment_deg)
    bearing = np.float32((np.arange(SECTORS) * 10 - message.offset_deg) % 360)
    index = np.ceil(bearing * factor).astype(int)
    assert index.max() < 72, "it would read past the end of the array"
    return message.distances_cm[index]


def nav2(points_map: np.ndarray, low_m: float, high_m: float) -> np.ndarray:
    """Points (N, 3) of (..., 3) that an observation buffer keeps: NaN compares false with both limits."""
    points = points_map.reshape(-1, 3)
    with np.errstate(invalid="ignore"):
        return points[(points[:, 2] <= high_m) & (points[:, 2] >= low_m)]


def ego_planner(points_map: np.ndarray, position_m: np.ndarray, range_m: float) -> np.ndarray:
    """Points (N, 3) of (..., 3) that mark an obstacle: strictly within the box around the drone, so NaN does not."""
    points = points_map.reshape(-1, 3)
    with np.errstate(invalid="ignore"):
        return points[(np.abs(points - position_m) < range_m).all(axis=1)]


def octomap_freed(points_map: np.ndarray, origin_m: np.ndarray, cell_m: float, most_m: float) -> np.ndarray:
    """Middles (N, 3) of the cells that octomap_server frees along rays from the cloud's frame to points (M, 3).

    Its rays stop before the point's cell, which is occupied; beyond `most_m` they free up to there. Points that are not
    finite were taken out before. Cells are found by walking in steps of a tenth of one.
    """
    points = points_map.reshape(-1, 3)
    ways = points[np.isfinite(points).all(axis=1)] - origin_m
    length = np.linalg.norm(ways, axis=1)
    freed, occupied = set(), set()
    for way, full in zip(ways, length, strict=True):
        along = np.arange(0.0, min(full, most_m), 0.1 * cell_m)[:, None]
        keys = np.floor((origin_m + way / full * along) / cell_m).astype(int)
        last = tuple(np.floor((origin_m + way) / cell_m).astype(int))
        freed.update(key for key in map(tuple, keys) if key != last)
        if full <= most_m:
            occupied.add(last)
    return (np.array(sorted(freed - occupied)).reshape(-1, 3) + 0.5) * cell_m

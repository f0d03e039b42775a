"""What the simulator's world looks like where nobody flew: the truth beside a synthesised view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.city.city import City, CityConfig
from pose2rgbd_ros.sim.dataset_folder import SETTINGS
from pose2rgbd_ros.sim.gl.context import require_opengl
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer


def true_views(dataset: Dataset, T_map_cam: Float64, camera: Camera) -> UInt8:
    """Colour (B, H, W, 3) of the dataset's simulated city at poses (B, 4, 4), without its cars and people.

    UserError: the dataset is not the simulator's, or there is no OpenGL.
    """
    path = dataset.path / SETTINGS
    if not path.is_file():
        raise UserError(f"{dataset.path} was not made by the simulator (no {SETTINGS}); leave out --truth")
    values = settings.read_yaml(path)
    config = settings.from_yaml_dict(CityConfig, values.get("city", {}), str(path))
    require_opengl()
    city = City(replace(config, cars=0, people=0))
    with SceneRenderer(city.scene, camera, int(values.get("supersample", 2))) as renderer:
        return np.stack([renderer.render(T).rgb for T in T_map_cam])

"""Simulator and renderer in one process: what is rendered are the poses that the simulator flies, on its time."""

from __future__ import annotations

import numpy as np
import pytest
from pose2rgbd.msg import RenderStatus
from sensor_msgs.msg import Image

from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.sim.node import SimNode
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.state import START_NS, true_seconds

pytestmark = pytest.mark.ros
FLIGHT = FlightConfig(plan="orbit", altitude_m=70.0, radius_m=40.0, loops=1, seed=5)
PARAMETERS = {
    "width": 64, "height": 64, "faults": False, "city__extent_m": 200.0, "flight__plan": "orbit",
    "flight__altitude_m": 70.0, "flight__radius_m": 40.0, "flight__loops": 1, "flight__seed": 5,
}  # fmt: skip
TRAINED_S = np.arange(0.0, 6.0, 0.2)  # the beginning of the loop


def test_rendered_are_the_poses_that_are_flown(bench, make_checkpoint):
    flight = make_flight(FLIGHT)
    trained = flight.T_map_cam(TRAINED_S)
    model = make_checkpoint("orbit", T=trained, camera_frame="camera_optical_frame")
    images = {topic: bench.collect(Image, topic, 300) for topic in ("/render/rgb/image", "/render/depth/image")}
    seen = bench.collect(Image, "/camera/image")
    render = bench.render(model, use_sim_time=True, rate_hz=60.0)
    waiting = bench.wait_state(RenderStatus.WAITING_FOR_TF)
    assert "use_sim_time is set but nothing arrives on /clock" in waiting.message
    sim = bench.spin(SimNode, **PARAMETERS)
    status = bench.wait_state(RenderStatus.OK)
    assert status.inside_volume
    assert status.distance_to_training_m < 1.0
    assert abs(status.tf_age_s) < 1.0, "ages are told in simulated time"
    assert render.get_clock().now().nanoseconds - START_NS < 100e9
    bench.wait(lambda: all(len(got) > 20 for got in images.values()) and len(seen) > 5)

    renderer, compared = Renderer(model), 0
    for image in images["/render/rgb/image"][5:20]:
        stamp_ns = conversions.stamp_ns(image.header.stamp)
        assert image.header.frame_id == "camera_optical_frame"
        T_map_cam = flight.T_map_cam(true_seconds(stamp_ns))[0]
        expected = renderer.render(T_map_cam).rgb[0]
        np.testing.assert_allclose(conversions.rgb_of(image).astype(int), expected.astype(int), atol=1)
        compared += 1
    assert compared == 15

    outside = bench.wait_state(RenderStatus.OUTSIDE_VOLUME)
    flown_s = true_seconds(conversions.stamp_ns(outside.header.stamp))
    assert flown_s > TRAINED_S[-1]
    expected_m = np.linalg.norm(trained[:, :3, 3] - flight.T_map_cam(flown_s)[0, :3, 3], axis=1).min()
    assert outside.distance_to_training_m == pytest.approx(expected_m, abs=0.5)
    bench.wait(lambda: np.isnan(np.frombuffer(images["/render/depth/image"][-1].data, np.float32)).all())
    assert sim._loop.failure is None

"""Asks a running render node how much room there is along a straight path, and prints the profile.

    python examples/look_along_path.py 0 0 40  60 0 40           # from (0, 0, 40) to (60, 0, 40) in the map frame
    python examples/look_along_path.py 0 0 40  60 0 40 --cancel-after 5

The node must know where the camera sits on the body (TF), and needs a calibrated model, or the parameter
look_ahead.uncalibrated_margin. Unknown prints as `?` and is to be taken as occupied.
"""

from __future__ import annotations

import argparse
import math
import sys

import rclpy
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from pose2rgbd.action import RenderPath
from rclpy.action import ActionClient
from rclpy.node import Node


def straight_path(corners: list[float], frame: str) -> Path:
    """Two poses without orientations: the body looks where it goes."""
    path = Path()
    path.header.frame_id = frame
    for x, y, z in (corners[:3], corners[3:]):
        stamped = PoseStamped()
        stamped.pose.position.x, stamped.pose.position.y, stamped.pose.position.z = x, y, z
        path.poses.append(stamped)
    return path


def render_path(node: Node, goal: RenderPath.Goal, cancel_after: int = 0) -> RenderPath.Result:
    """Send a goal, print its feedback, and give the result; cancels once so many poses are rendered."""
    client = ActionClient(node, RenderPath, "/render/render_path")
    if not client.wait_for_server(10.0):
        raise SystemExit("no action /render/render_path; is the render node running?")
    rendered = [0]

    def heard(message: object) -> None:
        rendered[0] = message.feedback.rendered  # type: ignore[attr-defined]
        print(f"{rendered[0]} of {message.feedback.total} poses")  # type: ignore[attr-defined]

    sent = client.send_goal_async(goal, feedback_callback=heard)
    rclpy.spin_until_future_complete(node, sent)
    handle = sent.result()
    answer = handle.get_result_async()
    while not answer.done():
        rclpy.spin_once(node, timeout_sec=0.1)
        if cancel_after and rendered[0] >= cancel_after:
            handle.cancel_goal_async()
            cancel_after = 0
    return answer.result().result


def table(result: RenderPath.Result) -> str:
    """The profile as lines of text."""
    rows = [f"{'along m':>8} {'clearance':>10} {'ahead':>7} {'below':>7} {'known':>6}"]
    profile = result.profile
    columns = (profile.distance_m, profile.clearance_m, profile.ahead_m, profile.below_m, profile.known)
    for values in zip(*columns, strict=True):
        along, clearance, ahead, below, known = ("?" if math.isnan(v) else f"{v:.1f}" for v in values)
        rows.append(f"{along:>8} {clearance:>10} {ahead:>7} {below:>7} {known:>6}")
    for name in ("first_conflict_m", "first_unknown_m"):
        value = getattr(profile, name)
        rows.append(f"{name}: {'none' if math.isnan(value) else f'{value:.1f}'}")
    return "\n".join([*rows, *filter(None, [result.message])])


def main() -> int:
    """Ask and print; exit status 1 when there is no profile, or a conflict, or something unknown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corners", nargs=6, type=float, metavar="X", help="x y z of the start, then of the end")
    parser.add_argument("--frame", default="map", help="frame of the corners")
    parser.add_argument("--spacing-m", type=float, default=5.0, help="distance between the poses rendered")
    parser.add_argument("--radius-m", type=float, default=1.5, help="radius of the body")
    parser.add_argument("--cancel-after", type=int, default=0, help="cancel once so many poses are rendered")
    options, _ = parser.parse_known_args()
    rclpy.init()
    node = rclpy.create_node("look_along_path")
    goal = RenderPath.Goal(
        path=straight_path(options.corners, options.frame), spacing_m=options.spacing_m, radius_m=options.radius_m
    )
    result = render_path(node, goal, options.cancel_after)
    print(table(result))
    node.destroy_node()
    rclpy.try_shutdown()
    profile = result.profile
    clear = math.isnan(profile.first_conflict_m) and math.isnan(profile.first_unknown_m)
    return 0 if result.success and clear else 1


if __name__ == "__main__":
    sys.exit(main())

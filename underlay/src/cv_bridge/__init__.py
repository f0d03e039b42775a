"""The stand-in for cv_bridge's Python side: sensor_msgs images to and from OpenCV arrays. See underlay/README.md."""

from cv_bridge.core import CvBridge, CvBridgeError

__all__ = ["CvBridge", "CvBridgeError"]

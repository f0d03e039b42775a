"""Rosbags to streams and back; needs no ROS."""

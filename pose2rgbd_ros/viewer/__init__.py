"""`pose2rgbd view`: the learned place in a browser. No ROS here: nodes/view.py brings live poses."""

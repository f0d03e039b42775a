"""The only folder that imports rclpy and ROS messages."""

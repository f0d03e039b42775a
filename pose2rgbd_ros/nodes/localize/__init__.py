"""Images -> the camera's pose and map -> odom."""

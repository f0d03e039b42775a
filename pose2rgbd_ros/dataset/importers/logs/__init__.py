"""Flight logs, and the pose of a camera in them."""

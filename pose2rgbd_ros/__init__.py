"""pose2rgbd: from a recorded flight to a node that renders RGB and depth at the current TF pose."""

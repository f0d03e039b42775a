"""TrianFlow: depth and ego-motion from video by optical flow and triangulation; and its baselines with a PoseNet."""

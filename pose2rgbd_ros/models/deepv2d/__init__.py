"""DeepV2D: depth and motion of several views from each other."""

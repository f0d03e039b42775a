"""What was recorded together put together: the clocks of images and poses, depth and colour."""

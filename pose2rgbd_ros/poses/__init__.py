"""Where the camera is: transforms, odometry, GPS, attitude and their fusion."""

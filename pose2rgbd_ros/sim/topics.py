"""Topic names of the simulated drone, the same in a simulated bag and on the live topics."""

RGB = "camera/image"  # raw; JPEG on camera/image/compressed
RGB_COMPRESSED = RGB + "/compressed"
RGB_INFO = "camera/camera_info"
DEPTH = "camera/depth/image"  # 32FC1
DEPTH_COMPRESSED = DEPTH + "/compressedDepth"
DEPTH_INFO = "camera/depth/camera_info"
ODOMETRY = "odom"
FIX = "gps/fix"
IMU = "imu/data"
PRESSURE = "pressure"
CLOCK = "/clock"
TF = "/tf"
TF_STATIC = "/tf_static"

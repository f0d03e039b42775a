# Sourced by .venv/bin/activate (bash or zsh): where ROS finds this venv's packages.
# With a ROS 2 sourced before, the venv comes in front of it; else the wheels in the venv are the ROS.
if [ -d "$VIRTUAL_ENV/share/rclpy" ]; then
  export AMENT_PREFIX_PATH=$VIRTUAL_ENV CMAKE_PREFIX_PATH=$VIRTUAL_ENV
  LD_LIBRARY_PATH=$VIRTUAL_ENV/lib
  for _libs in "$VIRTUAL_ENV"/lib/python3.*/site-packages/ros_*.libs; do LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$_libs; done
  unset _libs
  # POSE2RGBD_VENV_ROS tells scripts/setup.sh that this ROS is the venv's own, not one the user sourced.
  export LD_LIBRARY_PATH POSE2RGBD_VENV_ROS=1 _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
  export ROS_DISTRO=jazzy ROS_VERSION=2 ROS_PYTHON_VERSION=3 RMW_IMPLEMENTATION=rmw_fastrtps_cpp
  export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}
else
  case ":${AMENT_PREFIX_PATH:-}:" in
    *":$VIRTUAL_ENV:"*) ;;
    *) export AMENT_PREFIX_PATH=$VIRTUAL_ENV${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}
       export CMAKE_PREFIX_PATH=$VIRTUAL_ENV${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}
       export LD_LIBRARY_PATH=$VIRTUAL_ENV/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
       # ros2 runs on the system's Python: our messages, for ros2 topic echo, and
       # what launch files import, not the libraries of this venv.
       export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$VIRTUAL_ENV/lib/interfaces ;;
  esac
fi

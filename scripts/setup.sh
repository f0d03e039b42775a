#!/usr/bin/env bash
# Builds .venv with everything `make` needs; quick when nothing changed. See docs/install.md for the two homes.
#   ROS 2 sourced:  a venv with system site packages, only what rosdep cannot give.
#   no ROS:         a venv with the real rclpy, Fast DDS and rosidl from pinned wheels, plus underlay/.
# PYTHON chooses the interpreter, TORCH_PIP_ARGS reaches the pip call that installs torch. EXTRAS=sim,view installs what
# these extras of setup.cfg need and no more, for an image that only runs (docker/); torch is there with `train` or `all`.
set -Eeuo pipefail
cd "$(dirname "$0")/.."

venv=$PWD/.venv
stamps=$venv/.stamps

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
say() { printf 'setup: %s\n' "$1"; }

# `stage ... || fail` would switch errexit off inside the stage, so a trap tells which one broke.
current_stage=
trap '[ -z "$current_stage" ] || fail "$current_stage failed; the lines above say why"' ERR

choose_home() {
  python=${PYTHON:-python3}
  command -v "$python" >/dev/null || fail "no $python found; install Python 3.11 or set PYTHON=/path/to/python3"
  # In an activated .venv $python is the venv's own, and make_venv may remove that: take the one it was made from.
  python=$("$python" -c \
    'import sys; print(sys._base_executable if sys.prefix == sys.argv[1] else sys.executable)' "$venv")
  if [ -n "${ROS_DISTRO:-}" ] && [ -z "${POSE2RGBD_VENV_ROS:-}" ]; then
    home=ros
    local problem
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' ||
      fail "ROS 2 $ROS_DISTRO is sourced, whose $("$python" -V) is too old;" \
        "Python 3.11 and NumPy 1.26 are needed: ROS 2 Jazzy or later"
    problem=$("$python" -c 'import rclpy, tf2_ros, cv_bridge' 2>&1) ||
      fail "ROS 2 $ROS_DISTRO is sourced, but $python says: ${problem##*$'\n'};" \
        "run rosdep install --from-paths . --ignore-src, or start from a shell without ROS"
  else
    home=wheels
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
      python=$(command -v python3.11) || fail "the ROS 2 wheels need Python 3.11 and $("$python" -V) was found;" \
        "install python3.11 or set PYTHON=, or source a ROS 2 installation"
    }
  fi
}

check_machine() {
  local tool free_mib needed_mib=5000
  for tool in cmake c++ cc; do
    command -v $tool >/dev/null ||
      fail "$tool is missing; install it (Debian/Ubuntu: apt install build-essential cmake)"
  done
  cmake_version=$(cmake --version | sed -n '1s/.* //p')
  [ "$(printf '%s\n3.22\n' "$cmake_version" | sort -V | head -1)" = 3.22 ] ||
    fail "cmake $cmake_version is too old; 3.22 or newer is needed"
  "$python" -c 'import ensurepip' 2>/dev/null ||
    fail "$python has no venv module; install it (Debian/Ubuntu: apt install python3-venv)"
  [ -d "$venv/lib" ] && needed_mib=500
  free_mib=$(df -Pm . | awk 'NR == 2 {print $4}')
  [ "$free_mib" -ge "$needed_mib" ] ||
    fail "$free_mib MiB free on this disk; setting up needs $needed_mib MiB: free some space"
}

# Only a warning: a recording of one's own is trained on and rendered without OpenGL. The simulator needs it (so
# `make demo` without BAG, and `make test`) and says so itself when it starts. Asked every time, since a system changes
# under a .venv.
check_opengl() {
  local problem
  problem=$("$python" scripts/check_opengl.py 2>/dev/null) ||
    say "warning: ${problem:-OpenGL ends with a crash here}; the simulator needs it, your own recordings do not" >&2
}

# stage NAME INPUTS... -- COMMAND: runs COMMAND unless it ran before with the same inputs (files or words).
stage() {
  local name=$1 key=$home part; shift
  while [ "$1" != -- ]; do
    part=$1; shift
    if [ -d "$part" ]; then
      key+=$(find "$part" -type f -not -path '*/__pycache__/*' -print0 | sort -z | xargs -0r cat | sha256sum)
    elif [ -f "$part" ]; then key+=$(sha256sum <"$part"); else key+=$part; fi
  done
  shift
  key=$(sha256sum <<<"$key")
  [ "$(cat "$stamps/$name" 2>/dev/null)" = "$key" ] && return 0
  say "$name"
  current_stage=$name
  "$@"
  current_stage=
  echo "$key" >"$stamps/$name"
}

make_venv() {
  rm -rf "$venv"
  if [ $home = ros ]; then "$python" -m venv --system-site-packages "$venv"; else "$python" -m venv "$venv"; fi
  mkdir -p "$stamps"
  touch "$venv/COLCON_IGNORE"                      # colcon must not take the wheels' package.xml files for its own
  printf '\n. "%s/scripts/ros_env.sh"\n' "$PWD" >>"$venv/bin/activate"
}

pip_install() {
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" 2> >(sed '/^WARNING: Location/d' >&2)
}

install_ros_wheels() {
  pip_install -r requirements/ros-jazzy.lock
  # The wheels' exported CMake files name their builder's Python and numpy: point them at this venv's.
  local python_include numpy_include
  python_include=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  numpy_include=$("$venv/bin/python" -c 'import numpy; print(numpy.get_include())')
  { grep -rlZ --include='*.cmake' /opt/python/cp311-cp311 "$venv/share" || true; } | xargs -0r sed -i \
    -e "s#/opt/python/cp311-cp311/include/python3.11#$python_include#g" \
    -e "s#/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include#$numpy_include#g"
}

install_torch() {
  if [[ -n "${EXTRAS:-}" && ",$EXTRAS," != *,train,* && ",$EXTRAS," != *,all,* ]]; then
    say "without torch, which is not among $EXTRAS"
  elif "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    say "keeping the torch that is already there"
  elif [ $home = ros ]; then
    # shellcheck disable=SC2086
    pip_install -r requirements/torch.txt -c "$(system_constraints)" ${TORCH_PIP_ARGS:-}
  else
    # shellcheck disable=SC2086
    pip_install -r requirements/torch.txt -c requirements/ros-jazzy.lock ${TORCH_PIP_ARGS:-}
  fi
}

# [runtime] wants an older and smaller Numba than the lock has (setup.cfg says why).
lock_for_extras() {
  [[ ",$EXTRAS," == *,runtime,* ]] || { echo requirements/python.lock; return; }
  grep -vE '^(numba|llvmlite)==' requirements/python.lock > "$stamps/runtime.lock"
  echo "$stamps/runtime.lock"
}

# ROS' own cv_bridge and rclpy were built against the system's numpy: never shadow it. colcon wants setuptools < 80.
system_constraints() {
  local file=$stamps/system-constraints.txt
  "$python" -c 'import numpy; print(f"numpy=={numpy.__version__}\nsetuptools<80")' >"$file"
  echo "$file"
}

install_python_libraries() {
  if [ -n "${EXTRAS:-}" ]; then pip_install -c "$(lock_for_extras)" -e ".[$EXTRAS]"
  elif [ $home = ros ]; then pip_install -r requirements/python.in -c "$(system_constraints)"
  else pip_install -r requirements/python.lock; fi
}

build_interfaces() {   # build_interfaces SOURCE_DIR
  local build=$PWD/build/interfaces/$(basename "$1") generator=() purelib
  purelib=$("$venv/bin/python" -c \
    'import sysconfig; print(sysconfig.get_path("purelib", vars={"base": ""})[1:])')   # below the prefix
  command -v ninja >/dev/null && generator=(-G Ninja)
  # shellcheck disable=SC1091
  (set +u; . "$venv/bin/activate"
   cmake "${generator[@]}" -S "$1" -B "$build" -DCMAKE_INSTALL_PREFIX="$venv" -DPYTHON_INSTALL_DIR="$purelib" \
     -DBUILD_TESTING=OFF -DPOSE2RGBD_INSTALL_PYTHON=OFF \
     -DPython3_EXECUTABLE="$venv/bin/python" -Wno-dev --log-level=WARNING >"$build.log" 2>&1 &&
   cmake --build "$build" >>"$build.log" 2>&1 && cmake --install "$build" >>"$build.log" 2>&1) ||
    { tail -n 20 "$build.log" >&2; return 1; }
}

install_underlay() {
  [ $home = ros ] && return 0
  build_interfaces "$PWD/underlay/tf2_msgs"
  pip_install --no-deps --no-build-isolation -e underlay
}

install_pose2rgbd() {
  build_interfaces "$PWD"
  pip_install --no-deps --no-build-isolation -e .
  local executables
  executables=$("$venv/bin/python" -c '
from importlib.metadata import distribution
print(*(entry.name for entry in distribution("pose2rgbd-ros").entry_points.select(group="console_scripts")))')
  rm -rf "$venv/lib/pose2rgbd"
  mkdir -p "$venv/lib/pose2rgbd" "$venv/lib/interfaces"
  # Where ros2 run and launch look.
  for executable in $executables; do ln -s "$venv/bin/$executable" "$venv/lib/pose2rgbd/"; done
  local purelib
  purelib=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  ln -sfn "$purelib/pose2rgbd" "$venv/lib/interfaces/pose2rgbd"
  ln -sfn "$PWD/pose2rgbd_ros" "$venv/lib/interfaces/pose2rgbd_ros"   # launch files import a part that needs no library
}

choose_home
mkdir -p build/interfaces
exec 9>build/setup.lock
flock -n 9 || { say "waiting for another set-up of this folder"; flock 9; }
[ -f "$stamps/venv" ] || check_machine
check_opengl
[ -x "$venv/bin/python" ] && [ -d "$stamps" ] || { mkdir -p "$stamps" && rm -f "$stamps/venv"; }
stage venv "$("$python" -V)" "at $PWD" -- make_venv
if [ $home = wheels ]; then stage ros-wheels requirements/ros-jazzy.lock -- install_ros_wheels; fi
stage torch requirements/torch.txt "${EXTRAS:-}" -- install_torch
stage python-libraries requirements/python.in requirements/python.lock "${EXTRAS:-}" -- install_python_libraries
stage underlay underlay/setup.cfg underlay/tf2_msgs -- install_underlay
stage pose2rgbd package.xml CMakeLists.txt setup.cfg msg srv action launch config -- install_pose2rgbd

#!/bin/bash
# The environment of .venv, then the command.
. /opt/pose2rgbd/.venv/bin/activate
exec "$@"

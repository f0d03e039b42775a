#!/usr/bin/env bash
# A newcomer's first ten minutes, timed: a fresh clone of this checkout's last commit, `make demo` as the first tutorial
# has it, and what is there afterwards.
#
#   scripts/time_first_flight.sh FOLDER      # FOLDER is made; 4 GB
set -euo pipefail
folder=${1:?"a folder to make"}
here=$(cd "$(dirname "$0")/.." && pwd)
begun=$SECONDS
git clone --quiet "$here" "$folder"
cd "$folder"
env -u VIRTUAL_ENV -u PYTHONPATH make setup
set_up=$SECONDS
env -u VIRTUAL_ENV -u PYTHONPATH make demo
for made in index.html run/checkpoint/model.yaml dataset/meta.yaml; do
  [ -s "out/demo/$made" ] || { echo "out/demo/$made is missing" >&2; exit 1; }
done
echo "set-up $((set_up - begun)) s, demo $((SECONDS - set_up)) s, together $(((SECONDS - begun) / 60)) min"

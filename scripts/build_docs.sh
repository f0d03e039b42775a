#!/usr/bin/env bash
# The documentation site into build/docs/html, without a warning: `make docs`. --external also asks whether the addresses
# of other sites still answer.
#
# Sphinx and its theme live in .venv/docs, beside the other libraries: they want an older docutils than ROS' tools have.
set -euo pipefail
cd "$(dirname "$0")/.."

lib=$PWD/.venv/docs lock=requirements/docs.lock out=$PWD/build/docs
if ! cmp -s "$lock" "$lib/installed.lock"; then
  echo "docs: installing Sphinx"
  rm -rf "$lib"
  python -m pip install --quiet --disable-pip-version-check --no-deps --target "$lib" -r "$lock"
  cp "$lock" "$lib/installed.lock"
fi

# Pages are made in a copy, so that nothing appears beside what is written by hand.
rm -rf "$out/source"
mkdir -p "$out"
cp -rp docs "$out/source"
sphinx() { PYTHONPATH=$lib${PYTHONPATH:+:$PYTHONPATH} nice python -m sphinx --fail-on-warning --quiet "$@"; }
rm -rf "$out/html"
sphinx -b html -d "$out/doctrees" "$out/source" "$out/html"
python scripts/check_site.py "$out/html"
if [ "${1:-}" = --external ]; then sphinx -b linkcheck -d "$out/doctrees" "$out/source" "$out/linkcheck"; fi
echo "docs: build/docs/html/index.html"

"""The picture of docs/doctor.md: the page of a simulated flight with four faults at once.

python bench/doctor_picture.py                          # writes docs/images/doctor.jpg; two minutes, and Chromium
python bench/doctor_picture.py --recording CLEAN.mcap   # into a flight that bench/doctor.py --keep left
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test"))
from support import bag_faults

ROOT = Path(__file__).resolve().parents[1]
FLIGHT = 100  # a seed whose flight has odometry, GPS and depth, in an mcap
SHOWN = ("images stop for 4 s", "motion blur in 4 of 10 images", "no /tf_static", "GPS with outliers")
HEIGHT = 2710  # pixels of the page


def main() -> int:
    """Make the flight, spoil it, ask the doctor, take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", type=Path, help="a clean recording, as bag_faults.write_clean makes it")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "doctor.jpg")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        clean = asked.recording or bag_faults.write_clean(folder / "clean.mcap", FLIGHT)
        entries = bag_faults.read(clean)
        for number, fault in enumerate(fault for fault in bag_faults.FAULTS if fault.name in SHOWN):
            entries = fault.entries(entries, np.random.default_rng(number))
        bag_faults.write(folder / "flight.mcap", entries)
        doctor = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "doctor", "flight.mcap", "--page", "page"]
        found = subprocess.run(doctor, cwd=folder).returncode
        if found != 1:
            print(f"error: the doctor ended with {found}, not with problems found", file=sys.stderr)
            return 1
        take = [sys.executable, str(ROOT / "scripts" / "picture_of_page.py"), str(folder / "page" / "index.html")]
        return subprocess.run([*take, str(asked.out), "--height", str(HEIGHT)]).returncode


if __name__ == "__main__":
    sys.exit(main())

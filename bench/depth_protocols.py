"""What each choice of a depth protocol moves: one prediction, scored by every protocol and with single choices changed.

    pose2rgbd sim dataset flight --frames 40 --size 256     # any dataset with true depth
    python bench/depth_protocols.py flight                  # about a minute

The prediction is made from the truth, so that only the scoring differs: a quarter of its size, smoothed, off by 15 %
along smooth patches, its size drifting by 10 % over the flight, and in no unit. Writes
bench/results/depth_protocols.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.depth_metrics import PROTOCOLS, depth_metrics, named_protocol
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry.depth import resize_nearest
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).resolve().parent / "results" / "depth_protocols.md"
PARTS, OFF, DRIFT = 4, 0.15, 0.1
COLUMNS = {
    "what": "",
    "AbsRel": ".4f",
    "SqRel": ".3f",
    "RMSE": ".3f",
    "RMSE log": ".4f",
    "a1": ".4f",
    "AbsRel moves by": "+.1%",
}
CHANGES = (
    {"resize": "disparity"}, {"filter": "nearest"}, {"filter": "cubic"}, {"scaling": "median_of_ratios"},
    {"crop": "garg"}, {"max_depth": 50.0}, {"clip": "none"}, {"average": "pixels"},
)  # fmt: skip


def made(truth: np.ndarray, place: float, rng: np.random.Generator) -> np.ndarray:
    """A prediction (h, w) of true depth (H, W), `place` 0..1 of the way along the flight."""
    height, width = (side // PARTS for side in truth.shape)
    far = float(np.nanmax(truth))
    small = resize_nearest(np.nan_to_num(truth, nan=far), width, height).astype(np.float32)
    patches = cv2.resize(rng.normal(0, OFF, (6, 8)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    smooth = np.exp(cv2.GaussianBlur(np.log(small), (0, 0), 1.0) + patches)
    return np.asarray(smooth * (1 + DRIFT * place) / 10, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    arguments = parser.parse_args()
    dataset, rng = Dataset(arguments.dataset), np.random.default_rng(0)
    truth = [dataset.depth(i) for i in range(len(dataset))]
    predicted = [made(each, i / len(truth), rng) for i, each in enumerate(truth)]
    base = replace(named_protocol("kitti-sfmlearner"), crop="none")
    rows = [("SfMLearner's, without its crop", base)]
    rows += [
        (", ".join(f"{k.replace('_', ' ')} {v}" for k, v in change.items()), replace(base, **change))
        for change in CHANGES
    ]
    rows += [
        (f"protocol {name}", each.protocol)
        for name, each in PROTOCOLS.items()
        if each.protocol.crop in ("none", "garg", "make3d") and name != "metric"
    ]
    table, reference = Table.of(COLUMNS), float("nan")
    for name, protocol in rows:
        found = depth_metrics(predicted, truth, protocol)
        reference = found["abs_rel"] if protocol is base else reference
        figures = (found[key] for key in ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1"))
        print(table.add(name, *figures, found["abs_rel"] / reference - 1), flush=True)
    height, width = truth[0].shape
    nearest, farthest = (bound([bound(each[np.isfinite(each)]) for each in truth]) for bound in (min, max))
    RESULTS.write_text(
        "# What each choice of a depth protocol moves\n\n"
        f"`python bench/depth_protocols.py {arguments.dataset.name}` on {processor()}: {len(truth)} simulated "
        f"images of {width} x {height} pixels, {nearest:.0f} to {farthest:.0f} m deep; a prediction made from "
        f"their truth (a {PARTS}th of the size, patches off by {OFF:.0%}, its unit drifting by {DRIFT:.0%}). The upper "
        f"rows change one choice of the first.\n\n{table.markdown()}\n"
    )


if __name__ == "__main__":
    main()

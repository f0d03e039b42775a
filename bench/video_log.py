"""`pose2rgbd run VIDEO LOG` on simulated flights of which a video and a noisy GPS log are left, against the truth.

    python bench/video_log.py --out FOLDER                          # all flights
    python bench/video_log.py --out FOLDER --only "survey 1"        # these flights, by the beginning of their names
    python bench/video_log.py --out FOLDER --run --train.size 96    # what follows --run goes on to `pose2rgbd run`

A flight of 70 s becomes an mp4 (10 Hz, 320 x 240, its creation time) and a GPX track of 1 Hz whose clock is ahead by
some seconds and whose positions are off by 1 m (independently, heights 1.6 m); there is no depth and no attitude. What
`run` made of it is measured on the frames that judge: relief's depth against exact depth, its colour against that of a
relief which learnt for as long from the same frames with exact poses, lens and depth.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from pose2rgbd_ros.cli.main import main as pose2rgbd
from pose2rgbd_ros.dataset import layout, splits
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import resize_nearest
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84
from pose2rgbd_ros.geometry.se3 import umeyama
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train

RESULT = Path(__file__).parent / "results" / "video_log.md"
SECOND = 10**9
BEGUN_NS = 1_714_564_800 * SECOND  # 2024-05-01 12:00:00 UTC
DATUM = Datum(47.38, 8.54, 420.0)
SIZE, FOV_DEG, RATE_HZ, LENGTH_S = (320, 240), 65.0, 10.0, 70.0
GPS_HZ, GPS_M, VERTICAL = 1.0, 1.0, 1.6
BEFORE_S = 20.0  # the log begins so much before the video, and ends after it


@dataclass(frozen=True)
class Kind:
    """A flight, how far its GPS clock is ahead of the video's, and whether the lens is given."""

    flight: dict[str, Any]
    clock_s: float
    lens: bool = True
    city_seed: int = 7


def _survey(**values: Any) -> dict[str, Any]:
    return {"plan": "lawnmower", "area_m": 90.0, "line_spacing_m": 18.0, "camera_pitch_deg": 80.0, **values}


KINDS = {
    "survey 1": Kind(_survey(seed=1), 3.7),
    "survey 2": Kind(_survey(seed=2, camera_pitch_deg=65.0), -2.4, city_seed=11),
    "walk 3": Kind({"plan": "walk", "seed": 3, "area_m": 120.0, "camera_pitch_deg": 60.0}, 5.3, city_seed=12),
    "orbit 4": Kind({"plan": "orbit", "seed": 4, "loops": 2, "speed_mps": 9.0}, -4.1, lens=False, city_seed=13),
}


class Flown:
    """The truth of a kind of flight by seconds of its video."""

    def __init__(self, kind: Kind) -> None:
        self.city = City(CityConfig(seed=kind.city_seed))
        self.flight = make_flight(FlightConfig(**kind.flight), self.city)
        self.camera = Camera.from_fov(*SIZE, FOV_DEG)
        self.begin_s = min(BEFORE_S, max(0.0, (self.flight.duration_s - LENGTH_S) / 2))
        self.length_s = min(LENGTH_S, self.flight.duration_s - self.begin_s)

    def T_map_cam(self, seconds: np.ndarray) -> np.ndarray:
        """Poses (N, 4, 4), also a little before and after the video."""
        return self.flight.T_map_cam(np.clip(self.begin_s + seconds, 0.0, self.flight.duration_s))

    def renderer(self) -> SceneRenderer:
        """Of this city and camera."""
        return SceneRenderer(self.city.scene, self.camera, supersample=2)


def record(flown: Flown, kind: Kind, folder: Path, seed: int) -> None:
    """VIDEO and LOG."""
    folder.mkdir(parents=True, exist_ok=True)
    renderer, temporary = flown.renderer(), folder / "unfinished.mp4"
    with av.open(str(temporary), "w") as container:
        container.metadata["creation_time"] = "2024-05-01T12:00:00.000000Z"
        stream = container.add_stream("libx264", rate=Fraction(RATE_HZ))
        stream.width, stream.height = SIZE
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18"}
        for i in range(round(flown.length_s * RATE_HZ)):
            rgb = renderer.render(flown.T_map_cam(np.array([i / RATE_HZ]))[0], i / RATE_HZ).rgb
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")))
        container.mux(stream.encode())
    renderer.close()
    seconds = np.arange(-flown.begin_s, flown.length_s + flown.begin_s, 1 / GPS_HZ)
    errors_m = np.random.default_rng(seed).normal(size=(len(seconds), 3)) * GPS_M * [1.0, 1.0, VERTICAL]
    places = enu_to_wgs84(flown.T_map_cam(seconds)[:, :3, 3] + errors_m, DATUM)
    points = [
        f'<trkpt lat="{latitude:.9f}" lon="{longitude:.9f}"><ele>{altitude:.3f}</ele><time>{_iso(t)}</time></trkpt>'
        for t, latitude, longitude, altitude in zip(seconds + kind.clock_s, *places, strict=True)
    ]
    gpx = '<gpx version="1.1" creator="sim" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>'
    (folder / "flight.gpx").write_text(f"{gpx}{''.join(points)}</trkseg></trk></gpx>")
    temporary.rename(folder / "flight.mp4")


def _iso(seconds: float) -> str:
    return str(np.datetime64(BEGUN_NS + round(seconds * 1e3) * 10**6, "ns"))[:23] + "Z"


def write_truth(flown: Flown, made: Dataset, out: Path) -> Dataset:
    """The frames of a dataset that `run` made, with exact poses, lens and depth, and its split."""
    if (out / layout.META).is_file():
        return Dataset(out)
    shutil.rmtree(out, ignore_errors=True)
    renderer = flown.renderer()
    with DatasetWriter(out, DatasetMeta(camera=flown.camera, depth=DepthMeta()), depth_format="cm") as writer:
        for i, stamp_ns in enumerate(made.stamps_ns.tolist()):
            T_map_cam = flown.T_map_cam(np.array([(stamp_ns - BEGUN_NS) / SECOND]))[0]
            writer.add(stamp_ns, T_map_cam, made.rgb(i), renderer.render(T_map_cam, 0.0).depth_m)
    renderer.close()
    split = splits.default_split(made.path, made.stamps_ns, made.T_map_cam[:, :3, 3])
    words = np.full(len(made), "unused", dtype=object)
    words[split.train], words[split.choose], words[split.judge] = "train", "choose", "test"
    layout.write_split(out / layout.SPLIT, made.stamps_ns, words)
    return Dataset(out)


@dataclass(frozen=True)
class DepthError:
    """Of all pixels of frames that judge: AbsRel as it is and after one factor, the factor, share answered."""

    abs_rel: float
    shape: float
    factor: float
    answered: float


def depth_error(found: list[np.ndarray], truth: list[np.ndarray]) -> DepthError:
    """Depth of images (h, w) against exact depth, resized to each; NaN unknown."""
    pairs = [(depth, resize_nearest(exact, depth.shape[1], depth.shape[0]))
             for depth, exact in zip(found, truth, strict=True)]  # fmt: skip
    mine, exact = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    there = np.isfinite(exact)
    both = there & np.isfinite(mine)
    mine, exact = mine[both], exact[both]
    factor = float(np.median(exact) / np.median(mine))
    return DepthError(
        float(np.mean(np.abs(mine / exact - 1))), float(np.mean(np.abs(factor * mine / exact - 1))), factor,
        float(both.sum() / there.sum()),
    )  # fmt: skip


def relief_errors(run: Path, dataset: Dataset, truth: Dataset, judge: np.ndarray) -> tuple[DepthError, float]:
    """Of a relief shown at the poses of its own dataset: depth against exact depth, and RGB of 255."""
    renderer = Renderer(run / "checkpoint", device="cpu")
    shown = [renderer.render(dataset.T_map_cam[i]).depth[0] for i in judge]
    rgb = measure(run, dataset.path, device="cpu").scores["model"]["rgb_mae_px"]
    return depth_error(shown, [truth.depth(i) for i in judge]), float(rgb)


def learn_exact(truth: Path, out: Path, size: int, minutes: float, memory: str) -> None:
    """A relief of the exact dataset."""
    if (out / "checkpoint").exists():
        return
    shutil.rmtree(out, ignore_errors=True)
    relief = ReliefSettings(memory=memory)  # type: ignore[arg-type]
    common: dict[str, Any] = {"size": size, "max_minutes": minutes, "clock": "cpu", "tensorboard": False}
    train(truth, out, train_config("relief", relief=relief, seed=0, **common))


COLUMNS = {
    "flight": "", "frames": "", "aligned poses m": ".2f", "scale %": "+.2f", "depth from": "", "answered %": ".0f",
    "off %": ".2f", "relief depth off %": ".2f", "after one factor %": ".2f", "relief answers %": ".0f",
    "exact: relief depth off %": ".2f", "RGB": ".1f", "exact: RGB": ".1f",
}  # fmt: skip


def fly(name: str, kind: Kind, out: Path, args: list[str], size: int, minutes: float, memory: str) -> tuple[Any, ...]:
    """Record, run, compare: a row of the table."""
    folder, flown = out / name.replace(" ", "_"), Flown(kind)
    if not (folder / "flight.mp4").exists():
        record(flown, kind, folder, seed=kind.flight["seed"])
    lens = ["--convert.fov-deg", str(FOV_DEG)] if kind.lens else []
    call = ["run", str(folder / "flight.mp4"), str(folder / "flight.gpx"), "--out", str(folder / "run"), *lens]
    call += ["--video.max-rate-hz", "1.25", "--convert.body-to-camera", "nadir", "--live-s", "0", "--video-s", "0"]
    call += ["--train.model", "relief", "--train.size", str(size), "--train.max-minutes", str(minutes)]
    call += ["--train.clock", "cpu", "--train.no-tensorboard", "--train.relief.memory", memory, *args]
    started = time.monotonic()
    print(" ".join(call), flush=True)
    pose2rgbd(call)
    print(f"run took {time.monotonic() - started:.0f} s", flush=True)
    made = Dataset(folder / "run" / "dataset")
    truth = write_truth(flown, made, folder / "truth")
    learn_exact(truth.path, folder / "exact", size, minutes, memory)
    split = splits.default_split(truth.path, truth.stamps_ns, truth.T_map_cam[:, :3, 3])
    scale, R, t = umeyama(made.T_map_cam[:, :3, 3], truth.T_map_cam[:, :3, 3])
    offset = scale * made.T_map_cam[:, :3, 3] @ R.T + t - truth.T_map_cam[:, :3, 3]
    source = made.meta.depth.made.method if made.meta.depth and made.meta.depth.made else ""
    depth = [made.depth(i) for i in split.train] if made.has_depth else []
    found = depth_error(depth, [truth.depth(i) for i in split.train]) if depth else None
    ours, rgb = relief_errors(folder / "run" / "run", made, truth, split.judge)
    exact, exact_rgb = relief_errors(folder / "exact", truth, truth, split.judge)
    return (
        name, len(made), float(np.median(np.linalg.norm(offset, axis=1))), 100 * (1 / scale - 1), source,
        100 * found.answered if found else None, 100 * found.abs_rel if found else None, 100 * ours.abs_rel,
        100 * ours.shape, 100 * ours.answered, 100 * exact.abs_rel, rgb, exact_rgb,
    )  # fmt: skip


def main() -> None:
    """Fly, run, compare, print; keep the page when all was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("video_log"), help="recordings and runs")
    parser.add_argument("--only", default=None, help="flights, by the beginning of their names, comma-separated")
    parser.add_argument("--minutes", type=float, default=1.5, help="processor minutes of each relief")
    parser.add_argument("--size", type=int, default=128, help="of relief's pictures")
    parser.add_argument("--memory", choices=("none", "thin", "full"), default="none", help="of both reliefs")
    parser.add_argument("--run", nargs=argparse.REMAINDER, default=[], help="what else goes on to `pose2rgbd run`")
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = Table.of(COLUMNS)
    print(table.markdown(), flush=True)
    for name, kind in KINDS.items():
        if args.only is None or name.startswith(tuple(args.only.split(","))):
            print(table.add(*fly(name, kind, args.out, args.run, args.size, args.minutes, args.memory)), flush=True)
    if args.only is None:
        RESULT.write_text(
            "# A video and its GPS log through `pose2rgbd run`\n\n"
            f"`python bench/video_log.py --minutes {args.minutes:g}`: {args.size} px, processor minutes on one thread "
            f"of {processor()}.\n\n{table.markdown()}\n"
        )


if __name__ == "__main__":
    main()

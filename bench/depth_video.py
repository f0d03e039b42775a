"""All sources of depth against the exact depth of simulated flights, on stretches that nothing has looked at.

    python bench/depth_video.py --out FOLDER                         # three seeds of every method and flight
    python bench/depth_video.py --out FOLDER --methods sfmlearner --flights street --seeds 0

Each training has so many processor minutes of one thread; a seed draws the weights and the stretches held out. Depth of
an image is scaled by medians, as the papers do, and compared pixel by pixel (protocol "plain"). What it costs is said
twice: what was spent before the first frame, and processor time of a frame. DeepV2D is taught by the true depth of the
frames that train, the others see pictures alone; multi-view stereo looks at all pictures. Rows are kept beside
the page, which is of all that were ever measured, and are not measured again unless --minutes is another or --again is
given; flights, runs and pictures go to FOLDER.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pose2rgbd_ros.cli.main import main as pose2rgbd
from pose2rgbd_ros.dataset.meta import DatasetMeta, PosesMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.depth_from_images.photometric import area_resized
from pose2rgbd_ros.depth_from_images.snippets import SnippetData
from pose2rgbd_ros.evaluation.depth_metrics import depth_metrics, named_protocol
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.formats.sequences import open_sequences
from pose2rgbd_ros.geometry.depth import resize_nearest
from pose2rgbd_ros.models.trianflow.config import FlowLoss, Losses
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.training.checkpoint import load_video_checkpoint
from pose2rgbd_ros.training.evaluators import write_samples
from pose2rgbd_ros.training.families import video_config
from pose2rgbd_ros.training.trainer import make_learner, train
from pose2rgbd_ros.training.video import depth_picture

RESULT = Path(__file__).parent / "results" / "depth_video.md"
ROWS = RESULT.with_suffix(".jsonl")
SIZE, DRAWN, STEREO_PX, SHOWN = 64, 128, 224, 8  # pixels learnt from, drawn, for stereo; images in a picture
BATCH, ITERATIONS = 8, 2  # of DeepV2D
NOTES = """
Stereo answers a fifth of the pixels along a street: seen ahead, most of what a frame shows moves too little, and what
is unknown is not guessed. Its rival, stereo at poses of `align`, has no row along streets: from positions 1 m off and
pictures of 224 pixels the alignment bends by 30 m over the flight, which it sees by itself and refuses.

Over roofs neither network reaches the mean depth, which is good there: what is below is nearly flat. With frames of a
snippet 3 apart TrianFlow had 1.33 of it (seed 0, eight minutes), SfMLearner 1.05.
"""
GOAL = 0.8  # of the error of the mean depth


class Flight(NamedTuple):
    """What is flown, and how far apart the frames of a snippet are."""

    text: str
    options: tuple[str, ...]
    stride: int


FLIGHTS = {
    "street": Flight(
        "600 frames, 0.84 m apart, along streets 12 m above the ground, looking ahead",
        ("--frames", "600", "--flight.plan", "street", "--flight.distance-m", "500"),
        2,
    ),
    "walk": Flight(
        "600 frames, 1.5 m apart, over roofs, 50 to 65 m high, looking 50 degrees down",
        ("--frames", "600", "--flight.plan", "walk", "--flight.distance-m", "900"),
        8,  # 12 m, at which ground moves by 5 of 64 pixels and a roof by 2 more
    ),
}


class Task(NamedTuple):
    """A flight, its snippets of a seed, and what may be spent."""

    flight: str
    source: Path
    data: SnippetData
    seed: int
    minutes: float
    out: Path


Predictor = Callable[[np.ndarray], np.ndarray]  # frames (B,) -> depth (B, H, W), in any unit
Method = Callable[[Task], Predictor]


def mean_depth(task: Task) -> Predictor:
    """Of every pixel over the frames that train; where none is known the farthest of these means."""
    depth = true_depth(task.data, task.data.split.train)
    known = np.isfinite(depth)
    mean = np.where(known, depth, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    mean[~known.any(axis=0)] = mean.max()
    return lambda indices: np.repeat(mean[None], len(indices), axis=0)


def settings_of(model: str, task: Task, **own: Any) -> Any:
    flight = FLIGHTS[task.flight]
    return video_config(
        model,
        **{
            **{"image_width": SIZE, "image_height": SIZE, "stride": flight.stride, "split": "segments"},
            **{"seed": task.seed, "max_minutes": task.minutes, "clock": "cpu", "device": "cpu", "tensorboard": False},
            **own,
        },
    )


def untrained(model: str) -> Method:
    """A model's weights as they are drawn."""

    def method(task: Task) -> Predictor:
        from pose2rgbd_ros.training.config import resolve_recipe

        config = settings_of(model, task)
        torch.manual_seed(task.seed)
        return depth_of(make_learner(config, resolve_recipe(config), task.data.for_training()).model, task.data)

    return method


def trained(model: str, **own: Any) -> Method:
    """A model with settings of its own."""

    def method(task: Task) -> Predictor:
        run = task.out / f"{model}-{task.flight}-{task.seed}"
        train([task.source], run, settings_of(model, task, **own), resume=(run / "last").exists())
        return depth_of(load_video_checkpoint(run).build_model(), task.data)

    return method


def depth_of(model: Any, data: SnippetData) -> Predictor:
    """Depth of frames by a VideoModel, averaged where it sees larger images."""
    model.eval()
    size, data = data.size, SnippetData.of(data.sequences, model.image_size, data.frames, data.stride, "segments")

    def predict(indices: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            images = torch.from_numpy(data.rgb(indices)).permute(0, 3, 1, 2).float() / 255
            return area_resized(model.depth(images).double()[:, None], size)[:, 0].numpy()

    return predict


def deepv2d(known_poses: bool) -> Method:
    """DeepV2D, of three pictures as they are drawn; a training serves both kinds."""

    def method(task: Task) -> Predictor:
        run, size = task.out / f"deepv2d-{task.flight}-{task.seed}", (DRAWN, DRAWN)
        config = settings_of("deepv2d", task, image_width=DRAWN, image_height=DRAWN)
        if not (run / "samples" / "best.png").exists():
            train([task.source], run, config, resume=(run / "last").exists())
        network: Any = load_video_checkpoint(run).build_model().eval()
        facts = (task.data.frames, task.data.stride, "segments")
        data = SnippetData.of(task.data.sequences, size, *facts, seed=task.seed).for_judging()  # with its poses

        def predict(indices: np.ndarray) -> np.ndarray:
            found = []
            for first in range(0, len(indices), BATCH):
                batch = data.batch(indices[first : first + BATCH])
                with torch.inference_mode():
                    T_tgt_i = batch.T_tgt_i if known_poses else None
                    found.append(network.from_views(batch.images, batch.K, T_tgt_i, ITERATIONS, "motion").depth)
            return area_resized(torch.cat(found).double()[:, None], task.data.size)[:, 0].numpy()

        return predict

    return method


def stereo(aligned: bool) -> Method:
    """What learns nothing: multi-view stereo of all pictures, drawn larger, for small ones align badly.

    aligned: by structure from motion, which is given positions 1 m off, as GPS has them; attitudes, which the simulator
    knows exactly, it does not look at. Else by the exact poses.
    """

    def method(task: Task) -> Predictor:
        drawn = fly(task.out / f"{task.flight}-large", task.flight, STEREO_PX)
        folder, exact = task.out / f"{task.flight}-{'aligned' if aligned else 'exact'}", Dataset(drawn)
        if not folder.exists():
            off_m = np.random.default_rng(18).normal(size=(len(exact), 3)) * float(aligned)
            position = "gps" if aligned else "sim"
            with DatasetWriter(folder, DatasetMeta(camera=exact.camera, poses=PosesMeta(position=position))) as writer:
                for i, stamp_ns in enumerate(exact.stamps_ns.tolist()):
                    T_map_cam = exact.T_map_cam[i].copy()
                    T_map_cam[:3, 3] += off_m[i]
                    writer.add(stamp_ns, T_map_cam, exact.rgb(i))
        jobs = [["align", str(folder)]] * aligned + [["depth", "add", str(folder), "--threads", "1"]]
        if Dataset(folder).meta.depth is None and any(pose2rgbd(job) for job in jobs):
            return lambda indices: np.full((len(indices), *task.data.size), np.nan)  # it said why
        made = Dataset(folder)
        frames = {stamp_ns: i for i, stamp_ns in enumerate(made.stamps_ns.tolist())}

        def predict(indices: np.ndarray) -> np.ndarray:
            height, width = task.data.size
            found = np.full((len(indices), height, width), np.nan)
            for row, index in enumerate(indices):
                frame = frames.get(int(exact.stamps_ns[index]))
                if frame is not None:
                    found[row] = resize_nearest(made.depth(frame), width, height)
            return found

        return predict

    return method


def fly(folder: Path, flight: str, size: int) -> Path:
    """The flight's dataset, made unless it is there."""
    if not (folder / "meta.yaml").exists():
        options = ["--size", str(size), *FLIGHTS[flight].options, "--processes", "1"]
        assert pose2rgbd(["sim", "dataset", str(folder), *options]) == 0
    return folder


STEREO, ALIGNED = "multi-view stereo, exact poses", "multi-view stereo, aligned"
FLAT = Losses(flow=FlowLoss(smoothness=0.05))
METHODS: dict[str, Method] = {
    "mean depth": mean_depth,
    STEREO: stereo(aligned=False),
    ALIGNED: stereo(aligned=True),
    "sfmlearner, untrained": untrained("sfmlearner"),
    "sfmlearner": trained("sfmlearner"),
    # Flow is found at a quarter of the resolution: of 64 pixels that leaves too little.
    "trianflow, untrained": untrained("trianflow"),
    "trianflow": trained("trianflow", image_width=96, image_height=96, width=0.25, trianflow=FLAT),
    "deepv2d, images alone": deepv2d(known_poses=False),
    "deepv2d, known poses": deepv2d(known_poses=True),
}
LEARNING = frozenset({"sfmlearner", "trianflow", "deepv2d, images alone", "deepv2d, known poses"})


def true_depth(data: SnippetData, indices: np.ndarray) -> np.ndarray:
    depth = data.depth(indices)
    assert depth is not None
    return depth


def measured(name: str, task: Task) -> dict[str, Any]:
    """One row: a method on the frames of a task that judge, with a picture of it."""
    began_s = time.process_time()
    predict = METHODS[name](task)
    spent_s = time.process_time() - began_s
    judge = task.data.split.judge
    truth = true_depth(task.data, judge)
    began_s = time.process_time()
    found = predict(judge)
    a_frame_ms = 1e3 * (time.process_time() - began_s) / len(judge)
    if name in (STEREO, ALIGNED):  # made for the whole flight before anything is asked
        a_frame_ms, spent_s = 1e3 * spent_s / len(task.data.sequences[0]), 0.0
    scores = depth_metrics(found, truth, named_protocol("plain"))
    shown = np.linspace(0, len(judge) - 1, SHOWN).round().astype(int)
    rows = [list(task.data.rgb(judge[shown]))]
    rows += [[depth_picture(np.where(np.isfinite(truth[i]), of[i], np.nan)) for i in shown] for of in (found, truth)]
    write_samples(task.out / f"{name.replace(', ', '-').replace(' ', '-')}-{task.flight}-{task.seed}.png", rows)
    kept = {key: scores[key] for key in ("abs_rel", "rmse_log", "a1", "scale_spread", "frames", "known")}
    return {
        "method": name,
        "flight": task.flight,
        "seed": task.seed,
        "spent_s": spent_s,
        "frame_ms": a_frame_ms,
        **kept,
    }


class KeptRows:
    """Rows of a page, a line of JSON each: those of this run and of earlier ones, on whatever machine."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        """names: what tells rows apart; a new row takes the place of the one it repeats."""
        self._path, self._names = path, names
        self._rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._read()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows.values())

    def find(self, **key: Any) -> dict[str, Any] | None:
        return self._rows.get(self._key(key))

    def keep(self, row: dict[str, Any]) -> None:
        """Written at once, beside what another process wrote meanwhile."""
        self._read()
        self._rows[self._key(row)] = row
        self._path.write_text("".join(json.dumps(each) + "\n" for each in self._rows.values()))

    def _read(self) -> None:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self._rows.update((self._key(row), row) for row in map(json.loads, lines))

    def _key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self._names)


def frame_ms(method: str, rows: list[dict[str, Any]]) -> float | None:
    """Median over the seeds and flights of a network, learnt or not, for its weights do not change its time."""
    times = [
        row["frame_ms"] for row in rows if "frame_ms" in row and row["method"].removesuffix(", untrained") == method
    ]
    return float(np.median(times)) if times else None


def summary(rows: list[dict[str, Any]]) -> Table:
    """Means over seeds, and the range of AbsRel; its ratio is to the mean depth of the same seed and stretches."""
    table = Table(
        [
            *(Column("flight", "flight"), Column("method", ""), Column("seeds", "seeds", ".0f")),
            *(
                Column("abs_rel", "AbsRel", ".3f"),
                Column("range", "of seeds"),
                Column("ratio", "of mean depth's", ".2f"),
            ),
            Column("known", "of the pixels", ".0%"),
            *(Column("a1", "a1", ".0%"), Column("spread", "size drifts by", ".0%")),
            *(Column("minutes", "learnt for CPU-minutes", ".1f"), Column("frame_ms", "CPU-ms a frame", ".0f")),
        ]
    )
    of_mean = {(row["flight"], row["seed"]): row["abs_rel"] for row in rows if row["method"] == "mean depth"}
    for flight in FLIGHTS:
        for method in METHODS:
            mine = [row for row in rows if (row["flight"], row["method"]) == (flight, method)]
            if mine:
                errors = [row["abs_rel"] for row in mine]
                ratios = [row["abs_rel"] / of_mean.get((flight, row["seed"]), np.nan) for row in mine]
                table.rows.append(
                    {
                        **{"flight": flight, "method": method, "seeds": len(mine), "abs_rel": np.mean(errors)},
                        **{"range": "–" if np.isnan(errors).any() else f"{min(errors):.3f} to {max(errors):.3f}"},
                        "ratio": np.mean(ratios),
                        **{name: np.mean([row[name] for row in mine]) for name in ("known", "a1")},
                        **{"spread": np.mean([row["scale_spread"] for row in mine])},
                        **{"minutes": np.mean([row["minutes"] or 0.0 for row in mine])},
                        **{"frame_ms": frame_ms(method, rows)},
                    }
                )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/depth_video"))
    parser.add_argument("--flights", nargs="+", choices=FLIGHTS, default=list(FLIGHTS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=10.0, help="processor minutes of a training")
    parser.add_argument("--again", action="store_true", help="measure rows that are kept, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, machine = KeptRows(ROWS, ("flight", "method", "seed")), processor()
    for flight in arguments.flights:
        source = fly(arguments.out / flight, flight, DRAWN)
        for seed in arguments.seeds:
            stride = FLIGHTS[flight].stride
            data = SnippetData.of(open_sequences(source), (SIZE, SIZE), 3, stride, "segments", seed=seed)
            for name in arguments.methods:
                kept = rows.find(flight=flight, method=name, seed=seed)
                learns = name in LEARNING
                if arguments.again or kept is None or (learns and kept["minutes"] != arguments.minutes):
                    row = measured(name, Task(flight, source, data, seed, arguments.minutes, arguments.out))
                    rows.keep({**row, "minutes": arguments.minutes if learns else None, "machine": machine})
                    print(json.dumps(row), flush=True)
    text = [
        "# Sources of depth on simulated flights\n",
        f"`python bench/depth_video.py --minutes M`: {SIZE} x {SIZE} pixels (TrianFlow: 96, DeepV2D: {DRAWN},\n"
        f"stereo: {STEREO_PX} and as fine where judged), snippets of 3, one\n"
        f"thread of {' or '.join(sorted({row['machine'] for row in rows}))}. Stretches of each flight are\n"
        "held out, others for every seed; half of them choose the weights, the figures are of the other half. Depth\n"
        f"of an image is scaled by medians. The goal is {GOAL} of the error of the mean depth of every pixel.\n",
        summary(list(rows)).markdown(),
        "\n"
        + "\n".join(
            f"- {name}: {flight.text};\n  frames of a snippet are {flight.stride} apart"
            for name, flight in FLIGHTS.items()
        ),
        NOTES,
    ]
    RESULT.write_text("\n".join(text).rstrip() + "\n")
    print(RESULT.read_text())


if __name__ == "__main__":
    main()

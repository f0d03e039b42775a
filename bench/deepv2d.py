"""DeepV2D on a simulated flight: error against views and iterations, cold and warm starts, known poses, ablations.

    python bench/deepv2d.py --out FOLDER --minutes 3                         # seed 0 of all variants
    python bench/deepv2d.py --out FOLDER --variants deepv2d --seeds 0 1 2

The flight, the stretches held out and the protocol are those of bench/depth_video.py, whose SfMLearner and TrianFlow
learn from images alone; DeepV2D learns from the true depth and poses of the frames that train. Its images are twice as
wide and its frames half as far apart again: at a quarter of 64 pixels, where it compares views, the scene would move by
less than one pixel.
All rows are of the same frames: those that judge, with room for the most views within their stretch. What is trained is
kept in FOLDER and goes on where it was interrupted; rows of other seeds and variants stay on the page.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from depth_video import DRAWN, FLIGHTS, KeptRows

from pose2rgbd_ros.cli.main import main as pose2rgbd
from pose2rgbd_ros.depth_from_images.photometric import area_resized
from pose2rgbd_ros.depth_from_images.snippets import SnippetData
from pose2rgbd_ros.evaluation.depth_metrics import depth_metrics, named_protocol
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.formats.sequences import open_sequences
from pose2rgbd_ros.models.deepv2d.evaluator import motion_px, rows_of
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.training.checkpoint import load_video_checkpoint
from pose2rgbd_ros.training.evaluators import sheet, write_picture
from pose2rgbd_ros.training.families import video_config
from pose2rgbd_ros.training.trainer import train

RESULT = Path(__file__).parent / "results" / "deepv2d.md"
ROWS = RESULT.with_suffix(".jsonl")
FLIGHT, SIZE, STRIDE = "street", DRAWN, 3
MOST_VIEWS, CHUNK, SHOWN, ITERATIONS = 7, 8, 6, (0, 1, 2, 4, 8)
MOTION = "motion of 5 views, by true depth, puts points off by (px, median; mean depth: standing still)"
VARIANTS: dict[str, dict[str, Any]] = {"deepv2d": {}, "no-stereo": {"stereo": False}, "no-se3": {"se3": False}}


def trained(variant: str, source: Path, seed: int, minutes: float, out: Path) -> Any:
    """The network of a training, which is made unless it is there."""
    run = out / f"{variant}-{FLIGHT}-{seed}"
    config = video_config(
        "deepv2d",
        **{"image_width": SIZE, "image_height": SIZE, "stride": STRIDE, "split": "segments"},
        **{"seed": seed, "max_minutes": minutes, "clock": "cpu", "device": "cpu", "tensorboard": False},
        **VARIANTS[variant],
    )
    if not (run / "samples" / "best.png").exists():
        train([source], run, config, resume=(run / "last").exists())
    return load_video_checkpoint(run).build_model().eval()


class Judged:
    """The frames that judge with the most views, and what is made of fewer of them."""

    def __init__(self, source: Path, seed: int) -> None:
        stride = STRIDE
        sequences, facts = open_sequences(source), ("segments", 0.2, seed)
        self.data = {
            views: SnippetData.of(sequences, (SIZE, SIZE), views, stride, *facts).for_judging()
            for views in (2, 3, 5, MOST_VIEWS)
        }
        self.frames = self.data[MOST_VIEWS].split.judge
        truth = self.data[3].depth(self.frames)
        assert truth is not None
        self.truth = truth

    def abs_rel(self, depth: np.ndarray) -> float:
        """Of depth (N, H, W) scaled by medians."""
        return float(depth_metrics(depth, self.truth, named_protocol("plain"))["abs_rel"])

    def of(
        self, network: Any, views: int = 5, known: bool = False, start: Any = "motion", iterations: int = 2
    ) -> float:
        """AbsRel by so many views. known: with the true poses. start: see MultiViewModel, of tensors all frames'."""
        found = []
        for first in range(0, len(self.frames), CHUNK):
            batch = self.data[views].batch(self.frames[first : first + CHUNK])
            begin = start[first : first + CHUNK] if isinstance(start, torch.Tensor) else start
            T_tgt_i = batch.T_tgt_i if known else None
            with torch.inference_mode():
                found.append(network.from_views(batch.images, batch.K, T_tgt_i, iterations, begin).depth)
        return self.abs_rel(torch.cat(found).numpy())

    def motion_px(self, network: Any, views: int = 5) -> float:
        """How far its motions put points from where they lie, in the median; without a network: standing still."""
        batches = [self.frames[first : first + CHUNK] for first in range(0, len(self.frames), CHUNK)]
        return float(np.median(np.concatenate([motion_px(network, self.data[views].batch(each)) for each in batches])))

    def mean_depth(self) -> float:
        """Of the mean depth of every pixel of the frames that train."""
        depth = self.data[3].depth(self.data[3].split.train)
        assert depth is not None
        known = np.isfinite(depth)
        mean = np.where(known, depth, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        mean[~known.any(axis=0)] = mean.max()
        return self.abs_rel(np.repeat(mean[None], len(self.frames), axis=0))

    def of_run(self, run: Path) -> tuple[float, torch.Tensor]:
        """AbsRel of a model of one image, and its depth."""
        model: Any = load_video_checkpoint(run).build_model().eval()
        data = self.data[3]
        images = torch.from_numpy(data.rgb(self.frames)).permute(0, 3, 1, 2).float() / 255
        size = model.image_size
        with torch.inference_mode():
            large = torch.nn.functional.interpolate(images, size, mode="bilinear") if size != (SIZE, SIZE) else images
            depth = area_resized(model.depth(large).double()[:, None], (SIZE, SIZE))[:, 0].float()
        return self.abs_rel(depth.numpy()), depth


def measured(network: Any, judged: Judged, warm: torch.Tensor | None) -> dict[str, float]:
    """What -> AbsRel."""
    rows = {f"known poses, {views} views": judged.of(network, views, known=True) for views in judged.data}
    rows |= {f"2 iterations, {views} views": judged.of(network, views) for views in judged.data}
    starts = {
        "motion at sight": "motion",
        "flat depth": "flat",
        **({} if warm is None else {"depth of one image": warm}),
    }
    for name, start in starts.items():
        rows |= {f"{name}, {n} iterations": judged.of(network, start=start, iterations=n) for n in ITERATIONS}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/deepv2d"))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="processor minutes of a training")
    parser.add_argument("--start", type=Path, help="run of a model of one image, for warm starts; of --seeds N alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, source = KeptRows(ROWS, ("seed", "variant", "what")), arguments.out / FLIGHT
    if not (source / "meta.yaml").exists():
        fly = ["sim", "dataset", str(source), "--size", str(DRAWN), *FLIGHTS[FLIGHT].options, "--processes", "1"]
        assert pose2rgbd(fly) == 0
    for seed in arguments.seeds:
        judged = Judged(source, seed)

        def keep(variant: str, what: str, error: float, seed: int = seed, judged: Judged = judged) -> None:
            facts = {"minutes": arguments.minutes, "frames": len(judged.frames), "machine": processor()}
            rows.keep({"seed": seed, "variant": variant, "what": what, "abs_rel": error, **facts})

        keep("mean depth", "", judged.mean_depth())
        keep("mean depth", MOTION, judged.motion_px(None))
        warm = None
        if arguments.start is not None:
            error, warm = judged.of_run(arguments.start)
            keep(arguments.start.name, "one image", error)
        for variant in arguments.variants:
            network = trained(variant, source, seed, arguments.minutes, arguments.out)
            for what, error in measured(network, judged, warm).items():
                keep(variant, what, error)
            keep(variant, MOTION, judged.motion_px(network))
            some = judged.frames[np.linspace(0, len(judged.frames) - 1, SHOWN).round().astype(int)]
            with torch.inference_mode():
                write_picture(
                    arguments.out / f"{variant}-{seed}.jpg", sheet(rows_of(network, judged.data[5].batch(some)))
                )
    RESULT.write_text(page(list(rows)))
    print(RESULT.read_text())


def page(rows: list[dict[str, Any]]) -> str:
    """A column for each variant: means over its seeds, with their range."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    seeds = {name: sorted({row["seed"] for row in rows if row["variant"] == name}) for name in variants}
    table = Table([Column("what", ""), *(Column(name, f"{name} ({len(seeds[name])})") for name in variants)])
    for what in dict.fromkeys(row["what"] for row in rows):
        line = {"what": what or "whatever is shown"}
        for name in variants:
            errors = [row["abs_rel"] for row in rows if (row["variant"], row["what"]) == (name, what)]
            if errors:
                line[name] = f"{np.mean(errors):.3f}" + (
                    f" ({min(errors):.3f} to {max(errors):.3f})" if len(errors) > 1 else ""
                )
        table.rows.append(line)
    minutes = " / ".join(f"{each:g}" for each in sorted({row["minutes"] for row in rows}))
    frames = ", ".join(f"{row['frames']} of seed {row['seed']}" for row in rows if not row["what"])
    return (
        f"# DeepV2D on a simulated flight\n\n`python bench/deepv2d.py --minutes {minutes}` (processor minutes of one\n"
        f"thread of {' or '.join(sorted({row['machine'] for row in rows}))}): flight {FLIGHT} of\n"
        f"[depth_video.md](depth_video.md), {SIZE} x {SIZE} pixels, frames {STRIDE} apart. Taught by the true depth\n"
        "and poses of the frames that train; AbsRel, scaled by medians, of the frames that judge and have "
        f"{MOST_VIEWS} views\nwithin their stretch ({frames}); in brackets the number of seeds, and their range.\n\n"
        f"{table.markdown()}\n"
    )


if __name__ == "__main__":
    main()

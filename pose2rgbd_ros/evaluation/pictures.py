"""A model against the mean image and the nearest training frame, on frames it has not seen: the figures."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor
from tqdm import tqdm

from pose2rgbd_ros.dataset.reader import Dataset, FrameCache, frame_cache
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation.error_map import ErrorMap, ErrorPoints
from pose2rgbd_ros.evaluation.held_out import choose_frames, training_frames
from pose2rgbd_ros.evaluation.sheets import SheetRow
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.reports.page import listed
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint
from pose2rgbd_ros.training.config import UNLIMITED_EPOCHS
from pose2rgbd_ros.training.data import mean_image
from pose2rgbd_ros.training.families import RenderTensors
from pose2rgbd_ros.training.metrics import Scores, batches, is_collapsed, spread
from pose2rgbd_ros.training.trainer import pick_device

# The outcome, as numbers and as a table.


METHODS = {"model": "this model", "mean_image": "mean training image", "nearest_frame": "nearest training frame"}
SPLIT_WORDS = {
    "held_out_segments": "held-out stretches of the track",
    "dataset": "lines the dataset holds out",
    "random": "frames held out at random (their neighbours were trained on)",
    "lines+random": "held-out lines, and frames held out at random",
    "all": "all frames",
}


@dataclass
class Evaluation:
    """Scores of each method (see METHODS) and what they were measured on."""

    scores: dict[str, dict[str, float]]
    per_frame: dict[str, dict[str, np.ndarray]]  # method -> measure -> (frames,)
    stamps_ns: np.ndarray  # of the frames measured on
    start_ns: int  # of the dataset: time 0 of the pictures and curves
    split: str  # a key of SPLIT_WORDS
    trained_on: int  # how many of the frames the model was trained on
    chosen_by: int  # how many of the frames may have chosen its weights
    seen: str  # both, in words
    # medians, metres and degrees, to the training frame nearest in view; None without training frames at hand
    from_training: tuple[float, float] | None
    depth_unit: str
    checkpoint: Checkpoint
    dataset: str
    notes: list[str] = field(default_factory=list)
    rows: list[SheetRow] = field(default_factory=list)
    groups: dict[str, np.ndarray] = field(default_factory=dict)  # name -> (frames,) bool: parts scored apart
    worst: np.ndarray = field(default_factory=lambda: np.array([], int))  # frames of the largest errors
    worst_rows: list[SheetRow] = field(default_factory=list)
    size: int | None = None  # side of the pictures; None: as trained
    has_geometry: bool = False  # renders any camera; its confidence is a probability
    video: str = ""  # what the video in the report shows; empty: there is none
    position_m: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))  # of the frames measured on
    moved_m: np.ndarray | None = None  # (frames,) how far each is from the training frame nearest in view
    error_map: ErrorMap | None = None
    render_s: float = float("nan")  # for all pictures, a batch at a time
    threads: int = 1
    paths: tuple[Path, Path] = (Path("RUN"), Path("DATASET"))  # as they were given

    @property
    def collapsed(self) -> bool:
        """The network answers nearly the same image whatever the pose."""
        return is_collapsed(self.scores["model"])

    def group_scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """Group -> method -> measure -> mean over the group's frames (NaN left out)."""

        def mean(values: np.ndarray) -> float:
            finite = values[np.isfinite(values)]
            return float(finite.mean()) if len(finite) else float("nan")

        return {
            group: {
                method: {name: mean(values[inside]) for name, values in measures.items()}
                for method, measures in self.per_frame.items()
            }
            for group, inside in self.groups.items()
        }

    def error_share(self) -> float:
        """Error as a share of the mean image's, colour and depth averaged: 0 perfect, 1 no better than it.

        Pixels without a depth count as the mean image's, so that answering less makes nothing better. NaN without
        baseline.
        """
        mean, model = self.scores.get("mean_image", {}), self.scores["model"]
        shares = []
        for name in ("rgb_mae_px", "depth_mae"):
            if name in model and mean.get(name, 0.0) > 0:
                known = model.get("depth_known", 1.0) if name == "depth_mae" else 1.0
                share = model[name] / mean[name] if known > 0 else 0.0
                shares.append(known * share + 1.0 - known)
        return float(np.mean(shares)) if shares else float("nan")

    def better_than_mean_image(self) -> dict[str, float]:
        """Share by which the model's mean absolute errors are below the mean image's (negative: worse)."""
        mean = self.scores.get("mean_image", {})
        return {
            name: 1.0 - self.scores["model"][name] / mean[name]
            for name in ("rgb_mae_px", "depth_mae")
            if name in self.scores["model"] and mean.get(name, 0.0) > 0
        }

    def verdict(self) -> str:
        """One sentence: by how much the model beats the mean image, and whether it collapsed."""
        names = {"rgb_mae_px": "RGB", "depth_mae": "depth"}
        parts = [
            f"{names[name]} error {abs(share):.0%} {'below' if share >= 0 else 'ABOVE'} the mean image's"
            for name, share in self.better_than_mean_image().items()
        ]
        if self.collapsed:
            parts.append(
                "COLLAPSED: the network answers nearly one image, whatever the pose; train longer or otherwise"
            )
        return "; ".join(parts) or "no baseline: the training frames are not in this dataset"

    def measured_on(self) -> str:
        """What the numbers were measured on, in words."""
        split = SPLIT_WORDS.get(self.split, self.split)
        text = f"{counted(len(self.stamps_ns), 'frame')} of {self.dataset}: {split}, {self.seen}"
        if self.from_training is not None:
            moved_m, turned_deg = self.from_training
            text += f"; the nearest training frame is {moved_m:.2g} m and {turned_deg:.2g} degrees away (medians)"
        return text

    def table(self) -> str:
        """Markdown: a row a method, what it was measured on, the verdict, and each group of frames by itself."""
        parts = [self.scored().markdown(), f"Measured on {self.measured_on()}.", self.verdict() + "."]
        for group, inside in self.groups.items():
            scored = self.scored(self.group_scores()[group])
            parts.append(f"{group}, {counted(int(inside.sum()), 'frame')}:\n\n{scored.markdown()}")
        return "\n\n".join([*parts, *self.notes])

    def scored(self, scores: dict[str, dict[str, float]] | None = None) -> Table:
        """A table of scores, all frames' or those given: a row a method."""
        scores = self.scores if scores is None else scores
        columns = (
            Column("rgb_mae_px", "RGB MAE", ".2f", "of 255"),
            Column("psnr_db", "PSNR", ".2f", "dB"),
            Column("ssim", "SSIM", ".3f"),
            Column("depth_mae", "depth MAE", ".3g", self.depth_unit.strip("()")),
            Column("depth_known", "depth known", ".3f"),
            Column("variation", "variation", ".2f"),
        )
        shown = [column for column in columns if column.key in scores["model"]]
        rows = [{"method": METHODS[method], **values} for method, values in scores.items()]
        return Table([Column("method", ""), *shown], rows, strong=[list(scores).index("model")])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for metrics.yaml."""

        def rounded(values: dict[str, float]) -> dict[str, float]:
            return {name: round(float(value), 5) for name, value in values.items()}

        return {
            "dataset": self.dataset,
            "split": self.split,
            "frames": len(self.stamps_ns),
            "frames_trained_on": self.trained_on,
            "frames_chosen_by": self.chosen_by,
            "from_training_m_deg": None if self.from_training is None else [round(v, 4) for v in self.from_training],
            "depth_unit": self.depth_unit,
            "size": self.size or self.checkpoint.camera.width,
            "scores": {method: rounded(scores) for method, scores in self.scores.items()},
            "group_scores": {
                group: {method: rounded(scores) for method, scores in methods.items()}
                for group, methods in self.group_scores().items()
            },
            "error_share": round(self.error_share(), 5),
            "worst_frames": [
                {
                    "stamp_ns": int(self.stamps_ns[index]),
                    **rounded({name: values[index] for name, values in self.per_frame["model"].items()}),
                }
                for index in self.worst
            ],
            "better_than_mean_image": rounded(self.better_than_mean_image()),
            "collapsed": self.collapsed,
            "notes": self.notes,
            "checkpoint": {
                "architecture": self.checkpoint.architecture,
                "weights_sha256": self.checkpoint.weights_sha256,
            },
        }


# Recorded frames as a model's pictures are compared with them.


Images = tuple[Tensor | None, Tensor | None]  # rgb (B, 3, H, W) in [0, 1], depth (B, H, W)


@dataclass(frozen=True, eq=False)
class Recorded:
    """The frames of a dataset; what the model does not predict is left out.

    max_depth: farther counts as unknown, as in the model's training; None: nothing does.
    """

    dataset: Dataset
    cache: FrameCache
    has_rgb: bool
    has_depth: bool
    max_depth: float | None

    def images(self, indices: np.ndarray) -> Images:
        """Colour and depth of these frames; None for what is left out."""
        rgb = depth = None
        if self.has_rgb:
            pixels = torch.from_numpy(np.ascontiguousarray(self.cache.rgb[indices]))
            rgb = pixels.permute(0, 3, 1, 2).float() / 255
        if self.has_depth and self.cache.depth is not None:
            depth = torch.from_numpy(np.array(self.cache.depth[indices]))
            if self.max_depth is not None:
                depth[depth > self.max_depth] = torch.nan
        return rgb, depth

    def mean(self, indices: np.ndarray) -> Images:
        """The mean of these frames, without the axis of frames."""
        rgb, depth = mean_image(self.cache, indices, self.max_depth)
        return (
            torch.from_numpy(rgb / 255).float().permute(2, 0, 1) if self.has_rgb else None,
            torch.from_numpy(depth).float() if self.has_depth and depth is not None else None,
        )


# What any model has to beat: the mean training image, and the training frame taken nearest to the pose.


DEPTH_FRAMES = 32


class Baselines:
    """What both say at any pose, from the frames `train` of a recording; the same whatever model stands beside them."""

    def __init__(self, recorded: Recorded, train: np.ndarray) -> None:
        self._recorded, self._train = recorded, train
        self._mean = recorded.mean(train)
        distance_m = scene_distance_m(recorded.dataset, train)
        self._nearest = NearestFrame(recorded.dataset.T_map_cam[train], distance_m)

    def nearest(self, T_map_cam: np.ndarray) -> np.ndarray:
        """Indices (B,) of the training frames nearest to poses (B, 4, 4)."""
        return self._train[self._nearest(T_map_cam)]

    def nearest_pose(self, T_map_cam: np.ndarray) -> np.ndarray:
        """Their poses (B, 4, 4)."""
        return self._recorded.dataset.T_map_cam[self.nearest(T_map_cam)]

    def images(self, T_map_cam: np.ndarray) -> dict[str, Images]:
        """Colour and depth of each at poses (B, 4, 4)."""
        rgb, depth = (None if image is None else image.expand(len(T_map_cam), *image.shape) for image in self._mean)
        copied = self._recorded.images(self.nearest(T_map_cam))
        return {"mean_image": (rgb, depth), "nearest_frame": copied}


def scene_distance_m(dataset: Dataset, train: np.ndarray) -> float:
    """Typical distance of what is seen: the median recorded depth of some training frames.

    Without metric depth the extent of the training track stands in for it.
    """
    if dataset.has_depth and dataset.depth_kind == "metric":
        depth = np.concatenate([dataset.depth(int(i))[::4, ::4].ravel() for i in spread(train, DEPTH_FRAMES)])
        known = depth[np.isfinite(depth)]
        if len(known):
            return float(np.median(known))
    position_m = dataset.T_map_cam[train, :3, 3]
    return float(np.linalg.norm(position_m.max(axis=0) - position_m.min(axis=0)))


class NearestFrame:
    """Finds the training frame whose view is most like that of a pose.

    Moving by d shifts the image of a surface at distance z about as much as turning by d / z, so positions count in
    units of the scene's distance and rotations in radians. For small angles the chord between unit quaternions is
    half the angle, which makes the measure Euclidean and a KD-tree exact enough.

    Args:
        T_map_cam: (N, 4, 4) training poses.
        scene_distance_m: typical distance of what is seen.
    """

    def __init__(self, T_map_cam: np.ndarray, scene_distance_m: float) -> None:
        self._scale = 1.0 / max(scene_distance_m, 1e-6)
        features = self._features(T_map_cam)
        # q and -q are the same rotation: both are in the tree.
        self._tree = KDTree(np.concatenate([features, features * [1, 1, 1, -1, -1, -1, -1]]))
        self._count = len(features)

    def __call__(self, T_map_cam: np.ndarray, without: np.ndarray | None = None) -> np.ndarray:
        """(B, 4, 4) poses -> (B,) indices into the training poses; `without` (B,) is one of each not to answer."""
        most = 1 if without is None else min(3, 2 * self._count)  # each is in the tree twice: one of three is another
        _, near = self._tree.query(self._features(T_map_cam), k=range(1, most + 1))
        near = np.asarray(near, dtype=np.int64) % self._count
        if without is None:
            return near[:, 0]
        return near[np.arange(len(near)), (near != without[:, None]).argmax(axis=1)]

    def _features(self, T_map_cam: np.ndarray) -> np.ndarray:
        position_m, quat_xyzw = se3.split(T_map_cam)
        return np.concatenate([position_m * self._scale, 2.0 * quat_xyzw], axis=1)


SHEET_FRAMES = 6
LEAST_SIZE, MOST_SIZE = 16, 4096  # SSIM looks through a window of 11
WORST_FRAMES = 4


def measure(
    checkpoint: Path,
    dataset: Path,
    split: str = "checkpoint",
    device: str = "auto",
    size: int | None = None,
    training_dataset: Path | None = None,
) -> Evaluation:
    """Measure a checkpoint on frames of a dataset.

    Args:
        split: "checkpoint": the frames its training held out to judge by; on another recording, all frames. "choose":
            those held out that may have chosen its weights. "dataset": those the dataset holds out itself; "segments",
            "random", "lines+random": a split drawn anew, without the frames that chose; all may hold frames trained on
            (the report counts them). "all": every frame.
        size: side of the pictures, for a model that renders any camera; None: as trained.
        training_dataset: where the frames trained on are, for the baselines, when `dataset` is another recording.

    Raises:
        UserError: a bad checkpoint or dataset, no frames to evaluate on, a size the model cannot render, CUDA asked
            for and absent.
    """
    target = torch.device(pick_device(device))
    loaded = load_checkpoint(checkpoint)
    measured = _Measurement(loaded, Dataset(dataset), split, target, size, training_dataset).run()
    measured.paths = (checkpoint.parent if checkpoint.name == "checkpoint" else checkpoint, dataset)
    return measured


class _Measurement:
    """Everything one evaluation needs; `run` goes once over the frames."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        dataset: Dataset,
        split: str,
        device: torch.device,
        size: int | None,
        training_dataset: Path | None,
    ) -> None:
        self.checkpoint, self.dataset, self.device = checkpoint, dataset, device
        self.model: Any = checkpoint.build_model().to(device)
        self.size = self._choose_size(size)
        chosen = choose_frames(checkpoint, dataset, split)
        self.chosen, self.test, self.train = chosen, chosen.test, chosen.train
        self.groups, self.notes = chosen.groups, chosen.notes
        self.has_depth = dataset.has_depth and checkpoint.output != "rgb"
        self.recorded = self._recorded(dataset)
        self._check_fit()
        self.recorded = dataclasses.replace(self.recorded, has_depth=self.has_depth)
        self.baselines = self._baselines(training_dataset)

    def _choose_size(self, size: int | None) -> int:
        trained = self.checkpoint.camera.width
        if size is not None and not LEAST_SIZE <= size <= MOST_SIZE:
            raise UserError(f"a size of {size} px; choose {LEAST_SIZE} to {MOST_SIZE}")
        if size not in (None, trained) and not self.model.any_camera:
            raise UserError(f"this model makes pictures of {trained} px only; leave out the size of {size}")
        return trained if size is None else size

    def _recorded(self, dataset: Dataset) -> Recorded:
        """The frames of a dataset at the size, and with the images, of this comparison."""
        provenance = self.checkpoint.provenance
        cache = frame_cache(dataset, self.size, provenance.get("fit", "square"), provenance.get("margin", 0))
        max_depth = provenance.get("config", {}).get("max_depth")
        return Recorded(dataset, cache, self.checkpoint.output != "depth", self.has_depth, max_depth)

    def _baselines(self, folder: Path | None) -> Baselines | None:
        """None when the frames trained on are neither in the dataset nor in `folder`."""
        dataset, train = training_frames(self.checkpoint, self.dataset, self.chosen, folder)
        if dataset is None:
            return None
        return Baselines(self.recorded if dataset is self.dataset else self._recorded(dataset), train)

    def _check_fit(self) -> None:
        ours, theirs = self.checkpoint.camera, self.recorded.cache.camera
        if self.model.any_camera and not theirs.is_calibrated:
            raise UserError(
                f"the camera of {self.dataset.path} is not calibrated, so this model cannot look through it"
            )
        if (
            not self.model.any_camera
            and ours.is_calibrated
            and theirs.is_calibrated
            and not np.allclose(ours.K, theirs.K, rtol=0.01, atol=1.0)
        ):
            self.notes.append("this dataset's camera differs from the training's by more than 1 %")
        if self.has_depth and self.dataset.depth_kind != self.checkpoint.depth_kind:
            self.notes.append("depth is metric in one and relative in the other: depth is not compared")
            self.has_depth = False
        depth = self.dataset.meta.depth
        if self.has_depth and depth is not None and depth.made is not None:
            self.notes.append(f"the dataset's depth was not measured but made by {depth.made.method}")
        if self.checkpoint.output == "depth" and not self.has_depth:
            raise UserError(f"{self.dataset.path} has no {self.checkpoint.depth_kind} depth, all this model predicts")
        if self.dataset.meta.map_frame != self.checkpoint.map_frame:
            self.notes.append(
                f"poses are in {self.dataset.meta.map_frame!r}, the model's in {self.checkpoint.map_frame!r}"
            )

    @torch.inference_mode()
    def run(self) -> Evaluation:
        scores = {name: Scores() for name in METHODS if name == "model" or self.baselines}
        points, render_s = self._error_points(), 0.0
        shown_bar = tqdm(total=len(self.test), desc="measuring", unit="frame", disable=None, delay=2.0)
        for chunk in batches(self.test):
            truth, begun = self.recorded.images(chunk), time.perf_counter()
            shown = self._predict(chunk)
            render_s += time.perf_counter() - begun
            _add(scores["model"], (shown.rgb, shown.depth), truth)
            if points is not None:
                self._place_errors(points, chunk, truth, shown)
            shown_bar.update(len(chunk))
            if self.baselines is not None:
                for name, images in self.baselines.images(self.dataset.T_map_cam[chunk]).items():
                    _add(scores[name], images, truth)
        shown_bar.close()
        per_frame = {name: each.per_frame() for name, each in scores.items()}
        moved = self._from_training()
        worst = worst_frames(per_frame["model"], WORST_FRAMES)
        return Evaluation(
            scores={name: each.result() for name, each in scores.items()},
            per_frame=per_frame,
            stamps_ns=self.dataset.stamps_ns[self.test],
            start_ns=int(self.dataset.stamps_ns[0]),
            split=self.chosen.split,
            seen=self.chosen.seen,
            trained_on=len(np.intersect1d(self.test, self.train)),
            chosen_by=len(np.intersect1d(self.test, self.chosen.choose)),
            from_training=None if moved is None else (float(np.median(moved[0])), float(np.median(moved[1]))),
            depth_unit="(relative)" if self.checkpoint.depth_kind == "relative" else "m",
            checkpoint=self.checkpoint,
            dataset=self.dataset.path.resolve().name,
            notes=self.notes,
            rows=self._sheet_rows(spread(self.test, SHEET_FRAMES)),
            worst=worst,
            worst_rows=self._sheet_rows(self.test[worst]),
            size=self.size,
            has_geometry=self.model.any_camera,
            position_m=self.dataset.T_map_cam[self.test, :3, 3],
            moved_m=None if moved is None else moved[0],
            error_map=None if points is None else points.map(),
            render_s=render_s,
            threads=torch.get_num_threads(),
            groups={
                name: np.isin(self.test, frames)
                for name, frames in self.groups.items()
                if len(np.intersect1d(self.test, frames)) > 0
            },
        )

    def _from_training(self) -> tuple[np.ndarray, np.ndarray] | None:
        """How far each frame lies from the nearest training frame: metres and degrees."""
        if self.baselines is None:
            return None
        T_map_cam = self.dataset.T_map_cam[self.test]
        moved_m, turned_rad = se3.apart(T_map_cam, self.baselines.nearest_pose(T_map_cam))
        return moved_m, np.degrees(turned_rad)

    def _error_points(self) -> ErrorPoints | None:
        """None where no metric depth says where a pixel's surface stands."""
        camera, is_metric = self.recorded.cache.camera, self.dataset.depth_kind == "metric"
        if not (self.dataset.has_depth and is_metric and camera.is_calibrated):
            return None
        return ErrorPoints(camera, len(self.test))

    def _place_errors(self, points: ErrorPoints, chunk: np.ndarray, truth: Images, shown: RenderTensors) -> None:
        cached = self.recorded.cache.depth
        assert cached is not None
        for i, index in enumerate(chunk):
            rgb_px = depth_m = None
            if truth[0] is not None and shown.rgb is not None:
                rgb_px = 255 * (truth[0][i] - shown.rgb[i]).abs().mean(dim=0).numpy()
            if truth[1] is not None and shown.depth is not None:
                depth_m = (truth[1][i] - shown.depth[i]).abs().numpy()
            points.add(self.dataset.T_map_cam[index], np.asarray(cached[index], np.float64), rgb_px, depth_m)

    def _predict(self, chunk: np.ndarray) -> RenderTensors:
        """Pictures on the CPU; a model that renders any camera looks through this dataset's."""
        T_map_cam = torch.from_numpy(self.dataset.T_map_cam[chunk]).to(self.device)
        camera = self.recorded.cache.camera if self.model.any_camera else self.checkpoint.camera
        shown = self.model.pictures(T_map_cam, camera, self.checkpoint.normalization)
        return RenderTensors(*(None if image is None else image.cpu() for image in shown))

    def _sheet_rows(self, frames: np.ndarray) -> list[SheetRow]:
        shown = self._predict(frames)
        truth = self.recorded.images(frames)[1]
        start_ns = int(self.dataset.stamps_ns[0])
        rows = []
        for i, index in enumerate(frames):
            row = SheetRow(f"t = {(int(self.dataset.stamps_ns[index]) - start_ns) / 1e9:.1f} s")
            row.rgb = np.asarray(self.recorded.cache.rgb[index])
            if shown.rgb is not None:
                row.rgb_predicted = (shown.rgb[i].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
            if shown.depth is not None:
                row.depth_predicted = shown.depth[i].numpy()
                row.depth = None if truth is None else truth[i].numpy()
            row.confidence = None if shown.confidence is None else shown.confidence[i].numpy()
            rows.append(row)
        return rows


def worst_frames(per_frame: dict[str, np.ndarray], count: int) -> np.ndarray:
    """Where the errors, each as a share of its mean, are largest: at most `count` frames, worst first.

    Neighbours of a frame taken (a fiftieth of all to either side) are left out: one mishap fills no sheet.
    """
    shares = [
        np.nan_to_num(values / np.nanmean(values))
        for name, values in per_frame.items()
        if name in ("rgb_mae_px", "depth_mae") and np.nansum(values) > 0
    ]
    if not shares:
        return np.array([], int)
    error = np.sum(shares, axis=0)
    apart = len(error) // 50
    taken: list[int] = []
    for index in np.argsort(-error, kind="stable"):
        if len(taken) < count and all(abs(index - other) > apart for other in taken):
            taken.append(int(index))
    return np.array(taken, int)


def _add(scores: Scores, predicted: Images, truth: Images) -> None:
    scores.add(predicted[0], truth[0], predicted[1], truth[1])


def model_name(checkpoint: Checkpoint) -> str:
    """Such as "slice-10", "relief" or "warp-12"."""
    model = checkpoint.provenance.get("config", {}).get("model")
    if model:
        return str(model)
    architecture = checkpoint.architecture
    name = architecture.get("variant", architecture["network"])
    return f"slice-{architecture['slices']}" if name == "slice" else str(name)


def provenance(checkpoint: Checkpoint) -> dict[str, str]:
    """What a page says of the model that its figures are of."""
    made = checkpoint.provenance
    frames = made.get("frames", {})
    camera = checkpoint.camera
    is_slice = checkpoint.architecture.get("variant") == "slice"
    recipe = {key: value for key, value in made.get("recipe", {}).items() if value != UNLIMITED_EPOCHS}
    network = {key: value for key, value in checkpoint.architecture.items() if is_slice or "slice" not in key}
    return {
        "trained on": f"{made.get('dataset', '?')}: {frames.get('train', '?')} of {frames.get('all', '?')} frames",
        "effort": f"{made.get('images', '?')} images in {made.get('seconds', '?')} s on {made.get('device', '?')}",
        "recipe": listed(recipe) or "?",
        "network": listed(network),
        "camera": f"{camera.width} x {camera.height} px, fx {camera.fx:.1f}, fy {camera.fy:.1f}",
        "frames": f"{checkpoint.map_frame} / {checkpoint.camera_frame}",
        "weights": f"SHA-256 {checkpoint.weights_sha256[:16]}...",
    }

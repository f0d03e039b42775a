"""Predicted against true depth by the protocols of the papers, whose figures only compare within one of them.

What a protocol decides: which pixels are true, in which part of the image; how a depth without a unit gets its size;
whether depth or disparity is resized, and by which filter; whether images or pixels are averaged. Each moves the score.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from pose2rgbd_ros.depth_from_images.depth_errors import ErrorSums
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float64
from pose2rgbd_ros.settings import from_yaml_dict, setting, to_yaml_dict

Crop = Literal["none", "garg", "nyu", "nyu_eigen", "make3d"]
Scaling = Literal["medians", "median_of_ratios", "none"]
Resize = Literal["depth", "disparity"]
Filter = Literal["linear", "nearest", "cubic"]
Clip = Literal["after", "before", "none"]
Average = Literal["images", "pixels"]

NYU_SIZE = (480, 640)
_NYU_CROPS = {"nyu": (45, 472, 41, 602), "nyu_eigen": (20, 459, 24, 615)}
_GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)  # of height, height, width, width
_MAKE3D = 0.375  # of the height: half as high as wide, of photographs of 1704 x 2272 pixels
_FILTERS = {"linear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST_EXACT, "cubic": cv2.INTER_CUBIC}


@dataclass(frozen=True)
class DepthProtocol:
    """What is compared, and how; named ones are in PROTOCOLS."""

    min_depth: float = setting(1e-3, "true depth counts above", ge=0)
    max_depth: float = setting(80.0, "and below", ge=1e-6)
    crop: Crop = setting("none", "part of the image that counts")
    scaling: Scaling = setting(
        "medians", "each image's prediction times: median of truth / median of prediction, median of the ratios, or 1"
    )
    scale_from: float = setting(0.0, "the factor is found where true depth is above; with scale-to", ge=0)
    scale_to: float = setting(0.0, "... and below; 0: where it counts", ge=0)
    resize: Resize = setting("disparity", "what is resized to the size of the truth: depth, or disparity and inverted")
    filter: Filter = setting("linear", "how it is resized (OpenCV, pixel centres at halves, no smoothing)")
    clip: Clip = setting("after", "clip the prediction to min-depth and max-depth after scaling, before, or not")
    average: Average = setting("images", "mean of the images' measures, or the measures of all pixels together")

    def __post_init__(self) -> None:
        if self.max_depth <= self.min_depth:
            raise UserError(f"max-depth {self.max_depth:g} is not above min-depth {self.min_depth:g}")


@dataclass(frozen=True)
class NamedProtocol:
    """A paper's protocol, and its rule in words."""

    protocol: DepthProtocol
    text: str


_EIGEN = DepthProtocol(crop="garg")
PROTOCOLS: dict[str, NamedProtocol] = {
    "plain": NamedProtocol(
        DepthProtocol(max_depth=1e6),
        "no paper's: every pixel of known depth; median(gt) / median(pred) by image; disparity resized",
    ),
    "metric": NamedProtocol(
        DepthProtocol(max_depth=1e6, scaling="none", clip="none"), "no paper's: every pixel of known depth, no scaling"
    ),
    "kitti-sfmlearner": NamedProtocol(
        DepthProtocol(crop="garg", resize="depth"),
        "Zhou et al. 2017: Eigen's 697 images, Garg's crop, 1e-3 < gt < 80 m, median(gt) / median(pred), depth resized "
        "bilinearly, clipped after scaling",
    ),
    "kitti-sfmlearner-50": NamedProtocol(
        DepthProtocol(crop="garg", resize="depth", max_depth=50.0), "the same to 50 m (Garg et al. 2016)"
    ),
    "kitti-monodepth2": NamedProtocol(
        _EIGEN, "Godard et al. 2019, TrianFlow: as kitti-sfmlearner, but disparity is resized and then inverted"
    ),
    "kitti-deepv2d": NamedProtocol(
        DepthProtocol(crop="garg", resize="depth", scaling="median_of_ratios", clip="before"),
        "Teed and Deng 2020: as kitti-sfmlearner, but scaled by median(gt / pred), and clipped before it",
    ),
    "nyu-trianflow": NamedProtocol(
        DepthProtocol(crop="nyu"),
        "Zhao et al. 2020: 654 images, rows 45 to 472 and columns 41 to 602, 1e-3 < gt < 80 m, median(gt) / "
        "median(pred), disparity resized (its network sees the cropped images)",
    ),
    "nyu-deepv2d": NamedProtocol(
        DepthProtocol(
            0.1, 10.0, "nyu_eigen", "median_of_ratios", 0.8, 10.0, resize="depth", clip="none", average="pixels"
        ),
        "Teed and Deng 2020: rows 20 to 459 and columns 24 to 615, 0.1 < gt < 10 m, median(gt / pred) of 0.8 to 10 m, "
        "depth resized, all pixels of all images together (sc_inv: mean of the images)",
    ),
    "make3d-c1": NamedProtocol(
        DepthProtocol(max_depth=70.0, crop="make3d", resize="depth"),
        "Zhou et al. 2017, Godard et al. 2017: C1, gt < 70 m, the central crop twice as wide as high, median(gt) / "
        "median(pred); from the papers, not checked against code",
    ),
}


def named_protocol(name: str) -> DepthProtocol:
    """One of PROTOCOLS. UserError for another name."""
    if name not in PROTOCOLS:
        raise UserError(f"there is no depth protocol {name!r}; choose from {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name].protocol


def changed_protocol(name: str, changes: Sequence[str]) -> DepthProtocol:
    """A named one with some of its choices made otherwise: "scaling=none", "max_depth=50". UserError for bad ones."""
    values = to_yaml_dict(named_protocol(name))
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"{change!r} changes no protocol; write NAME=VALUE, such as scaling=none")
        key = key.replace("-", "_")
        default = values.get(key)
        values[key] = text if default is None or isinstance(default, str) else _number(change, text)
    return from_yaml_dict(DepthProtocol, values, "--change")


def _number(change: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{change!r}: {text!r} is no number") from None


@dataclass(frozen=True)
class FrameErrors:
    """Of one image: `sums` over its pixels, the factor `scale` its prediction was multiplied by, and the share `known`
    of the true pixels that have a prediction."""

    sums: ErrorSums
    scale: float
    known: float

    @property
    def counts(self) -> bool:
        """Whether anything could be compared."""
        return self.sums.pixels > 0


def crop_mask(crop: Crop, height: int, width: int) -> Bool:
    """(H, W) bool. UserError: a crop of NYU's for images that are not 480 x 640."""
    mask = np.zeros((height, width), dtype=np.bool_)
    top, bottom, left, right = 0, height, 0, width
    if crop == "garg":
        top, bottom = (int(share * height) for share in _GARG[:2])
        left, right = (int(share * width) for share in _GARG[2:])
    elif crop == "make3d":
        kept = max(round(_MAKE3D * height), 1)
        top = (height - kept) // 2
        bottom = top + kept
    elif crop != "none":
        if (height, width) != NYU_SIZE:
            raise UserError(
                f"the crop {crop} is of images of 640 x 480 pixels, not {width} x {height}; choose another protocol, "
                "such as plain"
            )
        top, bottom, left, right = _NYU_CROPS[crop]
    mask[top:bottom, left:right] = True
    return mask


def resized(depth: AnyArray, height: int, width: int, resize: Resize = "depth", filter: Filter = "linear") -> Float64:
    """Depth (h, w) at another size (H, W): itself interpolated, or its inverse. As it is where the size is the same."""
    depth = np.asarray(depth, np.float64)
    if depth.shape == (height, width):
        return depth
    with np.errstate(divide="ignore"):
        values = 1 / depth if resize == "disparity" else depth
        values = np.asarray(cv2.resize(values, (width, height), interpolation=_FILTERS[filter]), np.float64)
        return 1 / values if resize == "disparity" else values


def frame_errors(predicted: AnyArray, truth: AnyArray, protocol: DepthProtocol) -> FrameErrors:
    """Of one image: predicted (h, w) of any size and unit, truth (H, W); unknown is NaN, 0 or negative in both."""
    truth = np.asarray(truth, np.float64)
    height, width = truth.shape
    predicted = resized(predicted, height, width, protocol.resize, protocol.filter)
    if protocol.clip == "before":
        predicted = np.where(predicted > 0, np.clip(predicted, protocol.min_depth, protocol.max_depth), np.nan)
    with np.errstate(invalid="ignore"):
        valid = (truth > protocol.min_depth) & (truth < protocol.max_depth)
        valid &= crop_mask(protocol.crop, height, width)
        both = valid & np.isfinite(predicted) & (predicted > 0)
    known = float(both.sum() / valid.sum()) if valid.any() else float("nan")
    p, t = predicted[both], truth[both]
    scale = _scale(p, t, protocol)
    if not np.isfinite(scale):
        return FrameErrors(ErrorSums(), float("nan"), known)
    p = p * scale
    if protocol.clip == "after":
        p = np.clip(p, protocol.min_depth, protocol.max_depth)
    return FrameErrors(ErrorSums.of(p, t), scale, known)


def _scale(predicted: Float64, truth: Float64, protocol: DepthProtocol) -> float:
    """What the prediction's pixels (P,) are multiplied by; NaN where there are none."""
    if protocol.scaling == "none":
        return 1.0
    if protocol.scale_to > 0:
        near = (truth > protocol.scale_from) & (truth < protocol.scale_to)
        predicted, truth = predicted[near], truth[near]
    if len(truth) == 0:
        return float("nan")
    if protocol.scaling == "medians":
        return float(np.median(truth) / np.median(predicted))
    return float(np.median(truth / predicted))


def summarize(frames: Sequence[FrameErrors], protocol: DepthProtocol) -> dict[str, float]:
    """The measures of all images by a protocol (:meth:`ErrorSums.metrics`), and beside them:

    known, the share of true pixels that are predicted (mean over the images); scale, the median of the factors, and
    scale_spread, their standard deviation as a share of it: large where the size drifts from image to image; frames,
    how many count, and frames_left_out, in which nothing could be compared. All NaN where that is every one.
    """
    used = [frame for frame in frames if frame.counts]
    each = [frame.sums.metrics() for frame in used]
    names = ErrorSums().metrics()
    found = {name: float(np.mean([values[name] for values in each])) if each else float("nan") for name in names}
    if protocol.average == "pixels":
        sc_inv = found["sc_inv"]
        found = sum((frame.sums for frame in used), ErrorSums()).metrics() | {"sc_inv": sc_inv}
    scales = np.array([frame.scale for frame in used])
    shares = [frame.known for frame in frames if np.isfinite(frame.known)]
    scale = float(np.median(scales)) if used else float("nan")
    return {
        **found,
        "known": float(np.mean(shares)) if shares else float("nan"),
        "scale": scale,
        "scale_spread": float(np.std(scales / scale)) if used else float("nan"),
        "frames": len(used),
        "frames_left_out": len(frames) - len(used),
    }


def depth_metrics(
    predicted: Iterable[AnyArray], truth: Iterable[AnyArray], protocol: DepthProtocol = DepthProtocol()
) -> dict[str, float]:
    """The measures of images, one after the other (:func:`summarize`).

    Args:
        predicted: N images (h, w), of any size, unknown NaN: an array (N, h, w), a list, a generator.
        truth: as many, (H, W), in metres or, with scaling, any unit. ValueError where the numbers differ.
    """
    pairs = zip(predicted, truth, strict=True)
    return summarize([frame_errors(p, t, protocol) for p, t in pairs], protocol)

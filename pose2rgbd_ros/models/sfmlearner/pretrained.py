"""The layers of the best known PyTorch port of SfMLearner (SfmLearner-Pytorch, MIT), two files: DispNetS, PoseExpNet.

Its explainability masks are of one channel a source and its transposed convolutions there of 4 x 4 pixels: they have no
place in the paper's network. Depth and motion are the same to the last parameter.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

MOTION = "pose_pred.weight"  # tells PoseExpNet from DispNetS, whose layers have the same names
LEVELS, SCALES, SHARED = 7, 4, 5


def architecture(model: str, width: float, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Of the network whose weights these are: how many sources it has is seen from its motions."""
    known = {"frames": 1 + len(tensors[MOTION]) // 6} if MOTION in tensors else {}
    return {"network": "sfmlearner", "width": width, **known}


def ours(tensors: dict[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """Their name -> ours, and the tensor."""
    renamed = _motion if MOTION in tensors else _disparity
    found = {name: renamed(name) for name in tensors}
    return {name: (known, tensors[name]) for name, known in found.items() if known is not None}


def _disparity(name: str) -> str | None:
    if match := re.fullmatch(r"conv(\d)\.([02])\.(weight|bias)", name):
        return f"disparity.down.{int(match[1]) - 1}.{int(match[2]) // 2}.0.{match[3]}"
    if match := re.fullmatch(r"upconv(\d)\.0\.(weight|bias)", name):
        return f"disparity.up.{LEVELS - int(match[1])}.conv.{match[2]}"
    if match := re.fullmatch(r"iconv(\d)\.0\.(weight|bias)", name):
        return f"disparity.join.{LEVELS - int(match[1])}.0.{match[2]}"
    if match := re.fullmatch(r"predict_disp(\d)\.0\.(weight|bias)", name):
        return f"disparity.show.{SCALES - int(match[1])}.{match[2]}"
    return None


def _motion(name: str) -> str | None:
    if match := re.fullmatch(r"conv(\d)\.0\.(weight|bias)", name):
        level = int(match[1]) - 1
        return f"motion.{f'shared.{level}' if level < SHARED else f'motion.{level - SHARED}'}.0.{match[2]}"
    if match := re.fullmatch(r"pose_pred\.(weight|bias)", name):
        return f"motion.motion.2.{match[1]}"
    return None

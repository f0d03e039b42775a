"""The layers of the published weights of TrianFlow (MIT): of stage 1 (flow), of stages 2 and 3, of PoseNet-Flow.

They were trained on images in the order blue, green, red, which the first convolutions are turned to here; their
context network is given flow before features, ours after.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

CONTEXT = "flow.context.0.0.weight"
FIRST = ("flow.pyramid.0.0.0.weight", "depth_network.encoder.start.0.weight")
TOP, MOTION = 6, 7  # levels of the pyramid; strided convolutions of the PoseNet


def architecture(model: str, width: float, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Of the network whose weights these are."""
    if model == "trianflow":
        return {"network": "trianflow", "width": width}
    return {"network": "posenet-video", "width": width, "sees": "flow" if model == "posenet-flow" else "images"}


def ours(tensors: dict[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """Their name -> ours, and the tensor as ours has it."""
    found = {}
    for name, tensor in tensors.items():
        if (known := _renamed(name)) is not None:
            found[name] = known, _turned(known, tensor)
    return found


def _turned(name: str, tensor: Tensor) -> Tensor:
    if name in FIRST:
        return tensor.flip(1)
    if name == CONTEXT:
        return torch.cat([tensor[:, 2:], tensor[:, :2]], dim=1)
    return tensor


def _renamed(name: str) -> str | None:
    name = name.removeprefix("model_pose.").removeprefix("model_flow.")
    if match := re.fullmatch(r"fpyramid\.conv(\d+)\.0\.(.+)", name):
        level, second = divmod(int(match[1]) - 1, 2)
        return f"flow.pyramid.{level}.{second}.0.{match[2]}"
    if match := re.fullmatch(r"pwc_model\.conv(\d)_(\d)\.0\.(.+)", name):
        return f"flow.decoder.estimators.{TOP - int(match[1])}.convs.{match[2]}.0.{match[3]}"
    if match := re.fullmatch(r"pwc_model\.predict_flow(\d)\.(.+)", name):
        return f"flow.decoder.estimators.{TOP - int(match[1])}.flow.{match[2]}"
    if match := re.fullmatch(r"pwc_model\.dc_conv(\d)(\.0)?\.(\D+)", name):
        return f"flow.context.{int(match[1]) - 1}{match[2] or ''}.{match[3]}"
    if match := re.fullmatch(r"depth_net\.encoder\.encoder\.(conv|bn)1\.(.+)", name):
        return f"depth_network.encoder.start.{0 if match[1] == 'conv' else 1}.{match[2]}"
    if match := re.fullmatch(r"depth_net\.encoder\.encoder\.layer(\d)\.(\d)\.(\w+)\.(.+)", name):
        part = match[3].replace("bn", "norm").replace("downsample", "shortcut")
        return f"depth_network.encoder.stages.{int(match[1]) - 1}.{int(match[2]) + 1}.{part}.{match[4]}"
    if match := re.fullmatch(r"depth_net\.decoder\.upconvs\.(\d)\.([01])\.conv\.conv\.(.+)", name):
        return f"depth_network.decoder.{'merge' if match[2] == '1' else 'reduce'}.{match[1]}.{match[3]}"
    if match := re.fullmatch(r"depth_net\.decoder\.dispconvs\.0\.conv\.(.+)", name):
        return f"depth_network.decoder.disparity.{match[1]}"
    if match := re.fullmatch(r"pose_net\.conv(\d)\.0\.(.+)", name):
        return f"pose_network.{2 * (int(match[1]) - 1)}.{match[2]}"
    if match := re.fullmatch(r"pose_net\.pose_pred\.(.+)", name):
        return f"pose_network.{2 * MOTION}.{match[1]}"
    return None

"""Can a model be rendered for a camera, and what is to be known of its pictures?"""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera, resample_map

MAX_PIXELS = 2**25  # 32 MPx: three images of it are 0.4 GB
TOLD_FINER = 3.0  # pixels so many times finer than the training's are told
TOLD_OUTSIDE = 0.005
_LOOKED_AT = 64  # a side of the image that stands in for the camera's


def judge_camera(camera: Camera, trained: Camera, any_camera: bool) -> str:
    """What to know of pictures for `camera` by a model trained with `trained`; empty: nothing.

    A model of geometry (`any_camera`) renders every calibrated camera; another one's pictures are resampled, and show
    nothing outside the trained field of view.

    Raises:
        UserError: too many pixels, one of the two is uncalibrated, or the fields of view do not meet.
    """
    if camera.width * camera.height > MAX_PIXELS:
        raise UserError(
            f"{camera.width} x {camera.height} pixels are more than the {MAX_PIXELS} that are rendered"
        )
    if camera == trained:
        return ""
    for which, asked in (
        ("the camera asked for", camera),
        ("the camera the model was trained with", trained),
    ):
        if not asked.is_calibrated:
            raise UserError(f"{which} is not calibrated (K[0] = 0), so its field of view is unknown")
    told = []
    outside = 0.0 if any_camera else 1.0 - _share_inside(camera, trained)
    if outside == 1.0:
        raise UserError(
            "the camera asked for sees nothing of the trained field of view, all this model can show"
        )
    if outside > TOLD_OUTSIDE:
        told.append(f"{outside:.0%} of the image lie outside the trained field of view and stay black")
    finer = float(np.sqrt(camera.fx * camera.fy / (trained.fx * trained.fy)))
    if finer > TOLD_FINER:
        told.append(f"its pixels are {finer:.1f} times finer than the training's, so pictures are blurred")
    return "; ".join(told)


def _share_inside(camera: Camera, trained: Camera) -> float:
    """The share of the image that the trained camera sees, looked at coarsely."""
    side = min(_LOOKED_AT, camera.width), min(_LOOKED_AT, camera.height)
    return float(np.isfinite(resample_map(trained, camera.resized(*side))[..., 0]).mean())

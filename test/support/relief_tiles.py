"""A relief of random towers cut into tiles, so that both should show the same."""

from __future__ import annotations

import numpy as np
import torch

from pose2rgbd_ros.models.relief.config import tiled
from pose2rgbd_ros.models.relief.network import Relief, TiledRelief


def cut(whole: Relief, rows: int, columns: int) -> TiledRelief:
    """Tiles with the logits and marks of `whole`; features and shaders are left as they begin. Beyond `whole` its rim
    goes on.
    """
    config = tiled(whole.config, (rows, columns))
    model = TiledRelief(config).eval()
    with torch.no_grad():
        for number, tile in enumerate(model.tiles):
            x, y = (np.array(config.corner_m(number)[:2]) / config.cell_m).round().astype(int)
            rows = torch.arange(y, y + config.rows).clamp(max=whole.config.rows - 1)
            columns = torch.arange(x, x + config.columns).clamp(max=whole.config.columns - 1)
            for own, of_whole in ((tile.volume.logits, whole.volume.logits), (tile.volume.seen, whole.volume.seen)):
                own.copy_(of_whole[:, rows][:, :, columns])
    return model

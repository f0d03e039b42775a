"""What the PoseGAN paper printed: medians of tables 1 and 2, in metres and degrees, for the scenes it names."""

from __future__ import annotations

import re

Figures = tuple[float, float]

SCENES = (
    "KingsCollege", "OldHospital", "ShopFacade", "StMarysChurch",
    "chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs",
)  # fmt: skip

# A row of the paper's table 1, the scenes in the order above.
_TABLE_1 = {
    "posegan": "1.22/4.44 1.52/4.91 0.88/4.80 1.82/5.79 "
    "0.09/4.58 0.24/9.46 0.17/13.38 0.19/8.80 0.16/6.28 0.26/8.23 0.28/10.14",
    "posegan-a": "1.97/5.20 2.27/5.17 1.53/7.41 2.67/7.89 "
    "0.21/6.23 0.39/12.30 0.27/13.21 0.35/7.11 0.33/7.16 0.49/8.59 0.46/11.22",
    "posegan-b": "1.51/6.23 1.62/5.43 1.12/5.76 1.94/6.84 "
    "0.13/5.15 0.31/10.23 0.23/14.13 0.25/9.78 0.23/7.68 0.41/9.92 0.39/11.21",
    "posegan-c": "1.34/5.10 1.55/4.92 0.97/5.12 1.90/5.99 "
    "0.11/4.15 0.29/9.19 0.19/12.10 0.23/9.23 0.20/6.68 0.33/8.72 0.34/10.21",
    "posenet-resnet": "1.92/5.40 2.31/5.38 1.46/8.08 2.65/8.48 "
    "0.32/8.12 0.47/14.4 0.29/12.0 0.48/7.68 0.47/8.42 0.59/8.64 0.47/13.8",
    "retrieval": "2.80/5.72 4.01/7.13 1.11/7.61 2.31/8.00 "
    "0.21/12.5 0.33/13.8 0.15/14.9 0.28/11.2 0.31/11.3 0.30/12.3 0.25/15.8",
    "retrieval-inter": "1.48/4.45 2.68/4.63 0.90/4.32 1.62/6.06 "
    "0.18/10.0 0.33/12.4 0.14/14.3 0.25/10.1 0.26/9.42 0.27/11.1 0.24/14.7",
    "structure": "0.42/0.55 0.44/1.01 0.12/0.40 0.19/0.54 "
    "0.04/1.96 0.03/1.53 0.02/1.45 0.09/3.61 0.08/3.10 0.07/3.37 0.03/2.22",
}  # fmt: skip
# Of table 2, on grey images. Its PoseGAN figure of Stairs repeats table 1's, perhaps by mistake.
_TABLE_2 = {
    "posegan": "8.59/14.20 7.83/25.26 3.66/13.84 10.48/8.51 "
    "0.35/12.03 0.47/25.87 0.32/10.79 0.29/11.89 0.48/28.63 0.85/21.10 0.28/10.14",
    "posenet-resnet": "9.68/16.25 14.65/30.83 5.11/17.51 23.99/25.87 "
    "0.74/16.24 0.65/20.51 0.52/16.71 0.88/12.68 0.74/20.12 1.15/29.39 0.65/18.22",
}  # fmt: skip
# Whose rows these are, where the paper's name is another than ours.
NAMES = {
    "posenet-resnet": "PoseNet",
    "retrieval": "DenseVLAD",
    "retrieval-inter": "DenseVLAD + Inter",
    "structure": "Active Search",
}


def scene_of(names: list[str]) -> str | None:
    """The paper's scene that a dataset's folder or sources are called after; None for another place."""
    words = [re.findall(r"[a-z0-9]+", name.lower()) for name in names]
    joined = {
        "".join(parts[a:b])
        for parts in words
        for a in range(len(parts))
        for b in range(a + 1, len(parts) + 1)
    }
    return next((scene for scene in SCENES if scene.lower() in joined), None)


def printed(method: str, scene: str | None, grey: bool = False) -> Figures | None:
    """(m, deg) as the paper prints a method in a scene; None where it prints none."""
    row = (_TABLE_2 if grey else _TABLE_1).get(method)
    if row is None or scene is None:
        return None
    metres, degrees = row.split()[SCENES.index(scene)].split("/")
    return float(metres), float(degrees)

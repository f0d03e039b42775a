"""Splats as a .ply file in the layout of Kerbl et al., which viewers and trainers of splats share.

A vertex a splat: x y z, f_dc_* and f_rest_* (spherical harmonics; all of red, then of green, then of blue), opacity
(its logit), scale_* (logarithms), rot_* (quaternion w x y z).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.models.gsplat.config import GsplatConfig
from pose2rgbd_ros.models.gsplat.network import SH_C0, GsplatModel

_TYPES = {"float": "<f4", "float32": "<f4", "double": "<f8", "uchar": "u1", "uint8": "u1"}
_DEGREES = {0: 0, 9: 1, 24: 2, 45: 3}  # by the number of f_rest_*
_LONGEST_HEADER = 100_000  # bytes


def write_ply(path: Path, model: GsplatModel) -> None:
    """The splats in the layout of Kerbl et al., which other viewers read; positions are relative to the model's origin.

    Raises UserError: the file cannot be written.
    """
    state = {name: value.detach().cpu().float().numpy() for name, value in model.state_dict().items()}
    count = model.config.splats
    columns: dict[str, np.ndarray] = dict(zip("xyz", state["means"].T, strict=True))
    columns |= dict.fromkeys(("nx", "ny", "nz"), np.zeros(count, np.float32))
    columns |= {f"f_dc_{i}": state["sh_0"][:, 0, i] for i in range(3)}
    rest = state["sh_rest"].transpose(0, 2, 1).reshape(count, -1)  # all of red, then of green, then of blue
    columns |= {f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])}
    columns["opacity"] = state["opacity_logits"]
    columns |= {f"scale_{i}": state["log_scales"][:, i] for i in range(3)}
    columns |= {f"rot_{i}": state["quats"][:, i] for i in range(4)}
    vertices = np.empty(count, dtype=[(name, "<f4") for name in columns])
    for name, values in columns.items():
        vertices[name] = values
    origin = " ".join(f"{value:.6f}" for value in model.origin_m.tolist())
    header = ["ply", "format binary_little_endian 1.0", f"comment origin_m {origin}", f"element vertex {count}"]
    header += [f"property float {name}" for name in columns] + ["end_header", ""]
    with os_errors(f"cannot write {path}"):
        path.write_bytes("\n".join(header).encode() + vertices.tobytes())


def read_ply(path: Path) -> GsplatModel:
    """The splats of a file, with the mean of their colours behind them; those with a NaN are left out.

    Positions are relative to the comment `origin_m X Y Z`, where there is one, else to the map.

    Raises:
        UserError: no file of splats, one of text or of big-endian numbers, or cut off.
    """
    with os_errors(f"{path} cannot be read"):
        data = path.read_bytes()
    head, ends, _ = data[:_LONGEST_HEADER].partition(b"end_header\n")
    lines = head.decode("ascii", "replace").splitlines()
    if not ends or lines[0] != "ply":
        raise UserError(f"{path} is no PLY file")
    if "format binary_little_endian 1.0" not in lines:
        raise UserError(f"{path}: of PLY only binary_little_endian is read")
    words = [line.split() for line in lines]
    try:
        count = next(int(word[2]) for word in words if word[:2] == ["element", "vertex"])
        fields = [(word[2], _TYPES[word[1]]) for word in words if word[0] == "property"]
        vertices = np.frombuffer(data, np.dtype(fields), count, len(head) + len(ends))
    except (StopIteration, KeyError, IndexError, ValueError) as error:
        raise UserError(f"{path} is no whole file of splats ({error})") from error
    rest = [name for name, _ in fields if name.startswith("f_rest_")]
    if len(rest) not in _DEGREES:
        raise UserError(f"{path} has {len(rest)} properties f_rest_*; splats have {', '.join(map(str, _DEGREES))}")
    names = [*"xyz", *_numbered("f_dc_", 3), *_numbered("f_rest_", len(rest)), "opacity", *_numbered("scale_", 3)]
    names += _numbered("rot_", 4)
    missing = [name for name in names if name not in dict(fields)]
    if missing:
        raise UserError(f"{path} has no property {missing[0]}; is it a file of splats?")
    table = np.stack([vertices[name].astype(np.float32) for name in names], axis=1)
    table = table[np.isfinite(table).all(axis=1)]
    if len(table) == 0:
        raise UserError(f"{path} holds no splats")
    return _model(table, _DEGREES[len(rest)], _origin(words))


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}{i}" for i in range(count)]


def _origin(words: list[list[str]]) -> tuple[float, ...]:
    said = next((word[2:5] for word in words if word[:2] == ["comment", "origin_m"]), ["0", "0", "0"])
    return tuple(map(float, said))


def _model(table: np.ndarray, degree: int, origin_m: tuple[float, ...]) -> GsplatModel:
    count, more = len(table), (degree + 1) ** 2 - 1
    model = GsplatModel(GsplatConfig(splats=count, sh_degree=degree))
    means, dc, rest, opacity, scales, quats = np.split(table, np.cumsum([3, 3, 3 * more, 1, 3]), axis=1)
    state = {
        "origin_m": np.array(origin_m),
        "means": means,
        "quats": quats,
        "log_scales": scales,
        "opacity_logits": opacity[:, 0],
        "sh_0": dc[:, None],
        "sh_rest": rest.reshape(count, 3, more).transpose(0, 2, 1),
        "background": np.clip(0.5 + SH_C0 * dc.mean(axis=0), 0, 1),
    }
    model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()})
    return model.eval()

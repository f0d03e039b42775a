"""What figures were made on, in words: a table without it is worth little."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def machine(device: str) -> str:
    """The processor, or the GPU where device is cuda."""
    if device != "cuda":
        return processor()
    import torch

    return str(torch.cuda.get_device_name())

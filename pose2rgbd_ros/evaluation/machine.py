"""What figures were made on, in words: a table without it is worth little."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def processor() -> str:
    """The processor's name, or its maker, family and vector units, or its architecture where no more is named."""
    fields = _cpuinfo()
    name = fields.get("model name", "")
    if name and name != "unknown":
        return name
    if "vendor_id" in fields:  # in a virtual machine that hides the name
        wide = [flag for flag in ("avx2", "avx512f", "amx_tile") if flag in fields.get("flags", "").split()]
        return f"{fields['vendor_id']} family {fields.get('cpu family')} model {fields.get('model')} ({' '.join(wide)})"
    return platform.processor() or platform.machine()


def vector_units() -> str:
    """What a processor adds and multiplies with, "AVX-512, AMX": it decides a network's speed, and names hide it."""
    flags = _cpuinfo().get("flags", "").split()
    units = {"avx512f": "AVX-512", "amx_tile": "AMX"}
    found = [name for flag, name in units.items() if flag in flags]
    return ", ".join(found or ["AVX2" if "avx2" in flags else platform.machine()])


def _cpuinfo() -> dict[str, str]:
    """Linux's own words about the first core; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    for line in info.read_text().splitlines() if info.exists() else []:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def described() -> str:
    """Cores, processor and what else it is doing, for the head of a table: to be asked for before measuring."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return f"{cores} cores of {processor()}, load before {os.getloadavg()[0]:.1f}"


def machine(device: str) -> str:
    """The processor, or the GPU where device is cuda."""
    if device != "cuda":
        return processor()
    import torch

    return str(torch.cuda.get_device_name())

"""The tree of frames as text, in the form of tf2's all_frames_as_yaml and all_frames_as_string."""

from __future__ import annotations

from collections.abc import Mapping

from tf2_py._caches import StaticCache, TimeCache, seconds

Caches = Mapping[str, "TimeCache | StaticCache | None"]


def as_lines(caches: Caches) -> str:
    """One line per frame that has, or had before a clear, a parent."""
    return "".join(
        f"Frame {frame} exists with parent {cache.latest()[1] or 'NO_PARENT'}.\n"
        for frame, cache in caches.items()
        if cache is not None
    )


def as_yaml(caches: Caches, authorities: Mapping[str, str]) -> str:
    """A YAML mapping from frame to what is known of it; `[]` when nothing is."""
    if not caches:
        return "[]"
    return "".join(
        _entry(frame, cache, authorities.get(frame, "no recorded authority"))
        for frame, cache in caches.items()
        if cache is not None and cache.latest()[1] is not None
    )


def _entry(frame: str, cache: TimeCache | StaticCache, authority: str) -> str:
    oldest_ns, newest_ns, count = cache.stamps_ns()
    rate_hz = count * 1e9 / max(newest_ns - oldest_ns, 100_000)  # 100 us: no rate from one sample
    return (
        f"{frame}: \n"
        f"  parent: '{cache.latest()[1]}'\n"
        f"  broadcaster: '{authority}'\n"
        f"  rate: {rate_hz:.3f}\n"
        f"  most_recent_transform: {seconds(newest_ns)}\n"
        f"  oldest_transform: {seconds(oldest_ns)}\n"
        f"  buffer_length: {(newest_ns - oldest_ns) * 1e-9:.3f}\n"
    )

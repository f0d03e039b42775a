"""Rays through a block of occupancy logits: where each first enters something solid. The reference, on any device.

Positions are in grid units: logits[k, j, i] belongs to the point (x, y, z) = (i, j, k), so the block reaches from 0 to
(X - 1, Y - 1, L - 1). A ray is origin + t * direction. The block is empty where the logits are <= 0 and solid where
they are > 0, linear in between; below z = 0 all is solid for ever, in all directions, and elsewhere outside all is
empty.

A ray is sampled where it meets the grid planes of its dominant axis, the one along which it passes most planes, so a
sample is bilinear in the other two axes. Before them comes the origin itself if it lies in the block, after them the
point where the ray meets the floor z = 0. The surface is the first change from empty to solid, placed linearly between
the two samples (relief mapping, after Policarpo et al. 2005). :mod:`kernels` computes the same with early exit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pose2rgbd_ros.models.relief.config import FLOOR, HIT, INSIDE, SKY, TOLERANCE

_BLOCK = 4  # planes between two looks at which rays go on: on a GPU each look makes the host wait


class Hits(NamedTuple):
    """What N rays meet.

    t: (N,) float32, NaN for SKY and INSIDE. state: (N,) uint8.
    t_before, t_after: (N,) the samples between which a HIT lies, the same where the first sample of a ray from outside
    is solid already; both t of the floor for FLOOR, NaN else. logit_before <= 0 < logit_after: theirs, 0 if not HIT.
    """

    t: Tensor
    state: Tensor
    t_before: Tensor
    t_after: Tensor
    logit_before: Tensor
    logit_after: Tensor


class Planes(NamedTuple):
    """The planes at which N rays are sampled: plane j = 0 .. total - 1 is met at t_first + j * dt.

    t_first, dt: (N,) float32. axis: (N,) 0, 1, 2, the dominant one. first, step: (N,) its plane numbers; step is 1
    or -1. total: (N,). from_inside: (N,) whether the origin lies in the block.
    t_floor: (N,) where the ray meets z = 0, inf if it does not. floor_inside: (N,) whether that is within the block.
    """

    t_first: Tensor
    dt: Tensor
    axis: Tensor
    first: Tensor
    step: Tensor
    total: Tensor
    from_inside: Tensor
    t_floor: Tensor
    floor_inside: Tensor


def find_planes(shape: tuple[int, ...], origin: Tensor, direction: Tensor) -> Planes:
    """Sampled planes of rays, origin and direction (N, 3) float32, through a block of `shape` (L, Y, X)."""
    last = torch.tensor([shape[2] - 1, shape[1] - 1, shape[0] - 1], dtype=torch.float32, device=origin.device)
    still = direction == 0
    inverse = 1 / torch.where(still, 1.0, direction)
    near, far = (0 - origin) * inverse, (last - origin) * inverse
    near, far = torch.minimum(near, far), torch.maximum(near, far)
    within = (origin >= 0) & (origin <= last)
    near = torch.where(still, torch.where(within, -torch.inf, torch.inf), near)
    far = torch.where(still, torch.inf, far)
    entry, leave = near.amax(1).clamp(min=0.0), far.amin(1)

    axis = direction.abs().argmax(1)
    o, d, n = (values.gather(1, axis[:, None])[:, 0] for values in (origin, direction, last.expand_as(origin)))
    up = d > 0
    slack = torch.where(entry > 0, TOLERANCE, 0.0)
    at_entry, at_exit = o + entry * d, o + leave * d
    first = torch.where(up, (at_entry - slack).ceil(), (at_entry + slack).floor())
    final = torch.where(up, (at_exit + TOLERANCE).floor(), (at_exit - TOLERANCE).ceil())
    lowest = ((axis == 2) & ~up).float()  # plane 0 of a falling ray is the floor, which has a sample of its own
    first = first.clamp(min=0.0).minimum(n)
    final = final.maximum(lowest).minimum(n)
    step = torch.where(up, 1, -1)
    count = ((final - first) * step + 1).nan_to_num(0.0).clamp(min=0.0)
    count = torch.where((entry <= leave) & torch.isfinite(d), count, 0.0)

    falling = (direction[:, 2] < 0) & (origin[:, 2] > 0) & torch.isfinite(direction).all(1)
    t_floor = torch.where(falling, (0 - origin[:, 2]) * inverse[:, 2], torch.inf)
    on_floor = origin[:, :2] + torch.where(falling, t_floor, 0.0)[:, None] * direction[:, :2]
    floor_inside = falling & ((on_floor >= 0) & (on_floor <= last[:2])).all(1)
    dt = inverse.gather(1, axis[:, None])[:, 0]
    t_first, first = ((first - o) * dt).clamp(min=0.0), first.nan_to_num(0.0).long()
    return Planes(t_first, dt.abs(), axis, first, step, count.long(), within.all(1), t_floor, floor_inside)


def sample(logits: Tensor, position: Tensor) -> Tensor:
    """Trilinear logits (N,) at positions (N, 3), clamped to the block; differentiable in both.

    At a plane of the grid it is bilinear, as a ray's samples are.
    """
    last = torch.tensor(logits.shape[::-1], device=position.device) - 1
    low = position.detach().floor().long().clamp(min=torch.zeros_like(last), max=last - 1)
    u, v, w = (position - low).clamp(0.0, 1.0).unbind(1)
    columns, layers = logits.shape[2], logits.shape[1] * logits.shape[2]
    base = (low[:, 2] * layers) + low[:, 1] * columns + low[:, 0]
    flat = logits.reshape(-1)

    def along_x(index: Tensor) -> Tensor:
        first, second = flat[index], flat[index + 1]
        return first + (second - first) * u

    def along_y(index: Tensor) -> Tensor:
        first, second = along_x(index), along_x(index + columns)
        return first + (second - first) * v

    first, second = along_y(base), along_y(base + layers)
    return first + (second - first) * w


def sample_plane(logits: Tensor, position: Tensor, axis: Tensor) -> Tensor:
    """Bilinear logits (N,) at positions (N, 3) whose coordinate along `axis` (N,) is a whole number. As `sample`."""
    last = torch.tensor(logits.shape[::-1], device=position.device) - 1
    strides = torch.tensor([1, logits.shape[2], logits.shape[1] * logits.shape[2]], device=position.device)
    across = torch.tensor([[1, 2], [0, 2], [0, 1]], device=position.device)[axis]
    plane = position.detach().gather(1, axis[:, None])[:, 0].round().long()
    plane = plane.clamp(min=0).minimum(last[axis])
    uv = position.gather(1, across)
    low = uv.detach().floor().long()
    low = low.clamp(min=torch.zeros_like(low), max=last[across] - 1)
    u, v = (uv - low).clamp(0.0, 1.0).unbind(1)
    to_u, to_v = strides[across].unbind(1)
    base = plane * strides[axis] + low[:, 0] * to_u + low[:, 1] * to_v
    flat = logits.reshape(-1)
    first = flat[base] + (flat[base + to_u] - flat[base]) * u
    base = base + to_v
    second = flat[base] + (flat[base + to_u] - flat[base]) * u
    return first + (second - first) * v


@torch.no_grad()
def march(logits: Tensor, origin: Tensor, direction: Tensor) -> Hits:
    """What rays meet in `logits` (L, Y, X), each side at least 2; origin and direction (N, 3) float32, same device."""
    planes = find_planes(logits.shape, origin, direction)
    at_origin = torch.where(planes.from_inside, sample(logits, origin.nan_to_num(0.0)), -1.0)
    inside = ((origin[:, 2] <= 0) | (at_origin > 0)) & torch.isfinite(direction).all(1)
    hit = torch.zeros_like(inside)
    # The last sample that was empty and the first that is solid; NaN until there is one.
    t_before = torch.where(planes.from_inside, 0.0, torch.nan)
    t_after = torch.full_like(t_before, torch.nan)
    logit_before, logit_after = at_origin, torch.zeros_like(at_origin)

    done, active = 0, torch.nonzero((planes.total > 0) & ~inside)[:, 0]
    while len(active):
        before, after = (t_before[active], logit_before[active]), (t_after[active], logit_after[active])
        met, total, axis = (torch.zeros_like(active, dtype=torch.bool), planes.total[active], planes.axis[active])
        for j in range(done, done + _BLOCK):
            t, position = _plane_points(planes, origin, direction, active, j)
            logit = sample_plane(logits, position, axis)
            going = (total > j) & ~met
            solid, empty = going & (logit > 0), going & (logit <= 0)
            before = torch.where(empty, t, before[0]), torch.where(empty, logit, before[1])
            after = torch.where(solid, t, after[0]), torch.where(solid, logit, after[1])
            met |= solid
        (t_before[active], logit_before[active]), hit[active] = before, met
        t_after[active], logit_after[active] = after
        done += _BLOCK
        active = active[(total > done) & ~met]

    # The floor's own sample: reached by what was not stopped, solid or not.
    floor = ~hit & ~inside & torch.isfinite(planes.t_floor)
    at_floor = torch.nonzero(floor & planes.floor_inside & ~t_before.isnan())[:, 0]
    point = origin[at_floor] + planes.t_floor[at_floor, None] * direction[at_floor]
    point[:, 2] = 0.0
    logit = sample_plane(logits, point, torch.full_like(at_floor, 2))
    above = at_floor[logit > 0]
    hit[above], t_after[above], logit_after[above] = True, planes.t_floor[above], logit[logit > 0]
    floor &= ~hit
    return _hits(planes.t_floor, hit, floor, inside, t_before, t_after, logit_before, logit_after)


def refine(t_before: Tensor, t_after: Tensor, logit_before: Tensor, logit_after: Tensor) -> Tensor:
    """Where the line through two samples, the first <= 0 and the second > 0, is zero; differentiable."""
    return t_before + (t_after - t_before) * (logit_before / (logit_before - logit_after))


def _plane_points(planes: Planes, origin: Tensor, direction: Tensor, rays: Tensor, j: int) -> tuple[Tensor, Tensor]:
    """t (n,) and position (n, 3) of plane j of some rays."""
    t_first, dt, axis = planes.t_first[rays], planes.dt[rays], planes.axis[rays, None]
    number = (planes.first[rays] + j * planes.step[rays]).float()
    d = direction[rays]
    position = (origin[rays] + t_first[:, None] * d) + j * (d * dt[:, None])
    return t_first + j * dt, position.scatter(1, axis, number[:, None])


def _hits(
    t_floor: Tensor,
    hit: Tensor,
    floor: Tensor,
    inside: Tensor,
    t_before: Tensor,
    t_after: Tensor,
    logit_before: Tensor,
    logit_after: Tensor,
) -> Hits:
    lone = hit & t_before.isnan()  # entered the block where it is solid: the surface is the first sample
    before = torch.where(lone, t_after, t_before)
    t = torch.where(lone, t_after, refine(before, t_after, logit_before, logit_after))
    nothing, zero = torch.full_like(t, torch.nan), torch.zeros_like(t)
    t, before, after = (
        torch.where(hit, at_hit, torch.where(floor, t_floor, nothing)) for at_hit in (t, before, t_after)
    )
    state = torch.full_like(hit, SKY, dtype=torch.uint8)
    for number, which in ((HIT, hit), (FLOOR, floor), (INSIDE, inside)):
        state[which] = number
    return Hits(
        t, state, before, after, torch.where(hit & ~lone, logit_before, zero), torch.where(hit, logit_after, zero)
    )

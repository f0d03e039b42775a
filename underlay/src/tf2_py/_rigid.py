"""Rigid transforms as flat tuples (tx, ty, tz, qx, qy, qz, qw), in metres and unit quaternions.

Plain floats, not scipy: a lookup along three edges must stay far below 100 us and takes about 20; one scipy Slerp
alone takes 90. test/underlay compares the results with scipy's.
"""

from __future__ import annotations

from math import acos, sin, sqrt

Rigid = tuple[float, float, float, float, float, float, float]

IDENTITY: Rigid = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def compose(a: Rigid, b: Rigid) -> Rigid:
    """`a` after `b`: T_a_b then T_b_c gives T_a_c."""
    ax, ay, az, qx, qy, qz, qw = a
    bx, by, bz, px, py, pz, pw = b
    # v + 2 q x (q x v + w v) rotates v without building a matrix
    ux, uy, uz = qy * bz - qz * by + qw * bx, qz * bx - qx * bz + qw * by, qx * by - qy * bx + qw * bz
    return (
        ax + bx + 2.0 * (qy * uz - qz * uy),
        ay + by + 2.0 * (qz * ux - qx * uz),
        az + bz + 2.0 * (qx * uy - qy * ux),
        qw * px + qx * pw + qy * pz - qz * py,
        qw * py - qx * pz + qy * pw + qz * px,
        qw * pz + qx * py - qy * px + qz * pw,
        qw * pw - qx * px - qy * py - qz * pz,
    )


def inverse(a: Rigid) -> Rigid:
    """The transform that undoes `a`."""
    ax, ay, az, qx, qy, qz, qw = a
    return compose((0.0, 0.0, 0.0, -qx, -qy, -qz, qw), (-ax, -ay, -az, 0.0, 0.0, 0.0, 1.0))


def interpolate(a: Rigid, b: Rigid, u: float) -> Rigid:
    """Straight line in position and the shorter great arc in rotation, from `a` (u = 0) to `b` (u = 1)."""
    ax, ay, az, qx, qy, qz, qw = a
    bx, by, bz, px, py, pz, pw = b
    v = 1.0 - u
    cosine = qx * px + qy * py + qz * pz + qw * pw
    angle = acos(min(abs(cosine), 1.0))
    if angle > 1e-9:
        k = 1.0 / sin(angle)
        wa, wb = sin(v * angle) * k, sin(u * angle) * k
    else:
        wa, wb = v, u
    if cosine < 0.0:
        wb = -wb
    return (
        v * ax + u * bx,
        v * ay + u * by,
        v * az + u * bz,
        wa * qx + wb * px,
        wa * qy + wb * py,
        wa * qz + wb * pz,
        wa * qw + wb * pw,
    )


def canonical(a: Rigid) -> Rigid:
    """The same transform with a unit quaternion of the sign tf2 gives it.

    tf2 keeps rotations as matrices and reads them back (Shepperd's method): w is positive when it is above 1/2,
    else the largest of x, y, z is. NaN where the quaternion is zero.
    """
    ax, ay, az, qx, qy, qz, qw = a
    length = sqrt(qx * qx + qy * qy + qz * qz + qw * qw)
    if length == 0.0:
        nan = float("nan")
        return (ax, ay, az, nan, nan, nan, nan)
    leading = qw if 4.0 * qw * qw > length * length else max(qx, qy, qz, key=abs)
    k = 1.0 / length if leading > 0.0 else -1.0 / length
    return (ax, ay, az, qx * k, qy * k, qz * k, qw * k)

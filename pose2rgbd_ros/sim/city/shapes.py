"""Small things modelled once and set down many times: cars, people, trees."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.sim.city.builder import MeshBuilder, flat_normals
from pose2rgbd_ros.sim.city.textures import TextureArray


@dataclass
class Shape:
    """Faces in a frame of their own: x forward, y left, z up, origin on the ground below the middle.

    Each part: faces (F, K, 3), uv (F, K, 2), layers (F,), colours (F, K, 3) as shares of the tint of the instance where
    `tinted`, and vertex normals (F, K, 3).
    """

    parts: list[tuple[Float64, Float64, AnyArray, Float64, bool, Float64]] = field(default_factory=list)

    def add(
        self,
        faces: Float64,
        uv: npt.ArrayLike,
        layer: npt.ArrayLike,
        colour: npt.ArrayLike = 1.0,
        tinted: bool = True,
        normals: Float64 | None = None,
    ) -> None:
        """Add faces; flat normals when none are given."""  # fmt: skip
        count, sides = faces.shape[:2]
        if normals is None:
            normals = np.repeat(flat_normals(faces)[:, None], sides, axis=1)
        self.parts.append(
            (
                faces,
                np.broadcast_to(np.asarray(uv, float), (count, sides, 2)),
                np.broadcast_to(layer, count),
                np.broadcast_to(np.asarray(colour, float), (count, sides, 3)),
                tinted,
                normals,
            )
        )

    def place(self, builder: MeshBuilder, T: Float64, tint: Float64) -> None:
        """Set down one instance for each affine transform (N, 4, 4), in the colours (N, 3)."""
        if not len(T):
            return
        linear, shift = T[:, :3, :3], T[:, :3, 3]
        turned = np.linalg.inv(linear).transpose(0, 2, 1)
        for faces, uv, layer, colour, tinted, normals in self.parts:
            count, sides = faces.shape[:2]
            at = np.einsum("nij,fkj->nfki", linear, faces) + shift[:, None, None]
            normal = np.einsum("nij,fkj->nfki", turned, normals)
            normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
            flat = flat_normals(at.reshape(-1, sides, 3)).reshape(len(T), count, 1, 3)
            # Stretching may turn a round normal away from its face; there the flat one is kept.
            normal = np.where((normal * flat).sum(axis=-1, keepdims=True) > 0.1, normal, flat)
            colours = colour * (tint[:, None, None] if tinted else np.full((len(T), 1, 1, 1), 255.0))
            total = len(T) * count
            builder.add(
                at.reshape(total, sides, 3),
                np.tile(uv, (len(T), 1, 1)),
                np.tile(layer, len(T)),
                colours.reshape(total, sides, 3),
                normal.reshape(total, sides, 3),
            )


_SIDES = ((0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7))  # and the lid; no floor


def frustum(
    low: tuple[float, float, float, float], foot: float, high: tuple[float, float, float, float], top: float
) -> Float64:
    """Five faces (5, 4, 3) of a box whose lid differs from its floor: right, front, left, back, lid. Sides x0, y0, x1, y1."""
    corners = [
        (rect[i], rect[j], z)
        for rect, z in ((low, foot), (high, top))
        for i, j in ((0, 1), (2, 1), (2, 3), (0, 3))
    ]
    return np.array(corners, float)[np.array(_SIDES)]


UNIT_UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
CAR_TINTS = np.array(
    [(238, 238, 236), (196, 200, 204), (120, 124, 130), (44, 46, 50), (28, 30, 34), (150, 34, 36), (44, 72, 120),
     (226, 226, 220), (90, 98, 88), (178, 164, 138), (64, 96, 110), (206, 210, 212)], float
)  # fmt: skip

COAT_TINTS = np.array(
    [(38, 40, 48), (62, 70, 92), (120, 40, 44), (196, 186, 168), (88, 98, 76), (150, 120, 84), (210, 210, 206),
     (70, 110, 140), (190, 150, 60), (110, 84, 100)], float
)  # fmt: skip


def car(textures: TextureArray, van: bool = False) -> Shape:
    """A car of 4.4 m, or a van of 5.0 m."""
    shape = Shape()
    if van:
        body = frustum((-2.5, -0.92, 2.5, 0.92), -0.05, (-2.48, -0.9, 2.35, 0.9), 1.05)
        cabin = frustum((-2.42, -0.84, 2.05, 0.84), 1.00, (-2.36, -0.78, 1.35, 0.78), 2.05)
    else:
        body = frustum((-2.2, -0.88, 2.2, 0.88), -0.05, (-2.12, -0.86, 2.08, 0.86), 0.86)
        cabin = frustum((-1.95, -0.82, 1.05, 0.82), 0.80, (-1.35, -0.66, 0.35, 0.66), 1.45)
    side, end, glass = textures["car_side"], textures["car_end"], textures["car_glass"]
    mirrored = UNIT_UV * [-1, 1] + [1, 0]
    uv = np.stack([UNIT_UV, UNIT_UV, mirrored, UNIT_UV, UNIT_UV])
    shape.add(body, uv, np.array([side, end, side, end, 0]))
    if van:  # only the front of a van is of glass
        shape.add(cabin[[0, 2, 3, 4]], UNIT_UV, 0)
        shape.add(cabin[[1]], UNIT_UV, glass, tinted=False)
    else:
        shape.add(cabin[:4], UNIT_UV, glass, tinted=False)
        shape.add(cabin[4:], UNIT_UV, 0)
    return shape


def person(textures: TextureArray) -> Shape:
    """A walker of 1.75 m; the tint is that of the coat."""
    shape = Shape()
    for y in (-0.1, 0.1):
        forward = 0.16 if y > 0 else -0.16
        shape.add(
            frustum((forward - 0.1, y - 0.07, forward + 0.12, y + 0.07), 0.0, (-0.08, y - 0.08, 0.08, y + 0.08), 0.86),
            UNIT_UV, 0, np.array([52, 56, 70]) / 255, tinted=False,
        )  # fmt: skip
    shape.add(frustum((-0.13, -0.2, 0.13, 0.2), 0.82, (-0.12, -0.24, 0.12, 0.24), 1.46), UNIT_UV, 0)
    shape.add(
        frustum((-0.09, -0.08, 0.1, 0.08), 1.45, (-0.08, -0.07, 0.08, 0.07), 1.75),
        UNIT_UV, 0, np.array([196, 156, 130]) / 255, tinted=False,
    )  # fmt: skip
    return shape


def broad_tree(textures: TextureArray, rng: np.random.Generator, sides: int = 6) -> Shape:
    """A crown of unit radius and a trunk; scaled when set down."""
    shape = Shape()
    rings = [(0.78, 0.98), (0.90, 1.64)]  # radius, height
    _crown(shape, rings, (0.70, 2.32), sides, 1.0, textures["leaves"], rng)
    _trunk(shape, 0.09, 0.85, textures["bark"])
    return shape


def conifer(textures: TextureArray, rng: np.random.Generator) -> Shape:
    """Two stacked cones."""
    shape = Shape()
    for low, high, radius in ((0.35, 2.3, 1.0), (1.5, 3.4, 0.7)):
        _crown(shape, [(radius, low)], (low + 0.15, high), 5, 1.0, textures["needles"], rng)
    _trunk(shape, 0.1, 0.6, textures["bark"])
    return shape


def bare_tree(textures: TextureArray, rng: np.random.Generator) -> Shape:
    """Trunk and boughs of a tree in winter."""
    shape = Shape()
    _trunk(shape, 0.09, 1.25, textures["bark"])
    for bough in range(11):
        angle, lean = 2.4 * bough + rng.uniform(-0.4, 0.4), rng.uniform(0.35, 0.95)
        begin = np.array([0, 0, rng.uniform(0.7, 1.25)])
        along = np.array([np.cos(angle) * lean, np.sin(angle) * lean, rng.uniform(0.6, 1.05)])
        _spike(shape, begin, begin + along, 0.05, textures["bark"])
    return shape


def _crown(
    shape: Shape,
    rings: list[tuple[float, float]],
    poles: tuple[float, float],
    sides: int,
    tall: float,
    layer: int,
    rng: np.random.Generator,
) -> None:
    """A lumpy closed body around the z axis: a pole, rings of vertices, a pole; darker below."""  # fmt: skip
    turn = 2 * np.pi * np.arange(sides) / sides
    height = [poles[0], *(h for _, h in rings), poles[1]]
    lumps = []
    for k, (radius, z) in enumerate(rings):
        r = radius * rng.uniform(0.82, 1.12, sides)
        a = turn + 0.5 * k * np.pi / sides * 2
        lumps.append(np.stack([r * np.cos(a), r * np.sin(a), z + rng.uniform(-0.07, 0.07, sides)], axis=-1))
    first, last = np.array([0, 0, poles[0]]), np.array([0.0, 0, poles[1]])
    scale = np.array([1, 1, tall])
    following = np.roll(np.arange(sides), -1)
    faces = [np.stack([np.broadcast_to(first, (sides, 3)), lumps[0][following], lumps[0]], axis=1)]
    for a, b in itertools.pairwise(lumps):
        faces.append(np.stack([a, a[following], b], axis=1))
        faces.append(np.stack([a[following], b[following], b], axis=1))
    faces.append(np.stack([lumps[-1], lumps[-1][following], np.broadcast_to(last, (sides, 3))], axis=1))
    triangles = np.concatenate(faces) * scale
    middle = np.array([0, 0, (height[0] + height[-1]) / 2]) * scale
    outward = triangles - middle
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    normals = 0.75 * outward + 0.25 * flat_normals(triangles)[:, None]
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    flat = np.repeat(flat_normals(triangles)[:, None], 3, axis=1)
    share = (triangles[..., 2] / tall - height[0]) / (height[-1] - height[0])
    # Each face is painted from the axis that it faces most.
    drop = np.abs(flat[:, 0]).argmax(axis=-1)
    axes = np.array([[1, 2], [0, 2], [0, 1]])[drop]
    uv = 0.55 * np.take_along_axis(triangles, np.repeat(axes[:, None], 3, axis=1), axis=-1)
    shape.add(triangles, uv, layer, (0.62 + 0.42 * share)[..., None], normals=normals)


def _trunk(shape: Shape, radius: float, height: float, layer: int) -> None:
    """Three sides, reaching into the ground and into the crown."""
    turn = 2 * np.pi * np.arange(3) / 3
    foot = np.stack([radius * np.cos(turn), radius * np.sin(turn), np.full(3, -0.12)], axis=-1)
    top = foot * [0.7, 0.7, 0] + [0, 0, height]
    following = [1, 2, 0]
    faces = np.stack([foot, foot[following], top[following], top], axis=1)
    shape.add(faces, UNIT_UV * [0.3, 1], layer, 0.9, tinted=False)


def _spike(shape: Shape, begin: Float64, end: Float64, radius: float, layer: int) -> None:
    along = (end - begin) / np.linalg.norm(end - begin)
    side = np.cross(along, [0.3, 0.2, 1.0])
    side /= np.linalg.norm(side)
    other = np.cross(along, side)
    turn = 2 * np.pi * np.arange(3) / 3
    foot = begin + radius * (np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * other)
    faces = np.stack([foot, foot[[1, 2, 0]], np.broadcast_to(end, (3, 3))], axis=1)
    shape.add(faces, UNIT_UV[:3] * [0.2, 2], layer, 0.95, tinted=False)

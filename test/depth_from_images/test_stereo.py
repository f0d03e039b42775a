"""Dense depth by multi-view stereo, against the exact world."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.depth_from_images import DepthFromImages
from pose2rgbd_ros.depth_from_images.scene import Outlooks, SparseScene
from pose2rgbd_ros.depth_from_images.stereo import Matched, MultiViewStereo, StereoSettings, _confirmed
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.geometry.depth import DepthEstimate

PINHOLE = Camera.from_fov(128, 128, 70.0)
BENT = Camera(128, 128, 101.0, 101.0, 63.5, 63.5, "plumb_bob", (-0.2, 0.03, 0.0, 0.0))
SETTINGS = StereoSettings(views=4, threads=1)
UP = np.array([0.0, 0.0, 1.0])
MIDDLE = 10


ROOFS = ((-6.0, -5.0, 5.0, 4.0), (3.0, 2.0, 6.0, 7.0), (2.0, -7.0, 5.0, 2.0))  # x, y, side, height in metres


def render(T_map_cam: np.ndarray, textures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Picture and exact depth (H, W) of a speckled ground at z = 0 and square roofs over it, without walls."""
    rays = PINHOLE.rays() @ T_map_cam[:3, :3].T
    eye, depth = T_map_cam[:3, 3], np.full(rays.shape[:2], np.inf, np.float32)
    grey = np.zeros(rays.shape[:2], np.float32)
    for texture, (x, y, side, height) in zip(textures, ((-32.0, -32.0, 64.0, 0.0), *ROOFS), strict=True):
        along = ((height - eye[2]) / rays[..., 2]).astype(np.float32)
        at = (((eye + rays * along[..., None])[..., :2] - [x, y]) * 8).astype(np.float32)  # 8 texels a metre
        hit = (at >= 0).all(axis=-1) & (at < 8 * side).all(axis=-1) & (along < depth)
        seen = cv2.remap(texture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        grey, depth = np.where(hit, seen, grey), np.where(hit, along, depth)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8), np.where(depth < np.inf, depth, np.nan)


class Flight:
    """25 cameras 22 m up, their pictures and exact depth, and some exact points they see."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        noise = [rng.uniform(0, 255, (int(8 * side), int(8 * side))) for side in (64, *(roof[2] for roof in ROOFS))]
        textures = [cv2.GaussianBlur(each, (0, 0), 1.5).astype(np.float32) * 4 - 380 for each in noise]
        textures = [texture.clip(0, 255) for texture in textures]
        x, y = np.meshgrid(np.arange(-8.0, 9.0, 4.0), np.arange(-8.0, 9.0, 4.0))
        eyes = np.stack([x, y, np.full_like(x, 22.0)], axis=-1).reshape(-1, 3)
        self.T_map_cam = se3.look_at(eyes, eyes - UP)
        tilt = Rotation.from_rotvec(rng.normal(0, 0.08, (len(eyes), 3))).as_matrix()
        self.T_map_cam[:, :3, :3] = self.T_map_cam[:, :3, :3] @ tilt
        rendered = [render(T, textures) for T in self.T_map_cam]
        self.rgb, self.depth = np.stack([rgb for rgb, _ in rendered]), np.stack([depth for _, depth in rendered])
        self.scene = self._seen(rng)

    def _seen(self, rng: np.random.Generator) -> SparseScene:
        """60 points of each frame, and every frame that sees one within 0.2 m of where it is."""
        rays, points = PINHOLE.rays().reshape(-1, 3), []
        for T, depth in zip(self.T_map_cam, self.depth, strict=True):
            some = rng.choice(np.flatnonzero(np.isfinite(depth.ravel())), 60, replace=False)
            points.append(se3.transform_points(T, rays[some] * depth.ravel()[some, None]))
        together = np.concatenate(points)
        frames, seen = [], []
        for frame, T in enumerate(self.T_map_cam):
            cam = se3.transform_points(se3.inverse(T), together)
            uv = PINHOLE.project(cam).round()
            inside = np.flatnonzero(((uv >= 0) & (uv < 128)).all(axis=1))
            column, row = uv[inside].astype(int).T
            near = inside[np.abs(self.depth[frame, row, column] - cam[inside, 2]) < 0.2]
            frames.append(np.full(len(near), frame))
            seen.append(near)
        return SparseScene(together, np.concatenate(frames), np.concatenate(seen))


@pytest.fixture(scope="module")
def flight() -> Flight:
    return Flight()


def one(method: DepthFromImages, flight: Flight, camera: Camera = PINHOLE, frame: int = MIDDLE) -> DepthEstimate:
    rgb = flight.rgb
    if camera is BENT:
        rgb = np.stack([resample(image, resample_map(PINHOLE, BENT), nearest=False) for image in rgb])
    (found,) = method.estimate(rgb, camera, flight.T_map_cam, np.array([frame]))
    return found


@pytest.fixture(scope="module")
def plain(flight: Flight) -> DepthEstimate:
    return one(MultiViewStereo(SETTINGS, flight.scene, scale_sigma=0.004), flight)


def error_m(found: DepthEstimate, flight: Flight, camera: Camera = PINHOLE) -> np.ndarray:
    truth = flight.depth[found.frame]
    if camera is BENT:
        truth = resample(truth, resample_map(PINHOLE, BENT), nearest=True, fill=np.nan)
    return np.abs(found.depth - truth)


@pytest.mark.parametrize("camera", [PINHOLE, BENT], ids=["pinhole", "distorted"])
def test_most_pixels_get_their_depth_to_a_fraction_of_a_pixel(flight: Flight, camera: Camera) -> None:
    found = one(MultiViewStereo(SETTINGS, flight.scene), flight, camera)
    error = error_m(found, flight, camera)
    known = np.isfinite(error)
    assert known.mean() > 0.7
    assert np.median(error[known]) < 0.03  # a pixel of disparity is 1 m
    assert (error[known] > 0.5).mean() < 0.02
    assert not found.confidence[np.isnan(found.depth)].any()
    assert found.confidence.max() <= 1


def test_errors_fall_as_confidence_grows(flight: Flight, plain: DepthEstimate) -> None:
    error = error_m(plain, flight)
    known = np.isfinite(error)
    quarters = np.array_split(error[known][np.argsort(-plain.confidence[known])], 4)
    assert np.quantile(quarters[0], 0.9) < 0.7 * np.quantile(quarters[3], 0.9)
    assert (quarters[0] > 0.5).mean() <= (quarters[3] > 0.5).mean()


def test_what_no_other_frame_confirms_is_unknown(flight: Flight, plain: DepthEstimate) -> None:
    """Something in one picture alone: its depth would be a guess."""
    rgb = flight.rgb.copy()
    rgb[MIDDLE, 30:80, 30:80] = cv2.GaussianBlur(rgb[0, 60:110, 60:110], (0, 0), 1.0)
    (found,) = MultiViewStereo(SETTINGS, flight.scene).estimate(rgb, PINHOLE, flight.T_map_cam, np.array([MIDDLE]))
    assert np.isfinite(found.depth[36:74, 36:74]).mean() < 0.15
    assert np.isfinite(plain.depth[36:74, 36:74]).mean() > 0.85


def test_depth_that_others_contradict_is_unknown(flight: Flight) -> None:
    wrong = flight.depth[12].copy()
    wrong[40:60, 20:50] *= 1.2
    others = [
        (Matched(1 / flight.depth[j], np.ones_like(wrong)), se3.inverse(flight.T_map_cam[j]) @ flight.T_map_cam[12])
        for j in (7, 11, 13)
    ]
    inverse, confidence = _confirmed(Matched(1 / wrong, np.ones_like(wrong)), others, PINHOLE, StereoSettings(views=3))
    assert np.isnan(inverse[40:60, 20:50]).all()
    inverse[40:60, 20:50] = 1 / flight.depth[12][40:60, 20:50]
    assert np.isfinite(inverse).mean() > 0.8  # the rest is seen by fewer than two others
    assert np.nanmedian(np.abs(1 / inverse - flight.depth[12])) < 0.01
    assert not confidence[40:60, 20:50].any()


def test_one_frame_that_agrees_suffices_where_few_could_see(flight: Flight) -> None:
    mine = Matched(1 / flight.depth[12], np.ones_like(flight.depth[12]))
    other = Matched(1 / flight.depth[13], np.ones_like(flight.depth[13]))
    others = [(other, se3.inverse(flight.T_map_cam[13]) @ flight.T_map_cam[12])]
    edge, sure = _confirmed(mine, others, PINHOLE, StereoSettings())
    inner, _ = _confirmed(mine, 4 * others, PINHOLE, StereoSettings(agree=5))  # four could, which is more than half
    assert np.isfinite(edge).mean() > 0.6
    assert sure[np.isfinite(edge)].max() <= 0.5  # as sure as with half of those asked for
    assert np.isnan(inner).all()


def test_without_sparse_points_the_ground_says_where_to_look(flight: Flight) -> None:
    found = one(MultiViewStereo(SETTINGS, normal=UP), flight)
    error = error_m(found, flight)
    assert np.isfinite(error).mean() > 0.85
    assert np.nanmedian(error) < 0.03


def test_held_out_pictures_say_nothing_about_frames_that_train(flight: Flight) -> None:
    """Changing every held-out picture, and what they see, changes no depth of a frame that trains."""
    rank = np.zeros(25, int)
    rank[[11, 15, 16]] = 2
    rgb = flight.rgb.copy()
    rgb[rank > 0] = 0
    moved = flight.scene.points.copy()
    moved[np.bincount(flight.scene.seen_point[rank[flight.scene.seen_frame] == 0], minlength=len(moved)) < 2] += 50
    spoilt = SparseScene(moved, flight.scene.seen_frame, flight.scene.seen_point)
    found = [
        next(MultiViewStereo(SETTINGS, scene, rank).estimate(pictures, PINHOLE, flight.T_map_cam, np.array([MIDDLE])))
        for scene, pictures in ((flight.scene, flight.rgb), (spoilt, rgb))
    ]
    assert np.array_equal(found[0].depth, found[1].depth, equal_nan=True)
    # A frame that is held out may look at all.
    free = next(MultiViewStereo(SETTINGS, flight.scene, rank).estimate(rgb, PINHOLE, flight.T_map_cam, np.array([11])))
    assert np.isnan(free.depth).all()


def test_views_stand_apart_and_look_alike(flight: Flight) -> None:
    T = flight.T_map_cam.copy()
    T[11, :3, :3] = T[11, :3, :3] @ Rotation.from_rotvec([np.pi / 2, 0, 0]).as_matrix()  # looks at the horizon
    outlook = Outlooks(flight.scene, T, PINHOLE, np.zeros(25, int), 4).of(12)
    assert outlook is not None
    assert len(set(outlook.others)) == 4
    assert not {11, 12} & set(outlook.others)
    offset = T[outlook.others, :2, 3] - T[12, :2, 3]
    assert np.linalg.norm(offset.mean(axis=0)) < 3.0  # from different sides


@pytest.mark.parametrize(("views", "share"), [(2, 0.3), (5, 0.02)], ids=["two views", "few"])
def test_false_points_behind_the_surface_do_not_widen_the_search(flight: Flight, views: int, share: float) -> None:
    """A facade's windows, all alike: matched to the next one they lie four times as far, for two views or some more."""
    plain = Outlooks(flight.scene, flight.T_map_cam, PINHOLE, np.zeros(25, int), 4).of(MIDDLE)
    mine = np.unique(flight.scene.seen_point[flight.scene.seen_frame == MIDDLE])
    rng = np.random.default_rng(0)
    rays = PINHOLE.rays()[::3, :20].reshape(-1, 3)
    rays = rays[rng.choice(len(rays), round(share * len(mine)), replace=False)]
    false = se3.transform_points(flight.T_map_cam[MIDDLE], 88.0 * rays)
    seeing = np.repeat(np.arange(MIDDLE, MIDDLE + views), len(false))
    number = np.tile(len(flight.scene.points) + np.arange(len(false)), views)
    scene = SparseScene(
        np.concatenate([flight.scene.points, false]), np.concatenate([flight.scene.seen_frame, seeing]),
        np.concatenate([flight.scene.seen_point, number]),
    )  # fmt: skip
    spoilt = Outlooks(scene, flight.T_map_cam, PINHOLE, np.zeros(25, int), 4).of(MIDDLE)
    assert plain is not None
    assert spoilt is not None
    assert spoilt.farther < 1.3 * plain.farther
    assert spoilt.nearer == pytest.approx(plain.nearer, rel=0.2)


def test_depth_is_metric_where_the_scale_is_known_and_relative_where_it_is_not(
    flight: Flight, plain: DepthEstimate
) -> None:
    assert (plain.unit_m, plain.unit_sigma) == (1.0, 0.004)
    assert one(MultiViewStereo(SETTINGS, flight.scene, scale_sigma=0.3), flight).unit_m is None


def test_what_cannot_be_done_is_said_at_once_or_unknown(flight: Flight) -> None:
    method = MultiViewStereo(SETTINGS, flight.scene)
    with pytest.raises(UserError, match="poses"):
        method.estimate(flight.rgb, PINHOLE, None, np.array([0]))
    blind = Camera(96, 96, 0, 0, 0, 0)
    with pytest.raises(UserError, match="focal length"):
        method.estimate(flight.rgb, blind, flight.T_map_cam, np.array([0]))
    alone = flight.T_map_cam.copy()
    alone[MIDDLE, :3, 3] += [0, 0, 5000]  # nobody sees what it sees
    (found,) = method.estimate(flight.rgb, PINHOLE, alone, np.array([MIDDLE]))
    assert np.isnan(found.depth).all()
    assert not found.confidence.any()

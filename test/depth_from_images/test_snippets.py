"""Snippets: which frames belong together, and where in their pictures the world's points are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pose2rgbd_ros.dataset.frame_maps import SealedFrameError
from pose2rgbd_ros.dataset.splits import Split
from pose2rgbd_ros.depth_from_images.snippets import (
    Augmentation,
    Sequence,
    SnippetBatch,
    SnippetData,
    augmented,
    rectified,
)
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera

CAMERA = Camera(40, 30, 30.0, 31.0, 18.5, 15.0)
STEP_NS = 33_000_000
ALL_TRAIN = "all train"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Sequence]:
    """A sequence whose frame i is of grey level i."""

    def frames(n: int = 40, name: str = "a", damaged: tuple[int, ...] = (), **given: object) -> Sequence:
        def rgb(i: int) -> np.ndarray:
            if i in damaged:
                raise UserError(f"{name}/{i}.png is not a readable image")
            return np.full((30, 40, 3), i, np.uint8)

        nothing = np.zeros(0, np.int64)
        facts = {
            "stamps_ns": np.arange(n) * STEP_NS,
            "camera": CAMERA,
            "split": Split(np.arange(n), nothing, nothing, ALL_TRAIN),
            "state": f"{n} {damaged}",
            **given,
        }
        return Sequence(name=name, read_rgb=rgb, cache=tmp_path / name, **facts)  # type: ignore[arg-type]

    return frames


def levels(batch: SnippetBatch) -> list[list[int]]:
    return torch.round(255 * batch.images[:, :, 0].mean(dim=(-1, -2))).int().tolist()


def test_a_snippet_is_in_time_order_around_its_target(make: Callable[..., Sequence]) -> None:
    data = SnippetData.of([make()], (6, 8), frames=5, stride=3)
    batch = data.batch(np.array([10, 20]))
    assert batch.images.shape == (2, 5, 3, 6, 8)
    assert batch.target == 2
    assert levels(batch) == [[4, 7, 10, 13, 16], [14, 17, 20, 23, 26]]
    assert data.split.train.tolist() == list(range(6, 34))
    pair = SnippetData.of([make()], (6, 8), frames=2).batch(np.array([7]))
    assert levels(pair) == [[7, 8]]
    assert pair.target == 0


def test_snippets_cross_no_gap_and_no_damaged_frame_but_bear_a_rate_that_varies(make: Callable[..., Sequence]) -> None:
    stamps = np.cumsum([0, *[STEP_NS, 2 * STEP_NS] * 10])
    assert len(SnippetData.of([make(21, stamps_ns=stamps)], (6, 8)).split.train) == 19
    stamps[12:] += 10 * STEP_NS
    data = SnippetData.of([make(21, "gap", stamps_ns=stamps)], (6, 8))
    assert data.split.train.tolist() == [*range(1, 11), *range(13, 20)]
    assert any("1 gap of time" in note for note in data.notes)
    data = SnippetData.of([make(21, "damaged", damaged=(0, 9))], (6, 8))
    assert data.split.train.tolist() == [*range(2, 8), *range(11, 20)]
    assert "2 frames of 21 left out" in data.notes[0]
    assert "damaged/0.png is not a readable image" in data.notes[0]
    data = SnippetData.of([make(21, "damaged", damaged=(0, 9))], (6, 8), frames=2, stride=2)
    assert data.split.train.tolist() == [i for i in range(1, 19) if i not in (7, 9)], "passed over, it does no harm"


def test_snippets_stay_within_a_sequence_and_have_its_camera(make: Callable[..., Sequence]) -> None:
    wide = Camera(40, 30, 20.0, 20.0, 19.5, 14.5)
    data = SnippetData.of([make(10), make(8, "b", camera=wide)], (15, 20))
    assert data.split.train.tolist() == [*range(1, 9), *range(11, 17)]
    assert data.sequence.tolist() == [0] * 10 + [1] * 8
    batch = data.batch(np.array([8, 11]))
    assert levels(batch) == [[7, 8, 9], [0, 1, 2]]
    assert np.allclose(batch.K[0].numpy(), CAMERA.resized(20, 15).K)
    assert np.allclose(batch.K[1].numpy(), wide.resized(20, 15).K)
    with pytest.raises(IndexError, match="another sequence"):
        data.batch(np.array([9]))
    with pytest.raises(IndexError, match="beyond the frames"):
        data.batch(np.array([17]))
    same = SnippetData.of([make(10), make(10)], (15, 20))
    assert [each.name for each in same.sequences] == ["a", "a 2"]


def test_snippets_stay_within_a_set_and_held_out_frames_cannot_be_read(make: Callable[..., Sequence]) -> None:
    parts = (np.arange(0, 20), np.arange(22, 30), np.arange(30, 40))
    data = SnippetData.of([make(split=Split(*parts, "own"))], (6, 8))
    split = data.split
    assert split.train.tolist() == list(range(1, 19))
    assert split.choose.tolist() == list(range(23, 29))
    assert split.judge.tolist() == list(range(31, 39))
    training, run = data.for_training(), data.without_judges()
    assert levels(training.batch(split.train[-1:])) == [[17, 18, 19]]
    assert levels(run.batch(split.choose[:1])) == [[22, 23, 24]]
    for sealed, held_out in ((training, 24), (training, 35), (run, 35)):
        with pytest.raises(SealedFrameError, match="held out"):
            sealed.batch(np.array([held_out]))


def test_every_recording_has_stretches_held_out_where_it_has_no_split(make: Callable[..., Sequence]) -> None:
    data = SnippetData.of([make(200, split=None), make(200, "b", split=None), make(4, "c", split=None)], (6, 8))
    for which in (0, 1):
        held_out = (data.sets != 1) & (data.sequence == which)
        assert 40 <= held_out.sum() <= 80, "a fifth, and the guards about it"
        for part in (data.split.train, data.split.choose, data.split.judge):
            assert (data.sequence[part] == which).sum() > 5
    assert (data.sets[-4:] == 1).all(), "too short to hold a stretch out of it"
    with pytest.raises(UserError, match="a brings no split of its own"):
        SnippetData.of([make(200, split=None)], (6, 8), split="dataset")


@pytest.mark.parametrize(
    ("frames", "stride", "message"),
    [
        (5, 1, r"a: no snippet of 5 frames, 1 apart, among 4 readable frames: it spans 5, the longest run without a"),
        (2, 4, r"it spans 5, the longest run without a gap has 4 frames; record more"),
        (4, 1, "an odd number whose middle one is the target"),
        (3, 0, "a stride of 0 frames"),
    ],
)
def test_too_few_frames_are_one_line(make: Callable[..., Sequence], frames: int, stride: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SnippetData.of([make(4)], (6, 8), frames=frames, stride=stride)


def test_a_source_without_lens_or_readable_frames_is_one_line(make: Callable[..., Sequence]) -> None:
    with pytest.raises(UserError, match="a has no intrinsics; --hfov-deg"):
        SnippetData.of([make(camera=Camera(40, 30, 0, 0, 0, 0))], (6, 8))
    with pytest.raises(UserError, match=r"a/0\.png is not a readable image"):
        SnippetData.of([make(5, damaged=tuple(range(5)))], (6, 8))
    odd = make(6)
    odd = replace(odd, camera=replace(CAMERA, width=50))
    with pytest.raises(UserError, match="frame 0 of a has 40 x 30 pixels, the sequence's camera 50 x 30"):
        SnippetData.of([odd], (6, 8))


def test_images_are_prepared_once_until_the_source_changes(make: Callable[..., Sequence]) -> None:
    sequence, read = make(8), list[int]()

    def rgb(i: int) -> np.ndarray:
        read.append(i)
        return sequence.read_rgb(i)

    for _ in range(2):
        SnippetData.of([replace(sequence, read_rgb=rgb)], (6, 8))
    assert sorted(read) == list(range(8))
    SnippetData.of([replace(sequence, read_rgb=rgb, state="new")], (6, 8))
    wide = SnippetData.of([replace(sequence, read_rgb=rgb, state="new", camera=replace(CAMERA, fx=33.0))], (6, 8))
    assert len(read) == 16, "another focal length is another focal length of the same images"
    assert wide.camera.fx == pytest.approx(33 * 8 / 40)
    bent = replace(CAMERA, distortion_model="plumb_bob", distortion=(-0.1, 0.0, 0.0, 0.0))
    SnippetData.of([replace(sequence, read_rgb=rgb, state="new", camera=bent)], (6, 8))
    assert len(read) == 24


# Where in the picture a point is.

POINTS = np.array([[0.1, -0.12, 1.0], [-0.2, 0.1, 1.0], [0.02, 0.05, 1.0]])


def spots(camera: Camera) -> np.ndarray:
    """An image of POINTS: the first red, the second green, the third blue."""
    v, u = np.mgrid[: camera.height, : camera.width]
    return np.stack(
        [255 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 7.0**2)) for x, y in camera.project(POINTS)], axis=-1
    ).astype(np.uint8)


def centres(image: np.ndarray) -> np.ndarray:
    """(3, 2) of the spots of an image (3, H, W)."""
    v, u = np.mgrid[: image.shape[1], : image.shape[2]]
    bright = np.where(image > 0.15 * image.max(axis=(1, 2), keepdims=True), image, 0)
    return np.stack([(bright * axis).sum(axis=(1, 2)) / bright.sum(axis=(1, 2)) for axis in (u, v)], axis=-1)


@pytest.mark.parametrize("bent", [(), (-0.3, 0.1, 0.002, -0.001), (0.2, 0.05, 0.0, 0.0)])
def test_points_are_where_the_intrinsics_say(make: Callable[..., Sequence], bent: tuple[float, ...]) -> None:
    camera = Camera(320, 240, 250.0, 260.0, 155.0, 118.0, "plumb_bob" if bent else "none", bent)
    image, depth = spots(camera), np.full((240, 320), 5.0, np.float32)
    depth[:, 300:] = np.nan
    sequence = replace(make(6), camera=camera, read_rgb=lambda i: image, read_depth=lambda i: depth)
    data = SnippetData.of([sequence], (60, 96))
    batch = data.batch(np.array([2]))
    K = batch.K[0].double().numpy()
    assert np.allclose(centres(batch.images[0, 1].numpy()), POINTS[:, :2] @ K[:2, :2].T + K[:2, 2], atol=0.3)
    assert np.allclose(data.camera.K, K)
    found = data.depth(np.array([2]))
    assert found is not None
    assert (found[0, :, :60] == 5).all()
    if bent:
        ideal = rectified(camera)
        corners = ideal.unproject([[0, 0], [319, 239]])
        seen = camera.project(corners)
        assert ((seen >= -0.5) & (seen <= [319.5, 239.5])).all(), "nothing is shown that the lens does not see"


@pytest.mark.parametrize("how", [Augmentation(), Augmentation(zoom=1.0, flip=True), Augmentation(flip=True)])
def test_augmented_points_are_where_the_intrinsics_say(how: Augmentation) -> None:
    camera = Camera(96, 60, 75.0, 78.0, 50.0, 27.0)
    image = torch.from_numpy(spots(replace(camera))).permute(2, 0, 1).float() / 255
    batch = SnippetBatch(image.expand(6, 3, 3, 60, 96).clone(), torch.from_numpy(camera.K).float().expand(6, 3, 3), 1)
    torch.manual_seed(3)
    before, mirrored = batch.K.clone(), 0
    for _ in range(4):
        changed = augmented(batch, how)
        assert changed.images.shape == batch.images.shape
        for images, K in zip(changed.images.numpy(), changed.K.double().numpy(), strict=True):
            expected = POINTS[:, :2] @ K[:2, :2].T + K[:2, 2]
            flipped = np.stack([2 * K[0, 2] - expected[:, 0], expected[:, 1]], axis=-1)
            inside = ((expected > 20) & (expected < [75, 39])).all(axis=1) & (flipped[:, 0] > 20) & (flipped[:, 0] < 75)
            at = centres(images[0])
            assert np.allclose(images[0], images[2]), "all images of a snippet alike"
            is_flipped = not np.allclose(at[inside], expected[inside], atol=0.6)
            mirrored += is_flipped
            if is_flipped:
                assert np.allclose(at[inside], flipped[inside], atol=0.6)
    assert (0 < mirrored < 24) == how.flip
    assert torch.equal(batch.K, before), "the batch itself is as before"
    torch.manual_seed(5)
    first = augmented(batch, how)
    torch.manual_seed(5)
    assert torch.equal(augmented(batch, how).images, first.images)


# True depth and poses: for those that are taught by them, and for nobody else.


def moving(n: int) -> np.ndarray:
    """Poses (n, 4, 4) of a camera that looks along its way, 0.5 m a frame, and turns a little."""
    steps = np.broadcast_to(se3.exponential([0.1, 0.0, 0.5, 0.0, 0.02, 0.0]), (n - 1, 4, 4))
    T = [np.eye(4)]
    for step in steps:
        T.append(T[-1] @ step)
    return np.stack(T)


def test_truth_is_for_those_it_teaches_alone(make: Callable[..., Sequence]) -> None:
    def depth(i: int) -> np.ndarray:
        return np.full((30, 40), np.nan if i == 12 else i + 1.0, np.float32)

    T_map_cam = moving(40)
    T_map_cam[25] = np.nan
    data = SnippetData.of([make(read_depth=depth, T_map_cam=T_map_cam)], (6, 8), frames=3, stride=2)
    plain = data.for_training()
    batch = plain.batch(np.array([10]))
    assert batch.depth is None
    assert batch.T_tgt_i is None
    for ask in (plain.depth, plain.poses):
        with pytest.raises(SealedFrameError, match="not for a learner of images alone"):
            ask(np.array([10]))
    taught = data.with_truth().for_training(supervised=True)
    assert set(data.split.train) - set(taught.split.train) == {12, 23, 25, 27}, "no depth; no pose of a frame"
    batch = taught.batch(np.array([10, 20]))
    assert batch.depth is not None
    assert batch.T_tgt_i is not None
    assert (batch.depth == torch.tensor([11.0, 21.0])[:, None, None]).all()
    expected = np.linalg.inv(T_map_cam[20]) @ T_map_cam[[18, 20, 22]]
    np.testing.assert_allclose(batch.T_tgt_i[1].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "a: true depth and poses to learn from is missing; this model is trained on RGB-D"),
        ({"T_map_cam": moving(40)}, "a: true depth to learn from is missing"),
        ({"read_depth": lambda i: np.ones((30, 40), np.float32)}, "a: poses to learn from is missing"),
        (
            {"read_depth": lambda i: np.ones((30, 40), np.float32), "T_map_cam": moving(40), "depth_kind": "relative"},
            "a: depth is relative, so that it does not fit the poses",
        ),
    ],
)
def test_a_source_without_truth_teaches_nothing(
    make: Callable[..., Sequence], given: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        SnippetData.of([make(**given)], (6, 8)).with_truth()


@pytest.mark.parametrize("how", [Augmentation(), Augmentation(zoom=1.0, flip=True), Augmentation(zoom=1.4, flip=True)])
def test_truth_is_augmented_with_the_images(how: Augmentation) -> None:
    """A picture of its own depth stays one; and what a view sees stays where depth and motion say."""
    camera, points = (
        Camera(96, 60, 75.0, 78.0, 50.0, 27.0),
        torch.tensor([[0.3, -0.2, 4.0, 1.0], [-0.5, 0.1, 6.0, 1.0]]),
    )
    levels = torch.linspace(0.2, 1.0, 96).expand(60, 96) * torch.linspace(0.5, 1.0, 60)[:, None]
    T = torch.from_numpy(se3.exponential([0.3, 0.1, -0.4, 0.02, 0.05, 0.1])).float()
    batch = SnippetBatch(
        levels.expand(8, 2, 3, 60, 96).clone(),
        torch.from_numpy(camera.K).float().expand(8, 3, 3),
        0,
        levels.expand(8, 60, 96).clone(),
        torch.stack([torch.eye(4), T]).expand(8, 2, 4, 4).clone(),
    )
    torch.manual_seed(4)
    changed = augmented(batch, how)
    assert changed.depth is not None
    assert changed.T_tgt_i is not None
    assert (changed.depth - changed.images[:, 0, 0]).abs().max() < 0.02
    mirrored = (changed.images[:, 0, 0, :, 0] > changed.images[:, 0, 0, :, -1]).all(dim=-1)
    assert (0 < int(mirrored.sum()) < 8) == how.flip
    for K, T_tgt_i, is_mirrored in zip(changed.K, changed.T_tgt_i, mirrored, strict=True):
        scale = K.diagonal()[:2] / batch.K[0].diagonal()[:2]
        seen = []
        for k, pose, at in (
            (batch.K[0], T, points),
            (K, T_tgt_i[1], points * torch.tensor([1 - 2.0 * is_mirrored, 1, 1, 1])),
        ):
            pixel = at @ torch.linalg.inv(pose).T[:, :3] @ k.T
            seen.append(pixel[:, :2] / pixel[:, 2:] - k[:2, 2])
        expected = seen[0] * scale * torch.tensor([1 - 2.0 * is_mirrored, 1.0])
        assert torch.allclose(seen[1], expected, atol=1e-3)

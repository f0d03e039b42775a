"""What goes into a dataset comes out again: stamps, poses, pixels, depths; and nothing else gets in."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.encode import BadFrame, EncodedFrame, encode_counts
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta, read_meta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.streams.samples import ImageSample


def jpeg(toy, t: int) -> ImageSample:
    data = cv2.imencode(".jpg", toy.rgb(t), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    return ImageSample.from_compressed(t, "camera", data)


@given(st.integers(0, 2**63 - 1))
def test_stamps_are_exact_to_the_nanosecond(stamp_ns):
    assert layout.parse_stamp(layout.stamp_text(stamp_ns)) == stamp_ns


@pytest.mark.parametrize("text", ["", "1.", ".5", "-1.0", "1e9", "1.0000000001", "nan", "1 2"])
def test_other_texts_are_no_stamps(text):
    with pytest.raises(ValueError, match="no timestamp"):
        layout.parse_stamp(text)


def test_a_dataset_comes_back_as_it_went_in(toy, make_dataset):
    dataset = Dataset(make_dataset(7))
    assert dataset.stamps_ns.tolist() == [toy.stamp(i) for i in range(7)]
    assert dataset.camera == toy.camera
    assert dataset.has_depth
    assert dataset.depth_kind == "metric"
    for i, t in enumerate(dataset.stamps_ns):
        np.testing.assert_allclose(dataset.T_map_cam[i], toy.pose(t), atol=2e-9)
        np.testing.assert_array_equal(dataset.rgb(i), toy.rgb(t))
        np.testing.assert_array_equal(dataset.depth(i), toy.depth_sample(t).depth_m)
        assert np.isnan(dataset.depth(i)[:, 0]).all()
    stored = cv2.imread(str(dataset.path / dataset.records[3].depth), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored, toy.counts(toy.stamp(3)))


def test_jpeg_sources_are_stored_verbatim(toy, tmp_path):
    t = toy.stamp(0)
    image = jpeg(toy, t)
    with DatasetWriter(tmp_path / "set", toy.meta(None)) as writer:
        writer.add(t, toy.pose(t), image)
    dataset = Dataset(tmp_path / "set")
    assert (dataset.path / f"rgb/{t}.jpg").read_bytes() == image.compressed_bytes
    np.testing.assert_array_equal(dataset.rgb(0), image.rgb())
    assert not dataset.has_depth
    with pytest.raises(UserError, match="no depth images"):
        dataset.depth(0)


def test_raw_images_can_be_stored_small(toy, tmp_path):
    t = toy.stamp(0)
    smooth = cv2.GaussianBlur(toy.rgb(t), (0, 0), 3)
    with DatasetWriter(tmp_path / "set", toy.meta(None), raw_images="jpeg") as writer:
        writer.add(t, toy.pose(t), smooth)
    dataset = Dataset(tmp_path / "set")
    assert dataset.records[0].rgb.endswith(".jpg")
    assert np.abs(dataset.rgb(0).astype(int) - smooth).mean() < 2


def test_frames_encoded_elsewhere_are_stored_as_they_are(toy, tmp_path):
    t, later = toy.stamp(0), toy.stamp(1)
    frame = EncodedFrame((".jpg", jpeg(toy, t).data), (".png", encode_counts(toy.counts(t))))
    meta = DatasetMeta(toy.camera, depth=DepthMeta("metric", "counts", 0.001))
    with DatasetWriter(tmp_path / "set", meta) as w:
        assert w.seen(t, toy.pose(t)) is None
        assert w.add(t, toy.pose(t), frame) == "written"
        assert w.add(t, toy.pose(t), frame) == "present"
        assert w.seen(t, toy.pose(t)) == "present"
        assert w.seen(t, toy.pose(later + 10**9)) == "collision"
        with pytest.raises(BadFrame, match="all frames or none"):
            w.add(later, toy.pose(later), EncodedFrame(frame.image))
        w.write_file("beside/note.txt", b"kept")
    assert (tmp_path / "set" / "rgb" / f"{t}.jpg").read_bytes() == frame.image[1]
    assert (tmp_path / "set" / "beside" / "note.txt").read_bytes() == b"kept"
    dataset = Dataset(tmp_path / "set")
    np.testing.assert_array_equal(dataset.depth(0), toy.depth_sample(t).depth_m)
    assert len(dataset) == 1


def test_frames_added_out_of_order_are_sorted(toy, tmp_path):
    order = [5, 2, 9, 0, 1]
    with DatasetWriter(tmp_path / "set", toy.meta(None)) as writer:
        for t in map(toy.stamp, order):
            writer.add(t, toy.pose(t), toy.rgb(t))
    stamps = [layout.stamp_text(toy.stamp(i)) for i in sorted(order)]
    for name in (layout.GROUNDTRUTH, layout.ASSOCIATIONS):
        lines = (tmp_path / "set" / name).read_text().splitlines()[1:]
        assert [line.split()[0] for line in lines] == stamps


def test_several_bags_share_one_place_and_colliding_stamps_are_told(toy, tmp_path):
    datum = Datum(44.4, 26.1, 120.0)
    with DatasetWriter(tmp_path / "set", toy.meta(None, datum=datum)) as writer:
        writer.begin_source("first.bag")
        for t in map(toy.stamp, range(4)):
            writer.add(t, toy.pose(t), toy.rgb(t))
    with DatasetWriter(tmp_path / "set", toy.meta(None), resume=True) as writer:
        assert writer.meta.datum == datum
        writer.begin_source("second.bag")
        assert writer.add(toy.stamp(2), toy.pose(toy.stamp(3)), toy.rgb(7)) == "collision"
        assert writer.add(toy.stamp(9), toy.pose(toy.stamp(9)), toy.rgb(9)) == "written"
    dataset = Dataset(tmp_path / "set")
    np.testing.assert_array_equal(dataset.rgb(2), toy.rgb(toy.stamp(2)))
    first, second = dataset.meta.sources
    assert (first.name, first.frames, first.first_stamp_ns, first.last_stamp_ns) == (
        "first.bag", 4, toy.stamp(0), toy.stamp(3),
    )  # fmt: skip
    assert (second.name, second.frames, second.first_stamp_ns) == ("second.bag", 1, toy.stamp(9))


def test_a_recording_of_which_nothing_is_kept_is_not_listed(toy, tmp_path):
    with DatasetWriter(tmp_path / "set", toy.meta(None)) as writer:
        writer.begin_source("kept.bag")
        writer.add(toy.stamp(0), toy.pose(toy.stamp(0)), toy.rgb(0))
    with DatasetWriter(tmp_path / "set", toy.meta(None), resume=True) as writer:
        writer.begin_source("kept.bag")
        writer.begin_source("empty.bag")
    assert [(source.name, source.frames) for source in Dataset(tmp_path / "set").meta.sources] == [("kept.bag", 1)]


def test_resuming_skips_what_is_there(toy, make_dataset):
    path = make_dataset(5)
    before = {p: p.stat().st_mtime_ns for p in (path / "rgb").iterdir()}
    with DatasetWriter(path, toy.meta(), resume=True) as writer:
        assert len(writer) == 5
        assert toy.stamp(4) in writer
        added = [writer.add(t, toy.pose(t), toy.rgb(t), toy.depth_sample(t)) for t in map(toy.stamp, range(8))]
    assert added == ["present"] * 5 + ["written"] * 3
    assert len(Dataset(path)) == 8
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera": Camera(32, 24, 40.0, 41.0, 15.2, 12.1)}, "another camera"),
        ({"camera": Camera(64, 48, 30.0, 31.0, 15.2, 12.1)}, "another camera"),
        ({"camera": Camera(32, 24, 30.0, 31.0, 15.2, 12.1, "plumb_bob", (0.1, 0, 0, 0))}, "another camera"),
        ({"map_frame": "odom"}, "map_frame"),
        ({"camera_frame": "left"}, "camera_frame"),
        ({"depth": None}, "depth of kind"),
        ({"datum": Datum(1.0, 2.0, 3.0)}, "has its map at"),
    ],
)
def test_frames_of_another_place_are_refused(toy, tmp_path, changes, message):
    t = toy.stamp(0)
    with DatasetWriter(tmp_path / "set", toy.meta(datum=Datum(9.0, 9.0, 9.0))) as writer:
        writer.add(t, toy.pose(t), toy.rgb(t), toy.depth_sample(t))
    with pytest.raises(UserError, match=message):
        DatasetWriter(
            tmp_path / "set", DatasetMeta(**{"camera": toy.camera, "depth": toy.meta().depth, **changes}), resume=True
        )
    assert len(Dataset(tmp_path / "set")) == 1


def test_a_fifth_coefficient_of_zero_is_the_same_lens(toy, tmp_path):
    for coefficients in ((0.1, 0.2, 0.0, 0.0), (0.1, 0.2, 0.0, 0.0, 0.0)):
        camera = Camera(32, 24, 30.0, 31.0, 15.2, 12.1, "plumb_bob", coefficients)
        with DatasetWriter(tmp_path / "set", toy.meta(None, camera=camera), resume=True) as writer:
            writer.add(toy.stamp(0), toy.pose(toy.stamp(0)), toy.rgb(0))
    assert len(Dataset(tmp_path / "set")) == 1


def test_a_folder_with_frames_or_other_things_is_left_alone(toy, make_dataset, tmp_path):
    path = make_dataset(3)
    with pytest.raises(UserError, match="already holds a dataset of 3 frames"):
        DatasetWriter(path, toy.meta())
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear")
    with pytest.raises(UserError, match="not empty"):
        DatasetWriter(tmp_path / "home", toy.meta(), resume=True)
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["letter.txt"], "not even a lock is put there"
    assert (tmp_path / "home/letter.txt").read_text() == "dear"
    with pytest.raises(UserError, match="is a file"):
        DatasetWriter(tmp_path / "home/letter.txt", toy.meta())
    assert len(Dataset(path)) == 3


def test_an_empty_dataset_can_be_begun_again(toy, tmp_path):
    DatasetWriter(tmp_path / "set", toy.meta(None)).close()
    with pytest.raises(UserError, match="holds no frames"):
        Dataset(tmp_path / "set")
    with DatasetWriter(tmp_path / "set", toy.meta()) as writer:
        t = toy.stamp(0)
        writer.add(t, toy.pose(t), toy.rgb(t), toy.depth_sample(t))
    assert Dataset(tmp_path / "set").has_depth


def test_two_writers_are_refused(toy, tmp_path):
    with DatasetWriter(tmp_path / "set", toy.meta(None)), pytest.raises(UserError, match="another process"):
        DatasetWriter(tmp_path / "set", toy.meta(None), resume=True)
    DatasetWriter(tmp_path / "set", toy.meta(None), resume=True).close()


def bad_frames(toy):
    t = toy.stamp(1)
    good = {"stamp_ns": t, "T_map_cam": toy.pose(t), "image": toy.rgb(t), "depth": toy.depth_sample(t)}
    nan_pose, skewed = toy.pose(t), toy.pose(t)
    nan_pose[0, 3], skewed[0, 0] = np.nan, skewed[0, 0] + 0.1
    whole = jpeg(toy, t).compressed_bytes
    cut = ImageSample.from_compressed(t, "camera", whole[: len(whole) * 2 // 3])
    return {
        "stamp_invalid": {**good, "stamp_ns": -5},
        "pose_invalid": {**good, "T_map_cam": nan_pose},
        "pose_invalid ": {**good, "T_map_cam": skewed},
        "pose_invalid  ": {**good, "T_map_cam": np.diag([1.0, 1.0, -1.0, 1.0])},
        "image_size": {**good, "image": np.zeros((24, 30, 3), np.uint8)},
        "image_unreadable": {**good, "image": cut},
        "image_unreadable ": {**good, "image": np.zeros((24, 32), np.uint8)},
        "no_depth": {**good, "depth": None},
        "depth_size": {**good, "depth": np.ones((24, 24), np.float32)},
        "depth_size ": {**good, "depth": np.ones((12, 16), np.float32)},
    }


@pytest.mark.parametrize("case", range(10))
def test_a_bad_frame_is_named_and_changes_nothing(toy, make_dataset, case):
    path = make_dataset(1)
    reason, frame = list(bad_frames(toy).items())[case]
    with DatasetWriter(path, toy.meta(), resume=True) as writer:
        before = sorted((p.name, p.stat().st_size) for p in path.rglob("*") if p.is_file())
        with pytest.raises(BadFrame) as caught:
            writer.add(**frame)
        assert caught.value.reason == reason.strip()
        assert sorted((p.name, p.stat().st_size) for p in path.rglob("*") if p.is_file()) == before
        t = toy.stamp(2)
        assert writer.add(t, toy.pose(t), toy.rgb(t), toy.depth_sample(t)) == "written"
    assert len(Dataset(path)) == 2


def test_a_damaged_head_is_found_after_good_ones(toy, tmp_path):
    first, second = toy.stamp(0), toy.stamp(1)
    good = jpeg(toy, first).compressed_bytes
    tables = good.index(b"\xff\xc4") + 5  # how many codes there are of each length
    bad = good[:tables] + b"\xff" * 16 + good[tables + 16 :]
    with DatasetWriter(tmp_path / "set", toy.meta(None)) as writer:
        writer.add(first, toy.pose(first), ImageSample.from_compressed(first, "camera", good))
        with pytest.raises(BadFrame) as caught:
            writer.add(second, toy.pose(second), ImageSample.from_compressed(second, "camera", bad))
    assert caught.value.reason == "image_unreadable"


def test_depth_is_refused_where_none_is_kept(toy, tmp_path):
    t = toy.stamp(0)
    with DatasetWriter(tmp_path / "set", toy.meta(None)) as writer, pytest.raises(BadFrame, match="colour only"):
        writer.add(t, toy.pose(t), toy.rgb(t), toy.depth_sample(t))


def test_a_closed_writer_says_so(toy, tmp_path):
    writer = DatasetWriter(tmp_path / "set", toy.meta(None))
    writer.close()
    writer.close()
    with pytest.raises(UserError, match="closed"):
        writer.add(toy.stamp(0), toy.pose(toy.stamp(0)), toy.rgb(0))


def test_the_readers_see_what_is_finished_while_the_writer_writes(toy, tmp_path):
    with DatasetWriter(tmp_path / "set", toy.meta(None)) as writer:
        for n, t in enumerate(map(toy.stamp, range(5)), 1):
            writer.add(t, toy.pose(t), toy.rgb(t))
            assert len(Dataset(tmp_path / "set")) == n


def test_the_rotations_of_a_real_camera_survive(toy, tmp_path):
    """Positions kilometres away and every rotation."""
    rng = np.random.default_rng(0)
    quat = rng.normal(size=(50, 4))
    T = se3.make(rng.uniform(-5e3, 5e3, (50, 3)), quat / np.linalg.norm(quat, axis=1, keepdims=True))
    with DatasetWriter(tmp_path / "set", toy.meta(None)) as writer:
        for i in range(50):
            writer.add(toy.stamp(i), T[i], toy.rgb(0))
    np.testing.assert_allclose(Dataset(tmp_path / "set").T_map_cam, T, atol=2e-9)


def test_meta_round_trips(toy, make_dataset):
    meta = read_meta(make_dataset(2))
    assert DatasetMeta.from_dict(meta.to_dict()) == meta
    assert meta.software.startswith("pose2rgbd")

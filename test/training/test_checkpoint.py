"""A checkpoint comes back as it was written; whatever is not one is refused in one line, and nothing ever runs."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save, save_file

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBD
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint, read_safetensors, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of


def make_checkpoint(seed: int = 0) -> Checkpoint:
    torch.manual_seed(seed)
    model = Pose2RGBD(Pose2RGBDConfig(variant="slice", slices=4, size=32, width=1 / 16))
    T_map_cam = np.tile(np.eye(4), (6, 1, 1))
    T_map_cam[:, :3, 3] = np.random.default_rng(seed).normal(size=(6, 3))
    return Checkpoint(
        architecture=architecture_of(model),
        normalization=Normalization.fit(T_map_cam, np.full((6, 4, 4), 3.0) + np.arange(6)[:, None, None]),
        camera=Camera(32, 32, 40.0, 30.0, 15.5, 15.5),
        map_frame="map",
        camera_frame="camera_optical",
        depth_kind="metric",
        state_dict=model.state_dict(),
        training_stamps_ns=np.arange(6) * 10**9 + 7,
        training_T_map_cam=T_map_cam,
        choosing_stamps_ns=np.array([3, 5]) * 10**9,
        datum=Datum(44.4, 26.1, 80.0),
        provenance={"dataset": "flight", "split": {"name": "random", "seed": 3}},
        metrics={"rgb_mae_px": 12.5},
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model", make_checkpoint())
    return tmp_path / "model"


def test_round_trip(saved: Path) -> None:
    written, read = make_checkpoint(), load_checkpoint(saved)
    assert read.normalization == written.normalization
    assert read.camera == written.camera
    assert read.datum == written.datum
    assert (read.map_frame, read.camera_frame, read.depth_kind) == ("map", "camera_optical", "metric")
    assert read.provenance == written.provenance
    assert read.metrics == written.metrics
    np.testing.assert_array_equal(read.training_T_map_cam, written.training_T_map_cam)
    np.testing.assert_array_equal(read.training_stamps_ns, written.training_stamps_ns)
    pose = torch.rand(2, 7)
    torch.testing.assert_close(
        read.build_model()(pose), written.build_model()(pose), rtol=0, atol=0, msg="the same network"
    )
    np.testing.assert_array_equal(read.choosing_stamps_ns, written.choosing_stamps_ns)


def test_a_network_is_built_to_be_used_and_not_to_be_trained(saved: Path) -> None:
    """In training mode batch norm would normalise by the batch, so a picture would depend on those beside it."""
    model = load_checkpoint(saved).build_model()
    assert not any(module.training for module in model.modules())
    poses = torch.rand(3, 7)
    torch.testing.assert_close(model(poses).image[:1], model(poses[:1]).image)


def test_a_training_run_folder_is_accepted(saved: Path) -> None:
    saved.rename(saved.with_name("checkpoint"))
    assert load_checkpoint(saved.parent).map_frame == "map"


def test_saving_again_replaces_and_leaves_nothing_behind(saved: Path) -> None:
    (saved / "renderer.onnx").write_bytes(b"of the old weights")
    save_checkpoint(saved, make_checkpoint(seed=1))
    assert not (saved / "renderer.onnx").exists()
    assert [entry.name for entry in saved.parent.iterdir()] == ["model"]
    fresh = make_checkpoint(seed=1).state_dict["dense.weight"]
    np.testing.assert_array_equal(load_checkpoint(saved).state_dict["dense.weight"], fresh)


def test_killed_between_the_two_renames(saved: Path) -> None:
    saved.rename(saved.with_name(".model.old"))
    assert load_checkpoint(saved).map_frame == "map"


def edit(saved: Path, change: dict[str, object]) -> None:
    values = yaml.safe_load((saved / "model.yaml").read_text())
    (saved / "model.yaml").write_text(yaml.safe_dump({**values, **change}))


def edit_weights(saved: Path, remove: str | None = None, add: str | None = None) -> None:
    tensors = load_file(saved / "weights.safetensors")
    if remove:
        del tensors[remove]
    if add:
        tensors[add] = torch.zeros(2)
    save_file(tensors, saved / "weights.safetensors")


DAMAGE = {
    "no such folder": (lambda p: p.rename(p.with_name("elsewhere")), "no checkpoint at"),
    "no model.yaml": (lambda p: (p / "model.yaml").unlink(), "has no model.yaml; it holds .*weights.safetensors"),
    "broken yaml": (lambda p: (p / "model.yaml").write_text("a: [1,\n b"), "cannot be read as YAML"),
    "binary yaml": (lambda p: (p / "model.yaml").write_bytes(b"\xff\xfe\x00"), "cannot be read as YAML"),
    "not a mapping": (lambda p: (p / "model.yaml").write_text("- 1"), "no YAML mapping"),
    "newer format": (lambda p: edit(p, {"format_version": 99}), "format_version is 99"),
    "yaml without camera": (lambda p: edit(p, {"camera": None}), "camera|incomplete"),
    "yaml without frames": (lambda p: edit(p, {"frames": {}}), "incomplete or damaged"),
    "unknown network": (lambda p: edit(p, {"architecture": {"network": "gan", "output": "rgb"}}), "unknown network"),
    "no weights": (lambda p: (p / "weights.safetensors").unlink(), "cannot be read"),
    "no poses": (lambda p: (p / "training_poses.safetensors").unlink(), "cannot be read"),
    "truncated": (
        lambda p: (p / "weights.safetensors").write_bytes((p / "weights.safetensors").read_bytes()[:-100]),
        "damaged or no safetensors",
    ),
    "empty": (lambda p: (p / "weights.safetensors").write_bytes(b""), "damaged or no safetensors"),
    "missing key": (lambda p: edit_weights(p, remove="dense.bias"), "lacks dense.bias"),
    "foreign key": (lambda p: edit_weights(p, add="decoder.0.weight"), "has unknown decoder.0.weight"),
    "another width": (
        lambda p: edit(p, {"architecture": {**make_checkpoint().architecture, "width": 0.125}}),
        "has misshapen",
    ),
    "poses of another kind": (
        lambda p: save_file({"x": torch.zeros(1)}, p / "training_poses.safetensors"),
        "incomplete or damaged",
    ),
    "poses of another shape": (
        lambda p: save_file(
            {"stamps_ns": torch.zeros(6, dtype=torch.int64), "T_map_cam": torch.zeros(6, 3)},
            p / "training_poses.safetensors",
        ),
        r"training poses of shape \(6, 3\)",
    ),
    "unknown kind of depth": (lambda p: edit(p, {"depth_kind": "disparity"}), "depth_kind is 'disparity'"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_checkpoint_is_refused_in_one_line(saved: Path, damage: str) -> None:
    harm, message = DAMAGE[damage]
    harm(saved)
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_noticed(saved: Path) -> None:
    weights = bytearray((saved / "weights.safetensors").read_bytes())
    weights[-5] ^= 0x10
    (saved / "weights.safetensors").write_bytes(bytes(weights))
    with pytest.raises(UserError, match="SHA-256 differs"):
        load_checkpoint(saved)


class Attack:
    """Unpickling this creates the file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize(
    "disguise", ["weights.safetensors", "training_poses.safetensors", "pytorch_model.bin", "last.pt"]
)
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_malicious_pickle_never_runs(saved: Path, tmp_path: Path, disguise: str, writer: str) -> None:
    trace = tmp_path / "it-ran"
    target = saved / disguise
    if writer == "pickle":
        target.write_bytes(pickle.dumps(Attack(trace)))
    else:
        torch.save({"state_dict": Attack(trace)}, target)
    pickle.loads(pickle.dumps(Attack(trace)))
    assert trace.exists(), "the attack would work if somebody opened it"
    trace.unlink()
    path = saved if disguise.endswith(".safetensors") else target
    with pytest.raises(UserError, match="pickle"):
        load_checkpoint(path)
    assert not trace.exists()


def test_a_header_as_long_as_a_pickle_begins(tmp_path: Path) -> None:
    """640 = 0x280 bytes of header: the file begins like a pickle of protocol 2, and is none."""
    for count in range(1, 40):
        data = save({f"tensor{i}": torch.zeros(2) for i in range(count)}, {"pad": ""})
        short = 640 - int.from_bytes(data[:8], "little")
        if 0 <= short < 64:
            break
    data = save({f"tensor{i}": torch.zeros(2) for i in range(count)}, {"pad": "x" * short})
    assert data.startswith(b"\x80\x02")
    (tmp_path / "weights.safetensors").write_bytes(data)
    tensors, _ = read_safetensors(tmp_path / "weights.safetensors")
    assert len(tensors) == count


def test_a_folder_with_only_a_pickle_is_named(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(1))
    with pytest.raises(UserError, match=r"no model\.yaml; it holds pytorch_model\.bin"):
        load_checkpoint(tmp_path)


def test_a_full_disk_keeps_the_earlier_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pose2rgbd_ros.training.checkpoint.write_yaml", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_checkpoint(saved, make_checkpoint(seed=1))
    monkeypatch.undo()
    first = make_checkpoint().state_dict["dense.weight"]
    np.testing.assert_array_equal(load_checkpoint(saved).state_dict["dense.weight"], first)
    assert [entry.name for entry in saved.parent.iterdir()] == ["model"]

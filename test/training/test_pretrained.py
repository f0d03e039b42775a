"""Published weights find their layers, and it is said what did not; a file that is none is refused in one line."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.sfmlearner.config import SfMLearnerConfig
from pose2rgbd_ros.models.sfmlearner.network import SfMLearner
from pose2rgbd_ros.training.pretrained import load_weights, read_weights

WIDTH = 0.1


def small() -> SfMLearner:
    torch.manual_seed(0)
    return SfMLearner(SfMLearnerConfig((64, 96), 3, WIDTH))


def count(channels: int) -> int:
    return max(4, round(channels * WIDTH))


def layer(name: str, out: int, into: int, kernel: int, transposed: bool = False) -> dict[str, Tensor]:
    shape = (into, out, kernel, kernel) if transposed else (out, into, kernel, kernel)
    return {f"{name}.weight": 0.1 * torch.randn(shape), f"{name}.bias": 0.1 * torch.randn(out)}


def dispnet() -> dict[str, Tensor]:
    """Names and shapes of SfmLearner-Pytorch's DispNetS, narrower."""
    torch.manual_seed(1)
    down, up = (32, 64, 128, 256, 512, 512, 512), (512, 512, 256, 128, 64, 32, 16)
    tensors: dict[str, Tensor] = {}
    into = 3
    for level, (channels, kernel) in enumerate(zip(down, (7, 5, 3, 3, 3, 3, 3), strict=True), 1):
        tensors |= layer(f"conv{level}.0", count(channels), into, kernel)
        tensors |= layer(f"conv{level}.2", count(channels), count(channels), kernel)
        into = count(channels)
    for level, channels in zip(range(7, 0, -1), up, strict=True):
        tensors |= layer(f"upconv{level}.0", count(channels), into, 3, transposed=True)
        skip = count(down[level - 2]) if level > 1 else 0
        tensors |= layer(f"iconv{level}.0", count(channels), count(channels) + skip + (level < 4), 3)
        into = count(channels)
    for scale in range(4, 0, -1):
        tensors |= layer(f"predict_disp{scale}.0", 1, count(up[7 - scale]), 3)
    return tensors


def exp_pose(sources: int = 2, masks: bool = True) -> dict[str, Tensor]:
    """Of its PoseExpNet."""
    torch.manual_seed(2)
    tensors: dict[str, Tensor] = {}
    into = 3 * (1 + sources)
    for level, (channels, kernel) in enumerate(zip((16, 32, 64, 128, 256, 256, 256), (7, 5, 3, 3, 3, 3, 3)), 1):  # noqa: B905
        tensors |= layer(f"conv{level}.0", count(channels), into, kernel)
        into = count(channels)
    tensors |= layer("pose_pred", 6 * sources, into, 1)
    if masks:
        tensors |= layer("upconv5.0", count(256), count(256), 4, transposed=True)
        tensors |= layer("predict_mask4", sources, count(128), 3)
    return tensors


def saved(path: Path, tensors: dict[str, Tensor]) -> Path:
    """As the port saves its best model."""
    torch.save({"epoch": 7, "state_dict": OrderedDict(tensors)}, path)
    return path


def test_published_weights_find_all_their_layers(tmp_path: Path) -> None:
    model, depth, pose = small(), dispnet(), exp_pose()
    files = [
        saved(tmp_path / "dispnet_model_best.pth.tar", depth),
        saved(tmp_path / "exp_pose_model_best.pth.tar", pose),
    ]
    done = load_weights(model, files)
    assert not done.missing
    assert not done.misshapen
    assert sorted(done.left) == sorted(name for name in pose if "upconv" in name or "mask" in name)
    assert len(done.taken) == len(model.state_dict()) == len({ours for _, ours in done.taken})
    own = model.state_dict()
    for theirs, ours in (
        ("conv1.0.weight", "disparity.down.0.0.0.weight"),
        ("conv3.2.bias", "disparity.down.2.1.0.bias"),
        ("upconv7.0.weight", "disparity.up.0.conv.weight"),
        ("upconv1.0.weight", "disparity.up.6.conv.weight"),
        ("iconv3.0.weight", "disparity.join.4.0.weight"),
    ):
        assert torch.equal(own[ours], depth[theirs]), theirs
    # The finest disparity is what `depth` shows, from 16 channels; the coarsest from 128.
    assert torch.equal(model.disparity.show[-1].weight, depth["predict_disp1.0.weight"])
    assert torch.equal(model.disparity.show[0].weight, depth["predict_disp4.0.weight"])
    assert torch.equal(model.motion.motion[2].weight, pose["pose_pred.weight"])
    table = done.table()
    assert "conv1.0.weight" in table
    assert "left over" in table
    assert table.splitlines()[-1].startswith(f"{len(own)} of {len(depth) + len(pose)} tensors taken (")


def test_what_is_missing_or_of_another_shape_is_said(tmp_path: Path) -> None:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    done = load_weights(model, [saved(tmp_path / "five.pth", exp_pose(sources=4, masks=False))])
    assert [theirs for theirs, _ in done.misshapen] == [
        "conv1.0.weight (4, 15, 7, 7)", "pose_pred.weight (24, 26, 1, 1)", "pose_pred.bias (24,)",
    ]  # fmt: skip
    assert all(name.startswith("disparity.") for name in done.missing)
    assert torch.equal(model.motion.shared[0][0].weight, before["motion.shared.0.0.weight"]), "left as it was"
    assert "NOT TAKEN: another shape" in done.table()
    assert "MISSING: as it began" in done.table()


def test_our_own_names_and_safetensors_are_taken_too(tmp_path: Path) -> None:
    source = {f"module.{name}": tensor + 1 for name, tensor in small().state_dict().items()}
    torch.save(source, tmp_path / "ours.pt")
    model = small()
    assert not load_weights(model, [tmp_path / "ours.pt"]).missing
    save_file(dispnet(), tmp_path / "theirs.safetensors")
    assert len(load_weights(model, [tmp_path / "theirs.safetensors"]).taken) == len(dispnet())
    assert torch.equal(model.disparity.show[-1].bias, dispnet()["predict_disp1.0.bias"])


class Code:
    ran = False

    def __reduce__(self) -> tuple[object, ...]:
        return setattr, (Code, "ran", True)


def test_what_is_not_weights_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights\n" * 9)
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save({"state_dict": dispnet(), "code": Code()}, tmp_path / "code.pth")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    torch.save({"other.weight": torch.zeros(3)}, tmp_path / "other.pth")
    whole = saved(tmp_path / "whole.pth", dispnet()).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    for name, says in {
        "text": "neither safetensors nor a PyTorch state dict",
        "empty": "neither safetensors nor a PyTorch state dict",
        "cut": "neither safetensors nor a PyTorch state dict",
        "code": "holds more than weights, which could run code, and was not opened",
        "list": "holds no state dict",
        "missing": "cannot be read",
    }.items():
        with pytest.raises(UserError, match=says) as found:
            read_weights(tmp_path / f"{name}.pth")
        assert "\n" not in str(found.value)
    assert not Code.ran
    with pytest.raises(UserError, match=r"none of its 1 tensors \(other.weight, ...\) is known of sfmlearner"):
        load_weights(small(), [tmp_path / "other.pth"])


def test_commands_begin_with_them(
    flight_dataset: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flight = str(flight_dataset(tmp_path / "flight", frames=30))
    files = [str(saved(tmp_path / name, of)) for name, of in (("disp.pth", dispnet()), ("pose.pth", exp_pose()))]
    out = tmp_path / "inferred"
    infer = ["depth", "infer", flight, "--out", str(out), "--weights", *files, "--width", str(WIDTH)]
    assert main(infer) == 2
    assert "of which --model?" in capsys.readouterr().err
    assert main([*infer, "--model", "sfmlearner", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "predict_disp1.0.weight" in said
    assert "0 missing" in said
    assert len(list((out / "depth_relative").glob("*.npy"))) == 30
    run = tmp_path / "run"
    options = f"--image-width 32 --image-height 32 --steps 1 --device cpu --no-tensorboard --width {WIDTH}".split()
    train = ["depth", "train", "sfmlearner", flight, "--out", str(run), *options, "--learning-rate", "0"]
    assert main([*train, "--weights", *files]) in (0, 1)
    assert "0 missing" in capsys.readouterr().out
    trained = load_file(run / "checkpoint" / "weights.safetensors")
    np.testing.assert_allclose(trained["disparity.show.3.bias"], dispnet()["predict_disp1.0.bias"], atol=1e-5)
    Path(files[0]).unlink()
    assert main([*train, "--weights", *files, "--resume"]) in (0, 1), "a resumed run has its weights"

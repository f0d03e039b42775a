"""Published weights find their layers, and it is said what did not; a file that is none is refused in one line."""

from __future__ import annotations

import itertools
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
from pose2rgbd_ros.models.trianflow.config import PoseNetVideoConfig, TrianFlowConfig
from pose2rgbd_ros.models.trianflow.flow_network import FlowDecoder, cost_volume
from pose2rgbd_ros.models.trianflow.network import PoseNetVideo, TrianFlow
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
    for name in ("kitti.ckpt.index", "kitti.ckpt.meta", "kitti.ckpt.data-00000-of-00001"):
        (tmp_path / name).write_bytes(b"\0" * 64)
    for name in ("kitti.ckpt", "kitti.ckpt.index", "kitti.ckpt.data-00000-of-00001"):
        with pytest.raises(UserError, match=r"kitti.ckpt\S* is a checkpoint of TensorFlow, which nothing else reads"):
            read_weights(tmp_path / name)
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


def norm(name: str, channels: int) -> dict[str, Tensor]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {
        **{f"{name}.{each}": torch.rand(channels) for each in names},
        f"{name}.num_batches_tracked": torch.tensor(3),
    }


def trianflow() -> dict[str, Tensor]:
    """Names and shapes of what TrianFlow's stages 2 and 3 save, narrower."""
    torch.manual_seed(3)
    flow, tensors, into = "model_pose.model_flow.", dict[str, Tensor](), 3
    pyramid = [count(channels) for channels in (16, 32, 64, 96, 128, 196)]
    for level, channels in enumerate(pyramid):
        tensors |= layer(f"{flow}fpyramid.conv{2 * level + 1}.0", channels, into, 3)
        tensors |= layer(f"{flow}fpyramid.conv{2 * level + 2}.0", channels, channels, 3)
        into = channels
    dd = [count(channels) for channels in (128, 128, 96, 64, 32)]
    for level in range(6, 1, -1):
        seen = 81 if level == 6 else 81 + pyramid[level - 1] + 2
        for i, (out, before) in enumerate(
            zip(dd, (seen, dd[0], dd[0] + dd[1], dd[1] + dd[2], dd[2] + dd[3]), strict=True)
        ):
            tensors |= layer(f"{flow}pwc_model.conv{level}_{i}.0", out, before, 3)
        tensors |= layer(f"{flow}pwc_model.predict_flow{level}", 2, dd[3] + dd[4], 3)
    context = [dd[4] + 2, *(count(channels) for channels in (128, 128, 128, 96, 64, 32)), 2]
    for i, (before, out) in enumerate(itertools.pairwise(context), 1):
        tensors |= layer(f"{flow}pwc_model.dc_conv{i}{'.0' if i < 7 else ''}", out, before, 3)
    encoder = [count(channels) for channels in (64, 64, 128, 256, 512)]
    inside = "depth_net.encoder.encoder"
    tensors[f"{inside}.conv1.weight"] = torch.rand(encoder[0], 3, 7, 7)
    tensors |= norm(f"{inside}.bn1", encoder[0])
    for stage, (before, out) in enumerate(itertools.pairwise(encoder), 1):
        for block in range(2):
            name = f"{inside}.layer{stage}.{block}"
            tensors[f"{name}.conv1.weight"] = torch.rand(out, out if block else before, 3, 3)
            tensors[f"{name}.conv2.weight"] = torch.rand(out, out, 3, 3)
            tensors |= norm(f"{name}.bn1", out) | norm(f"{name}.bn2", out)
        if stage > 1:
            tensors[f"{inside}.layer{stage}.0.downsample.0.weight"] = torch.rand(out, before, 1, 1)
            tensors |= norm(f"{inside}.layer{stage}.0.downsample.1", out)
    tensors |= {f"{inside}.fc.weight": torch.rand(10, encoder[-1]), f"{inside}.fc.bias": torch.rand(10)}
    into = encoder[-1]
    for i, channels in enumerate((256, 128, 64, 32, 16)):
        skip = encoder[3 - i] if i < 4 else 0
        tensors |= layer(f"depth_net.decoder.upconvs.{i}.0.conv.conv", count(channels), into, 3)
        tensors |= layer(f"depth_net.decoder.upconvs.{i}.1.conv.conv", count(channels), count(channels) + skip, 3)
        into = count(channels)
    return tensors | layer("depth_net.decoder.dispconvs.0.conv", 1, into, 3)


def test_trianflows_weights_find_all_their_layers(tmp_path: Path) -> None:
    model, theirs = TrianFlow(TrianFlowConfig(WIDTH, (64, 96))), trianflow()
    torch.save({"iteration": 5, "model_state_dict": theirs, "optimizer_state_dict": {}}, tmp_path / "last.pth")
    done = load_weights(model, [tmp_path / "last.pth"])
    assert (done.missing, done.misshapen) == ([], [])
    assert done.left == ["depth_net.encoder.encoder.fc.weight", "depth_net.encoder.encoder.fc.bias"]
    own = model.state_dict()
    assert {ours for _, ours in done.taken} == set(own)
    # Blue, green, red there is red, green, blue here; flow comes before features there.
    first = theirs["depth_net.encoder.encoder.conv1.weight"]
    assert torch.equal(own["depth_network.encoder.start.0.weight"], first[:, [2, 1, 0]])
    context = theirs["model_pose.model_flow.pwc_model.dc_conv1.0.weight"]
    assert torch.equal(own["flow.context.0.0.weight"][:, -2:], context[:, :2])
    level = theirs["model_pose.model_flow.pwc_model.conv3_4.0.bias"]
    assert torch.equal(own["flow.decoder.estimators.3.convs.4.0.bias"], level)


def test_of_stage_one_there_is_flow_alone_and_posenet_flow_has_its_motion(tmp_path: Path) -> None:
    flow = {
        name.removeprefix("model_pose.model_flow."): tensor
        for name, tensor in trianflow().items()
        if name.startswith("model_pose.")
    }
    torch.save({"model_state_dict": flow}, tmp_path / "flow.pth")
    done = load_weights(TrianFlow(TrianFlowConfig(WIDTH, (64, 96))), [tmp_path / "flow.pth"])
    assert len(done.taken) == len(flow)
    assert done.missing
    assert all(name.startswith("depth_network.") for name in done.missing)
    pose = {f"pose_net.{name}": tensor for name, tensor in exp_pose(masks=False).items()}
    pose["pose_net.conv1.0.weight"] = torch.rand(count(16), 2, 7, 7)
    pose |= {
        f"pose_net.pose_pred.{name}": torch.rand(6, *shape) for name, shape in (("weight", (26, 1, 1)), ("bias", ()))
    }
    save_file(pose, tmp_path / "pose.safetensors")
    model = PoseNetVideo(PoseNetVideoConfig(WIDTH, (64, 96), sees="flow"))
    done = load_weights(model, [tmp_path / "pose.safetensors"])
    assert len(done.taken) == len(pose) == 16


def test_published_flow_is_of_costs_as_they_are() -> None:
    """Ours are of standardized features, and pass a LeakyReLU."""
    torch.manual_seed(4)
    published, own = (FlowDecoder(WIDTH, centred) for centred in (False, True))
    own.load_state_dict(published.state_dict())
    sides, channels = (32, 16, 8, 4, 2, 1), [count(each) for each in (16, 32, 64, 96, 128, 196)]
    features = [torch.rand(1, each, side, side) for each, side in zip(channels, sides, strict=True)]
    with torch.no_grad():
        for other in (features, [-each for each in features]):
            plain = published.estimators[0](cost_volume(features[-1], other[-1]))[1]
            assert torch.equal(published(features, other)[1][-1], plain)
            assert not torch.allclose(own(features, other)[1][-1], plain)

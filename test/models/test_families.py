"""Families of models: each fits the registry's protocol, has its own settings, and a new one is a folder and a line."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pose2rgbd_ros.models
from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig, VideoConfig
from pose2rgbd_ros.training.families import (
    FAMILIES,
    Family,
    PoseModel,
    RenderModel,
    VideoModel,
    build_model,
    config_without_torch,
    families,
    family_of,
    has_part,
    part_of,
    train_config,
)

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "model_family.md"
# Optional modules and what they must have: a function and how many arguments it takes.
OPTIONAL = {"backend": ("make", 3), "export": ("export", 2), "pretrained": ("ours", 1)}


def lacks(family: str) -> list[str]:
    """What keeps a folder of models/ from being what its line in the registry says; empty: nothing."""
    missing = [f"{part}.py" for part in ("config", "network", "learner") if not has_part(family, part)]
    if missing:
        return missing
    models, networks, text, kind = FAMILIES[family]
    base, can = (TrainConfig, (RenderModel, PoseModel)) if kind == "place" else (VideoConfig, (VideoModel,))
    config, network, learner = (part_of(family, part) for part in ("config", "network", "learner"))
    found = [] if text else ["a text in the registry"]
    settings = getattr(config, "Settings", None)
    if not (inspect.isclass(settings) and issubclass(settings, base) and dataclasses.is_dataclass(settings)):
        return [*found, f"config.Settings, a dataclass that is a {base.__name__}"]
    if "default" not in getattr(settings, "RECIPES", {}):
        found.append("the recipe 'default' in config.Settings.RECIPES")
    for model in models:
        name = model.replace("N", "12")
        if settings(name).model != name or family_of(name) != family:
            found.append(f"settings of {name}")
    made = getattr(network, "NETWORKS", {})
    if set(made) != set(networks):
        found.append(f"network.NETWORKS for {', '.join(networks)}")
    for name in set(made) & set(networks):
        with torch.device("meta"):
            built = build_model({"network": name})
        if not (isinstance(built, nn.Module) and isinstance(built, can)):
            what = "pictures() or poses()" if kind == "place" else "image_size, depth() and motions()"
            found.append(f"{what} of the network {name}, see training/families.py")
    if not takes(learner, "make", 4):
        found.append("learner.make(config, recipe, data, device)")
    for part, (function, arguments) in OPTIONAL.items():
        if has_part(family, part) and not takes(part_of(family, part), function, arguments):
            found.append(f"{part}.{function} of {arguments} arguments")
    if has_part(family, "backend") and not isinstance(getattr(part_of(family, "backend"), "NAME", None), str):
        found.append("backend.NAME")
    return found


def takes(module: object, function: str, arguments: int) -> bool:
    there = getattr(module, function, None)
    return callable(there) and len(inspect.signature(there).parameters) == arguments


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_fits_the_protocol(family: str) -> None:
    assert not lacks(family), f"models/{family}/ lacks: {'; '.join(lacks(family))}"


def test_every_folder_is_registered() -> None:
    folder = Path(pose2rgbd_ros.models.__file__).parent
    assert {each.name for each in folder.iterdir() if (each / "__init__.py").exists()} == set(FAMILIES)


def test_settings_load_without_torch() -> None:
    program = (
        "import sys; from pose2rgbd_ros.training.families import FAMILIES, part_of\n"
        "for family in FAMILIES: part_of(family, 'config')\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# What a network's configuration says of it, for computers without PyTorch, is what PyTorch says.


@pytest.mark.parametrize(
    "architecture",
    [
        {"network": "pose2rgbd"},
        {"network": "pose2rgbd", "pose_dim": 6, "size": 64, "width": 0.3, "output": "rgb", "pose_frequencies": 2},
        {"network": "pose2rgbd", "variant": "slice", "slices": 7, "size": 32, "width": 0.1, "output": "depth"},
        {"network": "pose2rgbd", "variant": "slice", "slice_features": "first", "slice_resolution": "full"},
        {"network": "relief"},
        {"network": "relief", "layers": 5, "rows": 9, "columns": 12, "levels": 3, "unshuffle": 4, "channels": 5},
        {"network": "relief-tiles", "tile_rows": 2, "tile_columns": 3, "coarse_channels": 3, "width": 5},
        {"network": "warp", "stored": 3, "width": 20, "height": 10},
    ],
)
def test_a_configuration_knows_its_network(architecture: dict[str, object]) -> None:
    config, network = config_without_torch(architecture), build_model(architecture, "meta")
    assert config == network.config
    assert config.weight_shapes() == {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert (config.any_camera, config.has_confidence) == (network.any_camera, network.has_confidence)


def test_families_with_a_backend_have_their_configurations() -> None:
    for family, line in FAMILIES.items():
        assert has_part(family, "backend") == hasattr(part_of(family, "config"), "NETWORK_CONFIGS")
        if has_part(family, "backend"):
            assert part_of(family, "config").NETWORK_CONFIGS.keys() == set(line.networks)


# A family of its own: what docs/tutorials/model_family.md shows, word for word.


@pytest.fixture
def add_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str], Family], Path]]:
    """Puts a folder models/toy in place, and its line into the registry; undone afterwards."""

    def add(files: dict[str, str], line: Family) -> Path:
        folder = tmp_path / "families" / "toy"
        folder.mkdir(parents=True)
        for name, text in {"__init__.py": "", **files}.items():
            (folder / name).write_text(text)
        monkeypatch.setattr(pose2rgbd_ros.models, "__path__", [*pose2rgbd_ros.models.__path__, str(folder.parent)])
        monkeypatch.setitem(FAMILIES, "toy", line)
        return folder

    yield add
    for name in [name for name in sys.modules if name.startswith("pose2rgbd_ros.models.toy")]:
        del sys.modules[name]
    vars(pose2rgbd_ros.models).pop("toy", None)


def shown_on_the_page() -> tuple[dict[str, str], Family]:
    """The files of the family and its line in the registry, as the page has them."""
    text = PAGE.read_text()
    blocks = re.findall(r"`models/toy/(\w+\.py)`(?:(?!```).)*```python\n(.*?)```", text, re.S)
    (line,) = re.findall(r'"toy": (Family\(.*\)),', text)
    return dict(blocks), eval(line)


def test_the_family_of_the_page_is_trained_measured_and_rendered(
    add_family: Callable[[dict[str, str], Family], Path],
    flight_dataset: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, line = shown_on_the_page()
    assert set(files) == {"config.py", "network.py", "learner.py"}
    add_family(files, line)
    assert lacks("toy") == []
    assert main(["train", "--help"]) == 0
    assert re.search(rf"\n  toy +{re.escape(line.text)}\n", capsys.readouterr().out)
    with pytest.raises(SystemExit):
        main(["train", "toy", "--help"])
    shown = capsys.readouterr().out
    assert "--hidden" in shown
    assert "--learning-rate" in shown
    assert "--splats" not in shown
    flight, run = str(flight_dataset(tmp_path / "flight", frames=24)), tmp_path / "run"
    options = f"--out {run} --size 32 --epochs 40 --hidden 16 --device cpu --no-tensorboard --split random".split()
    assert main(["train", "toy", flight, *options]) == 0, "it does not show one image"
    assert read_yaml(run / "config.yaml")["hidden"] == 16
    checkpoint = load_checkpoint(run)
    assert checkpoint.architecture["network"] == "toy"
    images = Renderer(run, "cpu").render(checkpoint.training_T_map_cam[:2])
    assert images.rgb is not None
    assert images.rgb.shape == (2, 32, 32, 3)
    assert images.depth is None
    assert not np.array_equal(images.rgb[0], images.rgb[1])
    assert main(["train", "toy", flight, *options, "--resume"]) in (0, 1)
    assert main(["evaluate", str(run), flight, "--device", "cpu"]) == 0
    assert main(["export", str(run)]) == 2
    assert "toy has no ONNX graph" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("learner.py", None, ["learner.py"]),
        ("config.py", ("class Settings(TrainConfig)", "class Settings"), ["config.Settings, a dataclass that is"]),
        ("config.py", ('"default": Recipe', '"fast": Recipe'), ["the recipe 'default'"]),
        ("network.py", ('NETWORKS = {"toy"', 'NETWORKS = {"joy"'), ["network.NETWORKS for toy"]),
        ("network.py", ("def pictures", "def images"), ["pictures() or poses() of the network toy"]),
        ("learner.py", ("def make(config, recipe, data, device)", "def make(config, data)"), ["learner.make"]),
    ],
)
def test_a_folder_that_does_not_fit_says_what_is_missing(
    file: str, change: tuple[str, str] | None, says: list[str], add_family: Callable[[dict[str, str], Family], Path]
) -> None:
    files, line = shown_on_the_page()
    if change is None:
        del files[file]
    else:
        assert change[0] in files[file]
        files[file] = files[file].replace(*change)
    add_family(files, line)
    found = lacks("toy")
    assert [text[: len(said)] for text, said in zip(found, says, strict=True)] == says


# The command line of earlier versions is refused with the new one.


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("FLIGHT --model relief --out RUN", "pose2rgbd train relief FLIGHT --out RUN"),
        ("FLIGHT --out RUN --model=slice-10", "pose2rgbd train slice-10 FLIGHT --out RUN"),
        ("FLIGHT --model relief --relief.tiles 2x3", "pose2rgbd train relief FLIGHT --tiles 2x3"),
        ("FLIGHT --model", "pose2rgbd train MODEL FLIGHT"),
        ("relief FLIGHT --relief.box.extent-m 40", "--relief.box.extent-m is --box.extent-m now"),
        ("posegan FLIGHT --posegan.width=0.5", "--posegan.width=0.5 is --width=0.5 now"),
        ("./FLIGHT --out RUN", "which model? pose2rgbd train MODEL ./FLIGHT --out RUN; MODEL is base, slice-N, relief"),
        ("FLIGHT", "unknown model 'FLIGHT'; choose base, slice-N, relief, warp-N"),
        ("--resume --out RUN", "which model? pose2rgbd train MODEL --resume --out RUN"),
        ("relief2 FLIGHT", "unknown model 'relief2'"),
    ],
)
def test_a_line_without_a_model_or_in_old_words_is_refused(
    line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *line.split()]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.startswith("error: ")
    assert told.count("\n") == 1


def test_a_folder_of_a_models_name_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("relief", "FLIGHT"):
        (tmp_path / name).mkdir()
    assert main(["train", "relief", "NOWHERE", "--out", "RUN"]) == 2
    assert "NOWHERE" in (said := capsys.readouterr().err)
    assert "which model" not in said
    assert main(["train", "FLIGHT", "--out", "RUN"]) == 2
    assert "which model? pose2rgbd train MODEL FLIGHT" in capsys.readouterr().err


def test_without_a_word_the_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: which model?\n")
    assert all(name in told for family in families("place").values() for name in family.models)


def test_a_family_shows_its_own_settings_only(capsys: pytest.CaptureFixture[str]) -> None:
    own = {"base": "--slice-resolution", "relief": "--box.extent-m", "gsplat": "--splats", "posegan": "--beta-pixel"}
    for model in [*own, "warp-12"]:
        with pytest.raises(SystemExit):
            main(["train", model, "--help"])
        shown = capsys.readouterr().out
        assert "--epochs" in shown
        assert "--model " not in shown
        assert [name for name, option in own.items() if option in shown] == [name for name in own if name == model]
    with pytest.raises(UserError, match="warp-12 has no setting splats"):
        train_config("warp-12", splats=7)

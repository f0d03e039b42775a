"""docs/nodes/ and config/: parameters, states and launch arguments are those of the code; links lead somewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pose2rgbd.msg import LocalizationStatus, ObstacleStatus, RenderStatus, SyncStatus
from support import launch_standin
from support.scripts import load_script

from pose2rgbd_ros import settings
from pose2rgbd_ros.cli.nodes import NODES, _node

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "nodes"
STATUS = {"render": RenderStatus, "avoid": ObstacleStatus, "localize": LocalizationStatus, "record": SyncStatus}
NO_STATES = {"PREDICTED", "LIVE"}  # sources, in ObstacleStatus
COMMON = set("namespace use_sim_time params_file autostart log_level use_respawn fastdds_profile".split())


SCRIPT = load_script("node_tables")


def test_tables_and_parameter_files_are_those_of_the_settings():
    assert SCRIPT.stale(ROOT) == [], "run python scripts/node_tables.py --write"


def test_what_is_stale_is_found(tmp_path):
    for folder in ("docs/nodes", "config", "launch"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    page, file = tmp_path / "docs" / "nodes" / "render.md", tmp_path / "config" / "avoid.yaml"
    page.write_text(page.read_text().replace("| `rate_hz` | double | `30.0` |", "| `rate_hz` | double | `25.0` |"))
    file.write_text(file.read_text().replace("    map_frame:", "    map_fram:"))
    launch = tmp_path / "launch" / "avoid.launch.py"
    launch.write_text(launch.read_text().replace('("avoid", "model"', '("avoid", "max_age_s"'))
    assert SCRIPT.stale(tmp_path) == ["docs/nodes/render.md", "config/launch_arguments.yaml", "config/avoid.yaml"]
    launch.write_text(launch.read_text().replace('("avoid", "max_age_s"', '("avoid", "max_age"'))
    with pytest.raises(ValueError, match=r"avoid.launch.py sets max_age, which is no parameter of avoid"):
        SCRIPT.stale(tmp_path)
    page.write_text(page.read_text().replace(SCRIPT.END, ""))
    with pytest.raises(ValueError, match="the page of render needs one line"):
        SCRIPT.stale(tmp_path)


@pytest.mark.parametrize("node", SCRIPT.WITH_FILE)
def test_a_parameter_file_says_what_the_node_does_without_it(node):
    values = yaml.safe_load((ROOT / "config" / f"{node}.yaml").read_text())["/**"]["ros__parameters"]
    cls = _node(node)[1]
    defaults = {name: settings.to_flat(cls())[name] for name in settings.parameter_fields(cls)}
    given = dict(_flat(values))
    assert set(defaults) - set(given) == {"autostart"}
    for name, value in given.items():
        default = defaults[name]
        assert value == (list(default) if isinstance(default, tuple) else default)
        assert isinstance(value, list) or type(value) is type(default), f"{name}: ROS would refuse the type"


def _flat(values: dict[str, Any], inside: str = "") -> Any:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{inside}{name}.")
        else:
            yield inside + name, value


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("rate_hz", "Hz"), ("scan.near_m", "m"), ("vehicle.max_jerk_mps3", "m/s³"), ("city.haze_per_m", "1/m"),
        ("odometry_walk_m_per_sqrt_min", "m/√min"), ("imu.gyro_noise_radps_sqrt_hz", "rad/s/√Hz"), ("m", ""),
        ("imu.gyro_bias_walk_radps_per_sqrt_s", "rad/s/√s"), ("gps.outages_per_min", "1/min"), ("cloud_every", ""),
    ],
)  # fmt: skip
def test_units_are_in_the_names(name, unit):
    assert SCRIPT.unit_of(name) == unit


@pytest.mark.parametrize("node", STATUS)
def test_a_page_lists_the_states_of_its_status(node):
    text = (PAGES / f"{node}.md").read_text()
    table = text.split("\n## States\n")[1].split("\n## ")[0]
    listed = {word for row in re.findall(r"^\| ([A-Z_, ]+) \|", table, re.M) for word in row.split(", ")}
    constants = {name for name in dir(STATUS[node]) if re.fullmatch(r"[A-Z][A-Z_]+", name)}
    assert listed == constants - NO_STATES - {"SLOT_TYPES"}


def test_launch_arguments_are_those_of_the_files():
    text = (PAGES / "README.md").read_text().split("\n## Launch files\n")[1].split("\n## ")[0]
    listed = dict(re.findall(r"^\| `(\w+)\.launch\.py` \| (.*) \|$", text, re.M))
    inside = set(re.findall(r"`(\w+)`", text.split("\n| file |")[0]))
    assert inside >= COMMON
    for file in (ROOT / "launch").glob("*.launch.py"):
        name = file.name.removesuffix(".launch.py")
        own = set(re.findall(r"`(\w+)`", listed[name]))
        assert own == set(launch_standin.arguments_of(ROOT, file.name)) - COMMON, file.name


def test_every_node_has_a_page_in_the_overview():
    text = (PAGES / "README.md").read_text()
    assert {page.stem for page in PAGES.glob("*.md")} == {"README", *NODES}
    assert all(f"[{node}]({node}.md)" in text for node in NODES)


@pytest.mark.parametrize(
    "page",
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "bench" / "results").glob("*.md")),
    ],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text())):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)


def anchors(file: Path) -> set[str]:
    """What a page's headings are called in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", file.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

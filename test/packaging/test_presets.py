"""The presets of consumers: complete, of parameters that exist, and none frees space from predicted depth unless it
says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pose2rgbd_ros.nodes.avoid.settings import AvoidSettings
from pose2rgbd_ros.nodes.render.settings import RenderSettings
from pose2rgbd_ros.settings import check, from_flat, to_flat

PRESETS = Path(__file__).resolve().parents[2] / "config" / "presets"
PAGES = PRESETS.parents[1] / "docs" / "consumers"
NAMES = sorted(yaml.safe_load((PRESETS / "remap.yaml").read_text()))
SETTINGS = {"/**/avoid": AvoidSettings, "/**/render": RenderSettings}


def parameters(file: str, *path: str) -> dict[str, Any]:
    found = yaml.safe_load((PRESETS / file).read_text())
    for key in path:
        found = found[key]
    return found["ros__parameters"]


def flat(values: dict[str, Any], inside: str = "") -> dict[str, Any]:
    """Nested parameters by their full names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{inside}{name}.") if isinstance(value, dict) else {inside + name: value}
    return found


def test_files_are_presets_that_can_be_named():
    files = {path.stem for path in PRESETS.glob("*.yaml")} - {"remap"}
    assert {name for name in files if not name.endswith("_consumer")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_our_nodes_exist_and_are_in_range(name):
    nodes = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    assert set(nodes) == set(SETTINGS)
    for node, settings in SETTINGS.items():
        given = flat(parameters(f"{name}.yaml", node))
        defaults = to_flat(settings())
        assert set(given) <= set(defaults)
        check(from_flat(settings, {**defaults, **given}))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "octomap_server_freeing"])
def test_distances_and_points_are_at_the_lower_bound(name):
    avoid = parameters(f"{name}.yaml", "/**/avoid")
    assert {avoid.get("bound", "lower"), avoid.get("cloud", "lower")} == {"lower"}


def test_octomap_gets_marks_and_no_rays():
    ours, theirs = (parameters("octomap_server.yaml", "/**/avoid"), parameters("octomap_server_consumer.yaml", "/**"))
    topics = yaml.safe_load((PRESETS / "remap.yaml").read_text())["octomap_server"]["avoid"]
    assert ours["cloud_marks"] is True
    assert ours["cloud_frame"] == "map", "the tracking server looks at no frame"
    assert theirs["listen_changes"] is True
    assert topics == {"~/points": theirs["topic_changes"]}
    assert theirs["topic_changes"] != "cloud_in", "whose rays free"
    assert "sensor_model.miss" not in theirs, "0.5 would make a wall of every live ray"


def test_nav2_clears_nothing_by_a_prediction():
    layer = parameters("nav2_consumer.yaml", "local_costmap", "local_costmap")
    source = layer["voxel_layer"]["predicted"]
    assert (source["marking"], source["clearing"]) == (True, False)
    assert layer["track_unknown_space"] is True
    assert layer["voxel_layer"]["unknown_threshold"] == 0


def test_nvblox_says_nothing_of_the_space_before_a_predicted_surface():
    theirs = parameters("nvblox_consumer.yaml", "/**")
    static = theirs["static_mapper"]
    assert theirs["mapping_type"] == "static_occupancy", "a TSDF frees along every ray"
    assert static["free_region_occupancy_probability"] == 0.5
    assert static["unobserved_region_occupancy_probability"] == 0.5
    assert static["occupied_region_occupancy_probability"] > 0.5
    assert static["occupied_region_half_width_m"] >= theirs["voxel_size"] / 2, "or surfaces fall between voxels"


def test_px4_flies_nowhere_without_data():
    lines = (PRESETS / "px4_consumer.params").read_text().splitlines()
    values = {line.split("\t")[2]: float(line.split("\t")[3]) for line in lines if not line.startswith("#")}
    assert values["CP_DIST"] > 0
    assert values["CP_GO_NO_DATA"] == 0


@pytest.mark.parametrize("page", sorted(page.stem for page in PAGES.glob("*.md") if page.stem != "README"))
def test_every_page_says_what_a_prediction_frees(page):
    assert "free" in (PAGES / f"{page}.md").read_text()
    assert f"({page}.md)" in (PAGES / "README.md").read_text()

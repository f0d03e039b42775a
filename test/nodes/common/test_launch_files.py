"""Every launch file, read as `ros2 launch` reads it: what would be started, with what, and what is refused before.

With the real `launch` installed that reads them, else test/support/launch_standin.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ament_index_python.packages
import pytest
import yaml
from support import launch_standin

from pose2rgbd_ros import settings
from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.cli.nodes import BESIDE, BESIDE_SIM, NODES, UpConfig, _node, _settings_of, _together
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.common import runner
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.nodes.sim.settings import SimSettings

REAL = importlib.util.find_spec("launch_ros") is not None  # `launch` alone is also a folder of ours
FILES = ("avoid", "bringup", "localize", "record", "render", "rviz", "sim")
SURROUNDING = "/set/around/us"
OTHERS = {"namespace": "drone1", "autostart": "false", "log_level": "debug", "use_respawn": "true"}


@dataclass
class Seen:
    """What a launch file does. `reached`: (file, what an include is given, what its arguments then are)."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    reached: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)

    def node(self, name: str) -> dict[str, Any]:
        found = [node for node in self.nodes if node["executable"] == name]
        assert len(found) == 1, f"{name}: {len(found)} times"
        return found[0]

    def parameters(self, name: str) -> dict[str, Any]:
        """Those that the launch file sets itself, above all files."""
        return {key: getattr(value, "value", value) for key, value in self.node(name)["parameters"][-1].items()}


class Reader:
    """Reads launch files of the checkout, and starts nothing."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.repository, self.seen = repository, Seen()
        self.model = folder / "model"
        self.model.mkdir()

    def source(self, name: str) -> Any:
        from launch.launch_description_sources import PythonLaunchDescriptionSource

        return PythonLaunchDescriptionSource(str(self.repository / "launch" / f"{name}.launch.py"))

    def declared(self, name: str) -> dict[str, Any]:
        from launch import LaunchContext

        description = self.source(name).get_launch_description(LaunchContext())
        return {item.name: item for item in description.get_launch_arguments()}

    def defaults(self, name: str) -> dict[str, str]:
        return {
            name: value if isinstance(value, str) else "".join(part.text for part in value)
            for name, value in ((n, item.default_value) for n, item in self.declared(name).items())
            if value is not None
        }

    def read(self, name: str, around: dict[str, str] | None = None, **arguments: str) -> Seen:
        from launch import LaunchContext
        from launch.actions import IncludeLaunchDescription

        context = LaunchContext()
        context.launch_configurations.update(around or {})
        self.seen = Seen()
        self._visit(IncludeLaunchDescription(self.source(name), launch_arguments=arguments.items()), context)
        return self.seen

    def _visit(self, entity: Any, context: Any) -> None:
        from launch.actions import IncludeLaunchDescription

        if hasattr(entity, "options"):  # a node
            options = dict(entity.options)
            options["environment"] = dict(os.environ)
            options["around"] = dict(context.launch_configurations)
            self.seen.nodes.append(options)
            if REAL and options["executable"] != "rviz2":
                entity._perform_substitutions(context)  # names, parameters and remappings are well formed
            return
        inner = entity.visit(context) or []
        for item in inner:
            if isinstance(entity, IncludeLaunchDescription) and item is inner[-1]:
                self._note(entity, context)
            self._visit(item, context)

    def _note(self, entity: Any, context: Any) -> None:
        """To be called when the arguments are set and the file itself comes next."""
        name = Path(entity.launch_description_source.location).name.removesuffix(".launch.py")
        given = {str(key): str(value) for key, value in entity.launch_arguments}
        known = self.declared(name)
        reached = {key: value for key, value in context.launch_configurations.items() if key in known}
        self.seen.reached.append((name, given, reached))


@pytest.fixture
def reader(repository, tmp_path, monkeypatch):
    for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("ament_index_python.packages.get_package_share_directory", lambda name: str(repository))
    prefix = ament_index_python.packages.get_package_prefix
    monkeypatch.setattr(
        "ament_index_python.packages.get_package_prefix", lambda name: "/usr" if name == "rviz2" else prefix(name)
    )
    if not REAL:
        launch_standin.install(tmp_path)
    else:
        import launch_ros.actions as actions

        for name in ("LifecycleNode", "Node"):

            class Recording(getattr(actions, name)):  # type: ignore[misc]
                def __init__(self, **options: Any) -> None:
                    self.options = options
                    super().__init__(**options)

            monkeypatch.setattr(actions, name, Recording)
    yield Reader(repository, tmp_path)
    if not REAL:
        launch_standin.remove()


def everything(reader: Reader) -> dict[str, str]:
    """All parts of bringup, each argument given."""
    return {
        **dict.fromkeys(("sim", "render", "avoid", "localize", "record", "rviz"), "true"),
        **OTHERS, "model": str(reader.model), "localize_model": str(reader.model), "renderer": str(reader.model),
        "camera_info_topic": "a", "preset": "px4", "odometry": "b", "image": "c", "camera_info": "d", "depth": "e",
        "body_frame": "f", "send_tf": "true", "out": "flight", "bag": "mcap", "position": "gps", "resume": "true",
        "start_recording": "false", "odom": "g", "fix": "h", "imu": "i", "gimbal": "j", "real_time_factor": "2",
        "plan": "survey", "seed": "3", "cars": "4", "people": "5", "tf": "odometry", "fastdds_profile": "false",
    }  # fmt: skip


def minimal(reader: Reader, name: str) -> dict[str, str]:
    needed = {"render": "model", "bringup": "model", "localize": "model"}
    return {needed[name]: str(reader.model)} if name in needed else {}


# What is started -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_nodes_executables_files_and_parameters_exist(reader, repository, name):
    for arguments in (minimal(reader, name), minimal(reader, name) | OTHERS):
        declared = reader.declared(name)
        seen = reader.read(name, **{key: value for key, value in arguments.items() if key in declared})
        assert seen.nodes
        for node in seen.nodes:
            if node["executable"] == "rviz2":
                assert Path(node["arguments"][1]).is_file()
                continue
            assert (node["package"], node["name"]) == ("pose2rgbd", node["executable"])
            assert node["executable"] in NODES
            known = settings.parameter_fields(_node(node["executable"])[1])
            for file in node["parameters"][:-1]:
                assert Path(file).is_relative_to(repository)
                flat(yaml.safe_load(Path(file).read_text())["/**"]["ros__parameters"], known)
            for parameter, value in seen.parameters(node["executable"]).items():
                if parameter != "use_sim_time":
                    default = known[parameter].default
                    assert isinstance(value, type(default)), f"{parameter} is {value!r}"


def flat(values: dict[str, Any], known: dict[str, Any], inside: str = "") -> None:
    """Every parameter of a file is one of the node's."""
    for key, value in values.items():
        if isinstance(value, dict):
            flat(value, known, f"{inside}{key}.")
        else:
            assert inside + key in known


@pytest.mark.parametrize("name", FILES)
def test_every_argument_says_what_it_is(reader, name):
    for argument in reader.declared(name).values():
        assert argument.description, argument.name


def test_choices_and_descriptions_are_those_of_the_nodes(reader):
    for name, cls, arguments in (
        ("sim", SimSettings, {"plan": "plan", "tf": "tf", "cars": "cars"}),
        ("record", RecordSettings, {"bag": "bag", "position": "position", "out": "out"}),
    ):
        for argument, parameter in arguments.items():
            field, declared = settings.flat_fields(cls)[parameter], reader.declared(name)[argument]
            choices = settings.choices(field)
            assert declared.choices == (["", *choices] if choices else None)
            assert declared.description.startswith(field.metadata["help"])  # launch adds the choices
    said = reader.declared("render")["camera_info_topic"].description
    assert said.endswith("; empty here and in params_file: the trained camera"), "empty leaves it to the file"
    presets = yaml.safe_load((reader.repository / "config" / "presets" / "remap.yaml").read_text())
    for name in ("avoid", "localize", "render"):
        assert set(reader.declared(name)["preset"].choices) == {"", *presets}


@pytest.mark.parametrize("name", ["avoid", "localize", "record", "render", "sim"])
def test_a_profile_reaches_its_node(reader, name):
    parameter = "world" if name == "sim" else "profile"
    seen = reader.read(name, **{parameter: "mine.yaml"}, **minimal(reader, name))
    assert seen.parameters(name)[parameter] == "mine.yaml"


def test_a_preset_stands_above_the_parameter_file_and_renames_topics(reader, repository):
    renamed = yaml.safe_load((repository / "config" / "presets" / "remap.yaml").read_text())["octomap_server"]["avoid"]
    node = reader.read("avoid", preset="octomap_server", autostart="false").node("avoid")
    assert renamed.items() <= dict(node["remappings"]).items()
    files = [str(repository / "config" / name) for name in ("avoid.yaml", "presets/octomap_server.yaml")]
    assert node["parameters"][:2] == files
    assert node["parameters"][2]["autostart"].value is False, "an argument is above both"


def test_only_the_shared_include_includes(repository):
    """Another way would hand on whatever is set around it."""
    for file in (repository / "launch").glob("*.launch.py"):
        assert "IncludeLaunchDescription" not in file.read_text(), file.name


def test_launch_files_need_no_library_of_the_nodes(repository):
    """ros2 launch runs in ROS' own Python, which has none of them: little of ours may be imported."""
    code = """
import sys
from pathlib import Path
from support import launch_standin
root = Path(sys.argv[1])
modules = set()
for file in sorted((root / "launch").glob("*.launch.py")):
    assert launch_standin.arguments_of(root, file.name)
    modules |= set(sys.modules)
print(*(name for name in modules if name.startswith("pose2rgbd_ros")))
print(*(name for name in ("torch", "tyro", "scipy", "cv2", "numba", "rosbags") if name in sys.modules))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(repository / "test"), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(repository)], env=environment, capture_output=True, text=True, timeout=600
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, libraries = done.stdout.split("\n")[:2]
    assert set(ours.split()) <= {
        "pose2rgbd_ros", "pose2rgbd_ros.nodes", "pose2rgbd_ros.nodes.common", "pose2rgbd_ros.nodes.common.launch_files"
    }  # fmt: skip
    assert not libraries


# What reaches an included file ---------------------------------------------------------------------------------------


def check_reached(reader: Reader, seen: Seen) -> None:
    assert seen.reached
    for name, given, reached in seen.reached[1:]:  # the first is the file itself
        assert reached == given, f"{name}: {set(reached.items()) ^ set(given.items())}"


@pytest.mark.parametrize("name", FILES)
def test_an_included_file_gets_what_is_named_for_it_and_nothing_else(reader, name):
    """Whatever is declared by ourselves, typed for nobody, or set by a file that includes us."""
    around = {
        argument: SURROUNDING
        for other in FILES
        for argument in reader.declared(other)
        if argument not in reader.declared(name)
    }
    seen = reader.read(name, around=around | {"ros_namespace": "/outer"}, **minimal(reader, name))
    check_reached(reader, seen) if name != "rviz" else None
    for node in seen.nodes:
        assert SURROUNDING not in json.dumps(
            {key: value for key, value in node.items() if key not in ("around", "environment")}, default=str
        )
        assert node["around"]["ros_namespace"] == "/outer", "a namespace pushed around us is meant for us"


def test_bringup_gives_each_part_its_own(reader):
    arguments = everything(reader)
    seen = reader.read("bringup", **arguments)
    check_reached(reader, seen)
    given = {name: values for name, values, _ in seen.reached[1:] if name != "rviz"}
    assert set(given) == {"sim", "render", "avoid", "localize", "record"}
    model = str(reader.model)
    assert (given["render"]["model"], given["avoid"]["model"], given["localize"]["model"]) == (model,) * 3
    assert "camera_info" not in given["avoid"]
    assert "depth" not in given["avoid"]
    assert all("rviz" not in values for values in given.values())
    assert sum(node["executable"] == "rviz2" for node in seen.nodes) == 1
    assert [node["executable"] for node in seen.nodes] == ["sim", "render", "avoid", "localize", "record", "rviz2"]
    assert all(node["namespace"] == "drone1" for node in seen.nodes)
    assert dict(seen.node("avoid")["remappings"])["depth_lower"] == "render/depth_lower/image"
    assert dict(seen.node("record")["remappings"]) == {
        "image": "c", "depth": "e", "camera_info": "d", "odom": "g", "fix": "h", "imu": "i", "gimbal": "j"
    }  # fmt: skip
    assert not any(
        "config/presets" in file for node in ("sim", "record") for file in map(str, seen.node(node)["parameters"])
    )
    assert {name: seen.parameters("sim")[name] for name in ("plan", "seed", "tf", "cars")} == {
        "plan": "survey", "seed": 3, "tf": "odometry", "cars": 4
    }  # fmt: skip


def test_bringup_flies_the_models_world_unless_told_otherwise(reader, tmp_path):
    model = str(reader.model)
    assert reader.read("bringup", model=model).parameters("sim")["model"] == model
    own = tmp_path / "sim.yaml"
    own.write_text("{}")
    for otherwise in ({"plan": "paper"}, {"seed": "0"}, {"world": "demo"}, {"sim_params_file": str(own)}):
        assert "model" not in reader.read("bringup", model=model, **otherwise).parameters("sim")


def test_bringup_and_up_listen_to_the_same_topics(reader):
    seen = reader.read(
        "bringup", model=str(reader.model), avoid="true", localize="true", localize_model=str(reader.model),
        record="true"
    )  # fmt: skip
    for name in ("avoid", "localize", "record"):
        assert dict(seen.node(name)["remappings"]) == BESIDE.get(name, {}) | BESIDE_SIM[name]
        assert seen.parameters(name)["use_sim_time"] is True
    assert seen.parameters("sim")["use_sim_time"] is False


@pytest.mark.parametrize("name", ["render", "sim", "bringup"])
def test_rviz_is_started_once(reader, name):
    seen = reader.read(name, rviz="true", **minimal(reader, name))
    assert [node["executable"] for node in seen.nodes].count("rviz2") == 1
    assert "rviz2" not in [node["executable"] for node in reader.read(name, **minimal(reader, name)).nodes]


# Refusals, ends and respawns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("render", {}, "needs model:=FOLDER"),
        ("localize", {}, "needs model:=FOLDER"),
        ("bringup", {}, "needs model:=FOLDER"),
        ("bringup", {"render": "false", "localize": "true"}, "needs localize_model:=FOLDER"),
        ("render", {"model": "/nowhere"}, "is not a folder"),
        ("bringup", {"render": "false", "model": "/nowhere"}, "is not a folder"),
        ("bringup", {"render": "false", "record_params_file": "/nowhere", "record": "true"}, "is not a file"),
        ("sim", {"params_file": "/nowhere"}, "is not a file"),
        ("sim", {"plan": "zigzag"}, "zigzag"),
        ("bringup", {"render": "false", "plan": "zigzag"}, "zigzag"),
        ("bringup", {"render": "false", "record": "true", "bag": "cdr"}, "cdr"),
        ("bringup", {"render": "false", "avoid": "true", "preset": "all"}, "all"),
        ("bringup", {"render": "false", "avoid": "yes"}, "yes"),
        ("bringup", {"render": "false", "rviz": "once"}, "once"),
        ("sim", {"seed": "three"}, "is no number"),
        ("record", {"resume": "perhaps"}, "perhaps"),
        ("rviz", {"view": "below"}, "below"),
        *((name, {"log_level": "loud"}, "loud") for name in FILES if name != "rviz"),
        *((name, {"use_respawn": "often"}, "often") for name in FILES if name != "rviz"),
        *((name, {"use_sim_time": "soon"}, "soon") for name in FILES if name not in ("sim", "bringup")),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_runs(reader, name, arguments, said):
    with pytest.raises(RuntimeError, match=said) as refused:
        reader.read(name, **arguments)
    assert "\n" not in str(refused.value)
    assert not reader.seen.nodes


def test_a_model_in_a_parameter_file_is_enough(reader, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("/**: {ros__parameters: {model: /some/where}}")
    for name in ("render", "localize"):
        assert "model" not in reader.read(name, params_file=str(own)).parameters(name)


def test_a_node_that_refuses_its_parameters_ends_the_launch(reader):
    class Event:
        process_name = "render-1"

    class Context:
        is_shutdown = False

    end = reader.read("render", model=str(reader.model)).node("render")["on_exit"]
    for status, ends in ((2, True), (0, False), (1, False), (-9, False), (-2, False)):
        Event.returncode = status
        if ends:
            with pytest.raises(RuntimeError, match="render-1"):
                end(Event, Context)
        else:
            assert end(Event, Context) is None


def test_nodes_have_time_to_end_and_a_recorder_is_not_killed(reader):
    seen = reader.read("bringup", **everything(reader))
    for node in seen.nodes:
        if node["executable"] != "rviz2":
            until_kill_s = float(node["sigterm_timeout"]) + float(node["sigkill_timeout"])
            assert until_kill_s >= (3600 if node["executable"] == "record" else 30)
            assert float(node["sigterm_timeout"]) <= 60, "one that has not heard SIGINT hears SIGTERM"
    quick = reader.read("sim", around={"sigterm_timeout": "1", "sigkill_timeout": "2"}).node("sim")
    assert (quick["sigterm_timeout"], quick["sigkill_timeout"]) == ("1", "2")


def test_only_a_recorder_that_may_be_started_again_has_a_session(reader):
    sessions = [reader.read("record", use_respawn="true").parameters("record")["session"] for _ in range(2)]
    assert len(set(sessions)) == 2, "an earlier launch's dataset is not gone on with"
    assert "session" not in reader.read("record").parameters("record")
    seen = reader.read("bringup", **everything(reader))
    assert [node["executable"] for node in seen.nodes if "session" in node["parameters"][-1]] == ["record"]
    assert all(node["respawn"] for node in seen.nodes if node["executable"] != "rviz2")


def test_fastdds_profile_is_set_for_the_node_and_not_beyond(reader, repository):
    node = reader.read("sim").node("sim")
    assert node["environment"]["FASTDDS_DEFAULT_PROFILES_FILE"] == str(repository / "config" / "fastdds.xml")
    assert reader.read("sim", fastdds_profile="false").node("sim")["environment"]["POSE2RGBD_NO_FASTDDS_PROFILE"] == "1"
    reader.read("bringup", fastdds_profile="false", model=str(reader.model))
    assert "POSE2RGBD_NO_FASTDDS_PROFILE" not in os.environ


# pose2rgbd up --------------------------------------------------------------------------------------------------------


def test_up_gives_each_node_what_bringup_does(tmp_path):
    names = ("sim", "render", "avoid")
    config = UpConfig(names, model=str(tmp_path), preset="octomap_server")
    assert [_settings_of(name, config).model for name in names] == [str(tmp_path)] * 3
    before, after = _together(config)
    values = dict(word.split(":=", 1) for word in before if ":=" in word)
    assert values == {f"{name}:use_sim_time": "true" for name in ("render", "avoid")}
    assert before[1:3] == ["--params-file", before[2]]
    assert Path(before[2]).name == "octomap_server.yaml"
    for rule in ("avoid:depth:=render/depth/image", "avoid:odometry:=truth/odometry"):
        assert rule in after
    assert _together(UpConfig(("render", "play"))) == ([], [])
    with pytest.raises(UserError, match="no preset 'all'"):
        _together(UpConfig(("render",), preset="all"))


@pytest.fixture
def spun(monkeypatch):
    """Names of the nodes that would run from here on: none does."""
    names: list[str] = []
    monkeypatch.setattr(
        runner, "_spin", lambda executor, nodes, stop: names.extend(node.get_name() for node in nodes) or 0
    )
    return names


@pytest.mark.ros
@pytest.mark.parametrize("command", [["render"], ["localize"], ["up", "sim", "render", "avoid"]])
def test_a_node_without_a_model_ends_at_once(ros_domain, capsys, spun, command):
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "has no model; give --model FOLDER" in error
    assert error.count("\n") == 1
    assert not spun


@pytest.mark.ros
@pytest.mark.parametrize(
    ("command", "names"),
    [
        (["render", "--model", "/some/where"], ["render"]),
        (["localize", "--ros-args", "-p", "model:=/some/where"], ["localize"]),
        (["render", "--ros-args", "-p", "autostart:=false"], ["render"]),
        (["up", "avoid", "localize", "--ros-args", "-p", "localize:model:=/some/where"], ["avoid", "localize"]),
    ],
)
def test_a_node_with_a_model_or_that_waits_for_one_runs(ros_domain, spun, command, names):
    """A lifecycle manager may set the model before it configures the node."""
    assert main(command) == 0
    assert spun == names

"""What our launch files use of `launch` and `launch_ros`, for machines without: enough to say what would be started.

Scopes follow the original's rules: an argument keeps the value that is set around it, an include sets its arguments
where it stands, and a group ends what was set inside. With the real packages installed the tests use those.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch


class LaunchContext:
    def __init__(self) -> None:
        self.launch_configurations: dict[str, str] = {}
        self.is_shutdown = False
        self.stack: list[tuple[dict[str, str], dict[str, str]]] = []


class LaunchDescriptionEntity:
    def visit(self, context: LaunchContext) -> list[Any] | None:
        return None


class LaunchDescription(LaunchDescriptionEntity):
    def __init__(self, entities: Iterable[Any]) -> None:
        self.entities = list(entities)

    def visit(self, context: LaunchContext) -> list[Any]:
        return self.entities

    def get_launch_arguments(self) -> list[DeclareLaunchArgument]:
        return [entity for entity in self.entities if isinstance(entity, DeclareLaunchArgument)]


class LaunchConfiguration:
    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: LaunchContext) -> str:
        return context.launch_configurations[self.name]


class DeclareLaunchArgument(LaunchDescriptionEntity):
    def __init__(
        self, name: str, *, default_value: str | None = None, description: str = "", choices: list[str] | None = None
    ) -> None:
        self.name, self.default_value, self.description, self.choices = (name, default_value, description, choices)
        if choices is not None and default_value is not None and default_value not in choices:
            raise RuntimeError(f"the default {default_value!r} of {name} is none of {choices}")

    def visit(self, context: LaunchContext) -> None:
        if self.name not in context.launch_configurations:
            if self.default_value is None:
                raise RuntimeError(f"Required launch argument {self.name!r} was not provided.")
            context.launch_configurations[self.name] = self.default_value
        value = context.launch_configurations[self.name]
        if self.choices is not None and value not in self.choices:
            raise RuntimeError(f'Argument "{self.name}" provided value "{value}" is not valid.')


class SetLaunchConfiguration(LaunchDescriptionEntity):
    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value

    def visit(self, context: LaunchContext) -> None:
        context.launch_configurations[self.name] = self.value


class UnsetLaunchConfiguration(LaunchDescriptionEntity):
    def __init__(self, name: str) -> None:
        self.name = name

    def visit(self, context: LaunchContext) -> None:
        context.launch_configurations.pop(self.name, None)


class SetEnvironmentVariable(LaunchDescriptionEntity):
    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value

    def visit(self, context: LaunchContext) -> None:
        os.environ[self.name] = self.value


class OpaqueFunction(LaunchDescriptionEntity):
    def __init__(self, *, function: Any) -> None:
        self.function = function

    def visit(self, context: LaunchContext) -> list[Any] | None:
        return self.function(context)


class _Push(LaunchDescriptionEntity):
    def visit(self, context: LaunchContext) -> None:
        context.stack.append((dict(context.launch_configurations), dict(os.environ)))


class _Pop(LaunchDescriptionEntity):
    def visit(self, context: LaunchContext) -> None:
        configurations, environment = context.stack.pop()
        context.launch_configurations.clear()
        context.launch_configurations.update(configurations)
        os.environ.clear()
        os.environ.update(environment)


class GroupAction(LaunchDescriptionEntity):
    def __init__(self, actions: Iterable[Any]) -> None:
        self.actions = list(actions)

    def visit(self, context: LaunchContext) -> list[Any]:
        return [_Push(), *self.actions, _Pop()]


class PythonLaunchDescriptionSource:
    def __init__(self, location: str) -> None:
        self.location = location
        self._description: LaunchDescription | None = None

    def get_launch_description(self, context: LaunchContext) -> LaunchDescription:
        if self._description is None:
            spec = importlib.util.spec_from_file_location("launch_file", self.location)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self._description = module.generate_launch_description()
        return self._description


class IncludeLaunchDescription(LaunchDescriptionEntity):
    def __init__(self, source: PythonLaunchDescriptionSource, *, launch_arguments: Iterable[Any] = ()) -> None:
        self.launch_description_source, self.launch_arguments = source, list(launch_arguments)

    def visit(self, context: LaunchContext) -> list[Any]:
        description = self.launch_description_source.get_launch_description(context)
        return [*(SetLaunchConfiguration(*pair) for pair in self.launch_arguments), description]


class ParameterValue:
    def __init__(self, value: Any, *, value_type: type) -> None:
        self.value = value_type(value)


class Node(LaunchDescriptionEntity):
    def __init__(self, **options: Any) -> None:
        self.options = options


class LifecycleNode(Node):
    pass


MODULES = {
    "launch": (LaunchContext, LaunchDescription, LaunchDescriptionEntity),
    "launch.actions": (
        DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction, SetEnvironmentVariable,
        SetLaunchConfiguration, UnsetLaunchConfiguration,
    ),
    "launch.events": (),
    "launch.events.process": (type("ProcessExited", (), {}),),
    "launch.launch_description_sources": (PythonLaunchDescriptionSource,),
    "launch.logging": (),
    "launch.substitutions": (LaunchConfiguration,),
    "launch_ros": (),
    "launch_ros.actions": (LifecycleNode, Node),
    "launch_ros.parameter_descriptions": (ParameterValue,),
}  # fmt: skip


def install(log_folder: Path) -> None:
    """Make these the packages `launch` and `launch_ros` of this process."""
    for name, members in MODULES.items():
        module = sys.modules[name] = ModuleType(name)
        for member in members:
            setattr(module, member.__name__, member)
    config = type("LaunchConfig", (), {"log_dir": str(log_folder)})
    sys.modules["launch.logging"].launch_config = config  # type: ignore[attr-defined]


def remove() -> None:
    """Take them away again, and the module of ours that took them for the originals."""
    for name in (*MODULES, "pose2rgbd_ros.nodes.common.launch_files"):
        sys.modules.pop(name, None)


@cache
def arguments_of(root: Path, file: str) -> frozenset[str]:
    """Names of a launch file's arguments, read by the real `launch` or what stands in for it."""
    real = importlib.util.find_spec("launch_ros") is not None
    if not real:
        install(root)
    try:
        from launch import LaunchContext
        from launch.launch_description_sources import PythonLaunchDescriptionSource

        with patch("ament_index_python.packages.get_package_share_directory", lambda name: str(root)):
            source = PythonLaunchDescriptionSource(str(root / "launch" / file))
            description = source.get_launch_description(LaunchContext())
            return frozenset(item.name for item in description.get_launch_arguments())
    finally:
        if not real:
            remove()

"""ROS parameters from a settings dataclass: names, types, descriptions, bounds and checks come from its fields."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterException,
    ParameterNotDeclaredException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.common.runner import share_directory

T = TypeVar("T")
_UNBOUNDED = {int: (-(2**63), 2**63 - 1), float: (-sys.float_info.max, sys.float_info.max)}
_ROS_OWN = ("use_sim_time", "start_type_description_service", "qos_overrides.")
# Node -> name of a profile -> the settings of a node that is given no parameters but that profile.
_profiles: WeakKeyDictionary[Node, dict[str, Any]] = WeakKeyDictionary()


def declare(node: Node, defaults: T) -> T:
    """Declare the parameters of a settings dataclass and return the values the node was started with.

    `defaults` are for what ROS (a parameter file, -p) says nothing about: the command line's flags, or the dataclass'
    own. A field that is itself a dataclass becomes parameters with its name in front: `scan.bins`. Settings of the
    profile are read from the file that the parameter of the name PROFILE names. Values set later are refused, with the
    reason, when the field's bounds or choices forbid them; what is allowed takes effect when the node reads it with
    :func:`read`. UserError names a bad value given at the start, and a parameter that went.
    """
    cls, values = type(defaults), settings.to_flat(defaults)
    fields = settings.parameter_fields(cls)
    for name in node._parameter_overrides:  # rclpy itself ignores those that nobody declares
        if gone := _gone(cls, name):
            raise UserError(f"node {node.get_name()}: {gone}")
        if name not in fields and not name.startswith(_ROS_OWN):
            node.get_logger().warning(f"there is no parameter {name}{settings.nearest(name, fields)}")
    for name, field in fields.items():
        try:
            node.declare_parameter(name, _plain(values[name]), _descriptor(field))
        except InvalidParameterTypeException as error:
            raise UserError(_wrong_type(node, name, field, error)) from error
        except (InvalidParameterValueException, ParameterException) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"node {node.get_name()}, parameter {name}: {reason}") from error
    _profiles[node] = {_profile_name(cls, values): defaults}
    started_with = read(node, cls)
    settings.check(started_with)
    node.add_pre_set_parameters_callback(lambda changed: _refuse_gone(cls, changed))
    node.add_on_set_parameters_callback(lambda changed: _judge(node, cls, changed))
    return started_with


def read(node: Node, cls: type[T]) -> T:
    """The settings as they are now."""
    return would_be(node, cls, [])


def would_be(node: Node, cls: type[T], changed: list[Parameter]) -> T:
    """The settings as they would be with these changes; touches nothing. UserError for a profile that is none."""
    fields, given = settings.parameter_fields(cls), {parameter.name: parameter.value for parameter in changed}
    values = {name: given[name] if name in given else node.get_parameter(name).value for name in fields}
    profile, known = _profile_name(cls, values), _profiles[node]
    if profile not in known or getattr(cls, "PROFILE", "") in given:
        plain = known.get("", cls())
        known[profile] = settings.with_profile(plain, profile_file(cls, profile)) if profile else plain
    return settings.from_flat(cls, settings.to_flat(known[profile]) | values)


# Profiles, and the names of parameters that went into them -----------------------------------------------------------


def profile_file(cls: type[Any], name: str) -> Path:
    """The file of a profile, itself or by its name in config/PROFILEs. UserError when there is none of that name."""
    if "/" in name or name.endswith((".yaml", ".yml")):
        return Path(name).expanduser()
    folder = share_directory() / "config" / f"{cls.PROFILE}s"
    if not (folder / f"{name}.yaml").is_file():
        ours = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise UserError(f"{cls.PROFILE} is '{name}'; give a YAML file{ours and f', or one of: {ours}'}")
    return folder / f"{name}.yaml"


def _profile_name(cls: type[Any], values: dict[str, Any]) -> str:
    return str(values.get(getattr(cls, "PROFILE", ""), ""))


def _gone(cls: type[Any], name: str) -> str:
    """What is to be set in place of a parameter that went; empty: it did not."""
    if name not in settings.profile_fields(cls):
        return ""
    instead = getattr(cls, "INSTEAD", {}).get(name)
    return (
        f"{name} is no ROS parameter any more; {f'set {instead}, or' if instead else 'set'} {name} in the YAML file "
        f"that the parameter {cls.PROFILE} names"
    )


class _Gone(ParameterNotDeclaredException):
    """The error that a client of the parameter services gets to read."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(name)
        self._said = said

    def __str__(self) -> str:
        return self._said


def _refuse_gone(cls: type[Any], changed: list[Parameter]) -> list[Parameter]:
    for parameter in changed:
        if gone := _gone(cls, parameter.name):
            raise _Gone(parameter.name, gone)
    return changed


def _judge(node: Node, cls: type[Any], changed: list[Parameter]) -> SetParametersResult:
    """Whether the settings with these changes would be good; touches nothing."""
    try:
        settings.check(would_be(node, cls, changed))
    except UserError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def _descriptor(field: dataclasses.Field[Any]) -> ParameterDescriptor:
    limits, kind, choices = field.metadata, type(settings.default_of(field)), settings.choices(field)
    descriptor = ParameterDescriptor(description=limits["help"], read_only=limits["read_only"])
    if choices:
        descriptor.additional_constraints = "one of: " + ", ".join(map(str, choices))
    if kind in _UNBOUNDED and (limits["ge"] is not None or limits["le"] is not None):
        low, high = _UNBOUNDED[kind]
        low = low if limits["ge"] is None else kind(limits["ge"])
        high = high if limits["le"] is None else kind(limits["le"])
        if kind is float:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        else:
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    return descriptor


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _wrong_type(node: Node, name: str, field: dataclasses.Field[Any], error: Exception) -> str:
    expected = type(settings.default_of(field)).__name__
    hints = {"float": "; write it like 1.0", "tuple": "; write it like [1.0, 2.0, 3.0]"}
    hint = hints.get(expected, "")
    return f"node {node.get_name()}, parameter {name} must be of type {expected}{hint} ({error})"

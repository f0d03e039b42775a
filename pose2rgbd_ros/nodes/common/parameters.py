"""ROS parameters from a settings dataclass: names, types, descriptions, bounds and checks come from its fields."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException, ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError

T = TypeVar("T")
_UNBOUNDED = {int: (-(2**63), 2**63 - 1), float: (-sys.float_info.max, sys.float_info.max)}


def declare(node: Node, defaults: T) -> T:
    """Declare every field of a settings dataclass and return the values the node was started with.

    `defaults` are for what ROS (a parameter file, -p) says nothing about: the command line's flags, or the dataclass'
    own. A field that is itself a dataclass becomes parameters with its name in front: `city.seed`. Values set later
    are refused, with the reason, when the field's bounds or choices forbid them; what is allowed takes effect when
    the node reads it with :func:`read`. UserError names a bad value given at the start.
    """
    cls, values = type(defaults), settings.to_flat(defaults)
    for name, field in settings.flat_fields(cls).items():
        try:
            node.declare_parameter(name, _plain(values[name]), _descriptor(field))
        except InvalidParameterTypeException as error:
            raise UserError(_wrong_type(node, name, field, error)) from error
        except (InvalidParameterValueException, ParameterException) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"node {node.get_name()}, parameter {name}: {reason}") from error
    started_with = read(node, cls)
    settings.check(started_with)
    node.add_on_set_parameters_callback(lambda changed: _judge(node, cls, changed))
    return started_with


def read(node: Node, cls: type[T]) -> T:
    """The settings as they are now."""
    return settings.from_flat(cls, {name: node.get_parameter(name).value for name in settings.flat_fields(cls)})


def would_be(node: Node, cls: type[T], changed: list[Parameter]) -> T:
    """The settings as they would be with these changes; touches nothing."""
    values = settings.to_flat(read(node, cls))
    values.update({parameter.name: parameter.value for parameter in changed if parameter.name in values})
    return settings.from_flat(cls, values)


def _judge(node: Node, cls: type[Any], changed: list[Parameter]) -> SetParametersResult:
    """Whether the settings with these changes would be good; touches nothing."""
    try:
        settings.check(would_be(node, cls, changed))
    except UserError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def _descriptor(field: dataclasses.Field[Any]) -> ParameterDescriptor:
    limits, kind, choices = field.metadata, type(_default(field)), settings.choices(field)
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


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _wrong_type(node: Node, name: str, field: dataclasses.Field[Any], error: Exception) -> str:
    expected = type(_default(field)).__name__
    hints = {"float": "; write it like 1.0", "tuple": "; write it like [1.0, 2.0, 3.0]"}
    hint = hints.get(expected, "")
    return f"node {node.get_name()}, parameter {name} must be of type {expected}{hint} ({error})"

"""One definition of every setting: a dataclass field feeds the command line, the YAML files and the ROS parameters."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from pose2rgbd_ros.errors import UserError

T = TypeVar("T")


def setting(
    default: Any, help: str, *, ge: float | None = None, le: float | None = None, read_only: bool = False
) -> Any:
    """A dataclass field with its description, which the command line prints, and its bounds.

    A choice among few is a Literal type. Mutable defaults are copied per instance.
    """
    metadata = {"help": help, "ge": ge, "le": le, "read_only": read_only}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@cache
def _fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a dataclass, whose types are types and not the text of the source."""
    hints, fields = get_type_hints(cls), tuple(map(copy.copy, dataclasses.fields(cls)))
    for field in fields:
        field.type = hints[field.name]
    return fields


def choices(field: dataclasses.Field[Any]) -> tuple[Any, ...] | None:
    """What a field of :func:`flat_fields` may be, if its type is a Literal, or one or None."""
    optional = NoneType in get_args(field.type)
    for kind in get_args(field.type) if optional else (field.type,):
        if get_origin(kind) is Literal:
            return (None, *get_args(kind)) if optional else get_args(kind)
    return None


def flat_fields(cls: type[Any], inside: str = "") -> dict[str, dataclasses.Field[Any]]:
    """All settings of a dataclass by name; those of settings within it as "part.name"."""
    found: dict[str, dataclasses.Field[Any]] = {}
    for field in _fields(cls):  # type: ignore[arg-type]
        part = field.default_factory
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            found.update(flat_fields(part, f"{inside}{field.name}."))
        else:
            found[inside + field.name] = field
    return found


def to_flat(config: Any, inside: str = "") -> dict[str, Any]:
    """The values by the names of :func:`flat_fields`."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), inside + field.name
        values.update(to_flat(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value})
    return values


def from_flat(cls: type[T], values: dict[str, Any], inside: str = "") -> T:
    """The inverse of :func:`to_flat`; lists become tuples where the setting is one."""
    made: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        part, name = field.default_factory, inside + field.name
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            made[field.name] = from_flat(part, values, f"{name}.")
        else:
            made[field.name] = tuple(values[name]) if isinstance(field.default, tuple) else values[name]
    return cls(**made)


# Profiles: settings of a node that are no ROS parameters ------------------------------------------------------------


def profile_fields(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """What a node reads from its profile, a YAML file: the fields that IN_PROFILE of its settings names, and the parts
    with all of theirs.

    All other fields are ROS parameters; the one called PROFILE names the file.
    """
    chosen = getattr(cls, "IN_PROFILE", ())
    return {name: field for name, field in flat_fields(cls).items() if {name, name.partition(".")[0]} & set(chosen)}


def parameter_fields(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The fields that are ROS parameters."""
    return {name: field for name, field in flat_fields(cls).items() if name not in profile_fields(cls)}


def profile_setting() -> Any:
    """The field that names the profile of a node."""
    return setting("", "YAML file with the settings that are no ROS parameters; empty: all of them at their defaults")


def with_profile(config: T, file: Path) -> T:
    """The settings with those of a profile. UserError names the file and what is wrong in it."""
    cls = type(config)
    fields, values = profile_fields(cls), to_flat(config)
    for name, value in flat_dict(read_yaml(file)).items():
        if name not in fields:
            raise UserError(f"{file}: {_unknown(name, cls)}")
        values[name] = _typed(f"{file}: {name}", value, default_of(fields[name]))
    made = from_flat(cls, values)
    try:
        check(made)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    return made


def profile_of(config: Any) -> dict[str, Any]:
    """The settings of a profile that are not at their defaults, as :func:`with_profile` reads them."""
    nested: dict[str, Any] = {}
    for name, value in to_flat(config).items():
        field = profile_fields(type(config)).get(name)
        if field is not None and value != default_of(field):
            part, _, last = name.rpartition(".")
            (nested.setdefault(part, {}) if part else nested)[last] = list(value) if isinstance(value, tuple) else value
    return nested


def _unknown(name: str, cls: type[Any]) -> str:
    if ".ros__parameters." in name:
        return "this is a file of ROS parameters (params_file, --params-file); a profile holds settings by themselves"
    if name in parameter_fields(cls):
        return f"{name} is a ROS parameter; set it in a parameter file or with -p"
    return f"there is no setting {name}{nearest(name, profile_fields(cls))}"


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown name, for messages; empty: nothing is near."""
    found = difflib.get_close_matches(name, known, 1)
    return f"; the nearest is {found[0]}" if found else ""


def _typed(name: str, value: Any, default: Any) -> Any:
    """A value from YAML in the type of its setting. UserError when it is of another one."""
    kind = type(default)
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # 2e-05 is text to PyYAML
        except ValueError:
            pass
    elif kind is tuple and isinstance(value, list):
        return tuple(_typed(name, item, default[0]) for item in value)
    if type(value) is not kind:
        raise UserError(f"{name} is {value!r}; it must be of type {kind.__name__}")
    return value


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def flat_dict(values: dict[str, Any], inside: str = "") -> dict[str, Any]:
    """Settings by their full names: {"city": {"seed": 0}} -> {"city.seed": 0}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(flat_dict(value, f"{inside}{name}.") if isinstance(value, dict) else {f"{inside}{name}": value})
    return flat


# Checks and files ----------------------------------------------------------------------------------------------------


def check(config: Any, inside: str = "") -> None:
    """Raise UserError for the first field outside its bounds or choices; settings within settings are checked too."""
    for field in _fields(type(config)):  # type: ignore[arg-type]
        value, limits, name = getattr(config, field.name), field.metadata, inside + field.name
        if dataclasses.is_dataclass(value):
            check(value, f"{name}.")
            continue
        allowed = choices(field)
        if allowed is not None and value not in allowed:
            raise UserError(f"{name} is {value!r}; choose one of: {', '.join(map(str, allowed))}")
        if value is None or isinstance(value, (str, list, dict, tuple)):
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} is {value}; it must be a finite number")
        if limits.get("ge") is not None and not value >= limits["ge"]:
            raise UserError(f"{name} is {value}; it must be at least {limits['ge']}")
        if limits.get("le") is not None and not value <= limits["le"]:
            raise UserError(f"{name} is {value}; it must be at most {limits['le']}")


def to_yaml_dict(config: Any) -> dict[str, Any]:
    """Plain YAML-ready values of a settings dataclass (paths as text, tuples as lists)."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value

    return {key: plain(value) for key, value in dataclasses.asdict(config).items()}


def from_yaml_dict(cls: type[T], values: dict[str, Any], where: str = "configuration") -> T:
    """The inverse of :func:`to_yaml_dict`; unknown keys and values out of bounds raise UserError."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a mapping of settings, found {type(values).__name__}")
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UserError(f"{where}: unknown setting {', '.join(unknown)}; known ones: {', '.join(known)}")
    values = {
        name: tuple(value) if isinstance(value, list) and isinstance(known[name].default, tuple) else value
        for name, value in values.items()
    }
    try:
        config = cls(**values)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from error
    check(config)
    return config


def write_yaml(path: Path, values: dict[str, Any]) -> None:
    """Write YAML so that a reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    temporary.replace(path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; UserError names the file when it is missing, broken or not a mapping."""
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as YAML ({reason})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no YAML mapping")
    return values

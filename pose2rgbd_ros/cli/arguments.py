"""Settings dataclasses on the command line: their help texts, which tyro does not know where to find."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

T = TypeVar("T")


def with_help(cls: type[T]) -> type[T]:
    """A subclass of a settings dataclass (see `settings.setting`) whose help texts tyro shows; also of ones within."""
    hints = get_type_hints(cls, include_extras=True)
    fields: list[Any] = []
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        kind = hints[item.name]
        if item.default_factory is kind:  # settings of a part, with their own defaults
            kind = with_help(kind)
            fields.append((item.name, kind, dataclasses.field(default_factory=kind)))
            continue
        if item.metadata.get("help"):
            kind = Annotated[kind, tyro.conf.arg(help=_help(item, kind))]
        if item.default_factory is not dataclasses.MISSING:
            default = dataclasses.field(default_factory=item.default_factory, metadata=dict(item.metadata))
        else:
            default = dataclasses.field(default=item.default, metadata=dict(item.metadata))
        fields.append((item.name, kind, default))
    frozen = cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    made = dataclasses.make_dataclass(cls.__name__, fields, bases=(cls,), frozen=frozen)
    made.__doc__ = cls.__doc__
    return made


def _help(item: dataclasses.Field[Any], kind: Any) -> str:
    """The help text, with the choices where the type (a Literal) does not tell them already."""
    text, choices = str(item.metadata["help"]), item.metadata.get("choices")
    return f"{text}; one of: {', '.join(choices)}" if kind is str and choices else text

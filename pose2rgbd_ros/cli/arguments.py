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
            part: Any = with_help(hints[item.name])
            fields.append((item.name, part, dataclasses.field(default_factory=part)))
            continue
        if item.metadata.get("help"):
            kind = Annotated[kind, tyro.conf.arg(help=_help(item, kind))]
        if item.default_factory is not dataclasses.MISSING:
            default = dataclasses.field(default_factory=item.default_factory, metadata=dict(item.metadata))
        else:
            default = dataclasses.field(default=item.default, metadata=dict(item.metadata))
        fields.append((item.name, kind, default))
    frozen = cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    # Another process knows the settings under their own name only.
    pickled_as = {"__reduce__": lambda self: (cls, tuple(getattr(self, name) for name, *_ in fields))}
    made = dataclasses.make_dataclass(cls.__name__, fields, bases=(cls,), frozen=frozen, namespace=pickled_as)
    made.__doc__ = cls.__doc__
    return made


def _help(item: dataclasses.Field[Any], kind: Any) -> str:
    """The help text, with the choices where the type (a Literal) does not tell them already."""
    text, choices = str(item.metadata["help"]), item.metadata.get("choices")
    return f"{text}; one of: {', '.join(choices)}" if kind is str and choices else text

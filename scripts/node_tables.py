"""The parameters of every node, from its settings dataclass.

They go into the tables of docs/nodes/, the files config/NODE.yaml, and what launch files say of those they set
(config/launch_arguments.yaml). Settings of a node's profile, which are no parameters, stand in a file of their own
(config/profiles/NODE.yaml, config/worlds/default.yaml), to which the page links.

    python scripts/node_tables.py            # which of them are stale; exit status 1 when one is
    python scripts/node_tables.py --write    # bring them up to date

A page holds its tables between the markers BEGIN and END; the rest of the page is written by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pose2rgbd_ros import settings
from pose2rgbd_ros.cli.nodes import NODES, _node
from pose2rgbd_ros.reports.table import Table

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- parameters: written by scripts/node_tables.py -->"
END = "<!-- end of parameters -->"
WITH_FILE = ("render", "avoid", "localize", "record", "sim")  # the nodes that launch files start
WIDTH = 120
TYPES = {"bool": "bool", "int": "int", "float": "double", "str": "string", "tuple": "double[]"}
UNITS = {
    "m": "m", "s": "s", "ms": "ms", "min": "min", "hz": "Hz", "px": "px", "deg": "deg", "mps": "m/s", "mps2": "m/s²",
    "mps3": "m/s³", "radps": "rad/s", "pa": "Pa", "ppm": "ppm", "mib": "MiB",
}  # fmt: skip


# What the definition says of a parameter ------------------------------------------------------------------------------


Fields = dict[str, dataclasses.Field[Any]]


def parts_of(cls: type[Any], wanted: Fields, inside: str = "") -> Iterator[tuple[str, str, Fields]]:
    """Each dataclass within `cls` that has any of the settings wanted, itself first: (prefix of its names, first line
    of its docstring, those settings).
    """
    own = [field.name for field in dataclasses.fields(cls)]
    first = vars(cls).get("__annotations__", {})  # before those it inherits
    ordered = [inside + name for name in sorted(own, key=lambda name: name not in first)]
    if found := {name: wanted[name] for name in ordered if name in wanted}:
        yield inside, (cls.__doc__ or "").strip().splitlines()[0], found
    for field in dataclasses.fields(cls):
        if isinstance(field.default_factory, type) and dataclasses.is_dataclass(field.default_factory):
            yield from parts_of(field.default_factory, wanted, f"{inside}{field.name}.")


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default, as ROS and YAML have it."""
    value = settings.default_of(field)
    return list(value) if isinstance(value, tuple) else value


def unit_of(name: str) -> str:
    """The unit a name ends with: walk_m_per_sqrt_s is in m/√s. Empty: none."""
    words = name.rpartition(".")[2].split("_")
    below = ""
    for sign in (["per", "sqrt"], ["sqrt"], ["per"]):
        if len(words) > len(sign) and words[-1 - len(sign) : -1] == sign and words[-1] in UNITS:
            below = f"/{'√' if 'sqrt' in sign else ''}{UNITS[words[-1]]}"
            words = words[: -1 - len(sign)]
            break
    above = UNITS.get(words[-1], "") if len(words) > 1 else ""
    return above + below if above else f"1{below}" if below else ""


def allowed(name: str, field: dataclasses.Field[Any]) -> str:
    """Choices, or bounds with their unit; empty: anything."""
    choices = settings.choices(field)
    if choices:
        return ", ".join(map(str, choices))
    low, high = (field.metadata[key] for key in ("ge", "le"))
    ends = ["" if end is None else f"{end:,.12g}" for end in (low, high)]
    spread = " to ".join(ends) if all(ends) else f"at least {ends[0]}" if ends[0] else f"at most {ends[1]}"
    return " ".join(filter(None, (spread if any(ends) else "", unit_of(name))))


def described(field: dataclasses.Field[Any]) -> str:
    """The description as a sentence."""
    text = field.metadata["help"]
    return f"{text[0].upper()}{text[1:]}."


# Pages ---------------------------------------------------------------------------------------------------------------


def tables(node: str) -> str:
    """All parameters as Markdown, a table for each part, and where the settings of the profile are."""
    cls = _node(node)[1]
    blocks = []
    for prefix, title, part in parts_of(cls, settings.parameter_fields(cls)):
        table = Table.of(dict.fromkeys(("parameter", "type", "default", "allowed", "what it does"), ""))
        for name, field in part.items():
            default = default_of(field)
            kind = "tuple" if isinstance(default, list) else type(default).__name__
            shown = json.dumps(default, ensure_ascii=False)
            table.add(f"`{name}`", TYPES[kind], f"`{shown}`", allowed(name, field), described(field))
        blocks += [*_wrapped(f"**{prefix}\\*** {title}"), table.markdown()] if prefix else [table.markdown()]
    if settings.profile_fields(cls):
        file = profile_path(node).as_posix()
        blocks += _wrapped(
            f"Settings of the {cls.PROFILE} are no ROS parameters: [{file}](../../{file}) has each with default and "
            f"range. Give a copy of what you change as `{cls.PROFILE}`, or flags to `pose2rgbd`."
        )
    return "\n\n".join(blocks)


def _wrapped(text: str) -> list[str]:
    return ["\n".join(textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))]


def page_of(node: str, text: str) -> str:
    """The page with its tables as they should be. ValueError when it has no place for them."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"the page of {node} needs one line {BEGIN} and one line {END} after it")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables(node)}\n\n{END}{rest.partition(END)[2]}"


# Parameter files -----------------------------------------------------------------------------------------------------


def parameter_file(node: str) -> str:
    """config/NODE.yaml: every parameter with its default. `autostart` is a launch argument."""
    heading = f"""# Parameters of the {node} node and their defaults, as docs/nodes/{node}.md lists them; written by
# scripts/node_tables.py from the node's settings. Copy what you change:
# ros2 launch pose2rgbd {node}.launch.py params_file:=/your/copy.yaml
/**:
  ros__parameters:"""
    cls = _node(node)[1]
    fields = {name: field for name, field in settings.parameter_fields(cls).items() if name != "autostart"}
    return "\n".join([heading, *_yaml_lines(cls, fields, "    ")]) + "\n"


def profile_path(node: str) -> Path:
    """Where the settings of a node's profile stand with their defaults, in the repository."""
    profile = _node(node)[1].PROFILE
    return Path("config", f"{profile}s", f"{'default' if profile == 'world' else node}.yaml")


def profile_of(node: str) -> str:
    """A profile with everything it may say, at its default."""
    cls = _node(node)[1]
    heading = f"""# The {cls.PROFILE} of the {node} node: its settings that are no ROS parameters, at their defaults;
# written by scripts/node_tables.py. What a file leaves out stays so. Copy what you change, and name the
# copy by the parameter {cls.PROFILE}."""
    return "\n".join([heading, *_yaml_lines(cls, settings.profile_fields(cls), "")]) + "\n"


def _yaml_lines(cls: type[Any], fields: Fields, outer: str) -> Iterator[str]:
    """Settings with their defaults, what they do and what they may be."""
    for prefix, title, part in parts_of(cls, fields):
        indent = outer + "  " * prefix.count(".")
        if prefix:
            yield from ["", *_comment(title, indent[2:]), f"{indent[2:]}{prefix.split('.')[-2]}:"]
        for name, field in part.items():
            limits = allowed(name, field)
            yield from _comment(described(field) + (f" [{limits}]" if limits else ""), indent)
            yield f"{indent}{name.rpartition('.')[2]}: {_yaml(default_of(field))}"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _yaml(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"^(\d+)e", r"\1.0e", text) if isinstance(value, float) else text  # 2e-05 would be text to PyYAML


# Launch files --------------------------------------------------------------------------------------------------------


def launch_arguments(root: Path) -> str:
    """config/launch_arguments.yaml: type, description and choices of each name in ours.parameters("NODE", "NAME", ...
    of a launch file.

    ROS' own Python runs launch files and cannot import the dataclasses, which bring the nodes' libraries along.
    ValueError for a parameter that the node has not.
    """
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((root / "launch").glob("*.launch.py")):
        words = re.findall(r"\bours\.parameters\(([^)]*)\)", file.read_text())
        node, *names = re.findall(r'"(\w+)"', words[0].partition("needed")[0]) if words else [""]
        for name in names:
            field = settings.parameter_fields(_node(node)[1]).get(name)
            if field is None:
                raise ValueError(f"{file.name} sets {name}, which is no parameter of {node}")
            choices = settings.choices(field)
            found.setdefault(node, {})[name] = {
                "type": type(default_of(field)).__name__,
                "description": field.metadata["help"],
                **({"choices": list(choices)} if choices else {}),
            }
    heading = "# What launch files say of the parameters they set; by scripts/node_tables.py.\n"
    return heading + yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=WIDTH - 20)


# Command line --------------------------------------------------------------------------------------------------------


def generated(root: Path = ROOT) -> dict[Path, str]:
    """Every file and what it should hold. ValueError for a page that is missing or has no place for its tables."""
    found = {}
    for node in NODES:
        page = root / "docs" / "nodes" / f"{node}.md"
        if not page.is_file():
            raise ValueError(f"the node {node} has no page docs/nodes/{node}.md")
        found[page] = page_of(node, page.read_text())
    found[root / "config" / "launch_arguments.yaml"] = launch_arguments(root)
    found |= {root / profile_path(node): profile_of(node) for node in NODES if settings.profile_fields(_node(node)[1])}
    return found | {root / "config" / f"{node}.yaml": parameter_file(node) for node in WITH_FILE}


def stale(root: Path = ROOT) -> list[str]:
    """The files that do not hold what they should."""
    return [
        str(file.relative_to(root))
        for file, text in generated(root).items()
        if not file.is_file() or file.read_text() != text
    ]


def main() -> int:
    """Exit status 1 when files are stale and stay so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files that are stale")
    write = parser.parse_args().write
    try:
        old = stale()
        if write:
            for file, text in generated().items():
                file.parent.mkdir(exist_ok=True)
                file.write_text(text)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for name in old:
        print(f"{'written' if write else 'stale, see --write'}: {name}")
    return 1 if old and not write else 0


if __name__ == "__main__":
    sys.exit(main())

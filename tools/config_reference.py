"""The page of every setting, made from the schema: key, type, default, range and docstring.

    python -m tools.config_reference

It reads the JSON schema that pydantic makes of a `RunConfig`, so what the page says of a range is
what refuses a value. A section that is one of several kinds says for each key which kind has it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from facemorph_core.config.schema import RunConfig

Node = dict[str, Any]

BOUNDS = {  # pydantic writes the short names where a validator comes before the bound
    ("minimum", "ge"): ">= {}",
    ("exclusiveMinimum", "gt"): "> {}",
    ("maximum", "le"): "<= {}",
    ("exclusiveMaximum", "lt"): "< {}",
    ("multipleOf",): "a multiple of {}",
    ("pattern",): "`{}`",
}
NAMES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}


@dataclass(frozen=True, slots=True)
class Key:
    """One setting, in the words of the page."""

    path: str
    values: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Part:
    """A section of the config with the keys that lie directly in it."""

    path: str
    """Empty for the run itself."""
    meaning: str
    kinds: dict[str, str]
    """What each kind is; empty for a section that has none."""
    keys: list[Key]


def parts() -> Iterator[Part]:
    """Every section of a run's config, in the order of the schema."""
    schema = RunConfig.model_json_schema()
    yield from _parts(schema, "", schema["description"], schema["$defs"])


def _parts(node: Node, path: str, meaning: str, known: dict[str, Node]) -> Iterator[Part]:
    options = [_named(option, known) for option in node.get("oneOf", ())]
    kinds = {option["properties"]["kind"]["const"]: option for option in options}
    keys: list[Key] = []
    inner: list[tuple[Node, str, str]] = []
    if kinds:
        default = (node.get("default") or {}).get("kind")
        keys.append(Key(f"{path}.kind", ", ".join(kinds), _shown(default), "One of those above."))
    for name, given, having in _properties(kinds or {"": node}):
        where = f"{path}.{name}".lstrip(".")
        section = _section(given, known)
        if section is not None:
            inner.append((section, where, given.get("description", "")))
        else:
            only = f"Kind {' or '.join(having)}: " if len(having) < len(kinds) else ""
            keys.append(Key(where, _values(given), _default(given), only + given["description"]))
    yield Part(path, meaning, {name: body["description"] for name, body in kinds.items()}, keys)
    for section, where, told in inner:
        yield from _parts(section, where, f"{told} {section.get('description', '')}", known)


def _properties(bodies: dict[str, Node]) -> Iterator[tuple[str, Node, list[str]]]:
    """Each property, and the kinds that have it so; one that differs between kinds comes twice."""
    found: list[tuple[str, Node, list[str]]] = []
    for kind, body in bodies.items():
        for name, given in body["properties"].items():
            same = [having for other, seen, having in found if (other, seen) == (name, given)]
            if name == "kind":
                continue
            if same:
                same[0].append(kind)
            else:
                found.append((name, given, [kind]))
    yield from found


def _named(option: Node, known: dict[str, Node]) -> Node:
    return known[option["$ref"].rpartition("/")[2]]


def _section(given: Node, known: dict[str, Node]) -> Node | None:
    """What a property holds if it is a section: one, one of several kinds, or one or nothing."""
    if "oneOf" in given:
        return {**given, "description": ""}
    for option in (given, *given.get("anyOf", ())):
        if "$ref" in option:
            return _named(option, known)
    return None


def _values(given: Node) -> str:
    if "enum" in given:
        return ", ".join(map(str, given["enum"]))
    if "prefixItems" in given:
        return f"{len(given['prefixItems'])} numbers"
    bounds = [
        words.format(given[name])
        for names, words in BOUNDS.items()
        for name in names
        if name in given
    ]
    return ", ".join([NAMES[given["type"]], *bounds])


def _default(given: Node) -> str:
    return _shown(given["default"]) if "default" in given else "needed"


def _shown(value: object) -> str:
    return f"`{value if isinstance(value, str) and value else json.dumps(value)}`"


def page() -> str:
    """The whole page, Markdown."""
    lines = [
        "# Every setting",
        "",
        "Made from the docstrings of `facemorph_core/config/schema.py`. A file in `configs/` gives",
        "what differs from the defaults; `--set KEY=VALUE` changes a key for one run, and an",
        "unknown key is refused.",
    ]
    for part in parts():
        lines += ["", f"## {part.path or 'The run'}", "", _line(part.meaning)]
        lines += [""] * bool(part.kinds)
        lines += [f"- `{kind}`: {_line(meaning)}" for kind, meaning in part.kinds.items()]
        if part.keys:
            lines += ["", "| key | value | default | meaning |", "| --- | --- | --- | --- |"]
        for key in part.keys:
            cells = (f"`{key.path}`", _line(key.values), _line(key.default), _line(key.meaning))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    """On one line of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())

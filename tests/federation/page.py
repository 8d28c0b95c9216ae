"""The commands of a page of the documentation, as its fenced blocks have them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"```(\w*)")
_FUNCTION = re.compile(r"\w+\(\) ([({])")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed up to the end of one command: its further lines and its text belong to it."""

    section: str
    """The heading above it, without its marks."""
    language: str
    """What the fence says of the block; empty if nothing."""
    text: str

    def with_values(self, values: Mapping[str, str]) -> str:
        """Its text with the examples' values replaced, all at once."""
        pattern = "|".join(re.escape(example) for example in sorted(values, key=len, reverse=True))
        return re.sub(pattern, lambda found: values[found[0]], self.text) if values else self.text


def commands_of(page: Path) -> list[Command]:
    """All commands in all fenced blocks of ``page``, in their order."""
    found: list[Command] = []
    section, language, block = "", None, []
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = _FENCE.fullmatch(line.strip())
        if language is not None and line.strip() == "```":
            found += [Command(section, language, text) for text in _split(block)]
            language, block = None, []
        elif language is not None:
            block.append(line)
        elif fence:
            language = fence[1]
        elif line.startswith("#"):
            section = line.lstrip("#").strip()
    assert language is None, f"{page}: a block without an end"
    return found


def _split(block: list[str]) -> list[str]:
    """Commands: a line, and where it goes on after a backslash, as a function or as its text."""
    found, lines = [], iter(block)
    for line in lines:
        if not line.strip():
            continue
        command = line
        while command.endswith("\\"):
            command += "\n" + next(lines)
        if body := _FUNCTION.fullmatch(command):
            while not command.endswith("\n)" if body[1] == "(" else "\n}"):
                command += "\n" + next(lines)
        if text := _HEREDOC.search(command):
            while not command.endswith(f"\n{text[1]}"):
                command += "\n" + next(lines)
        found.append(command)
    return found

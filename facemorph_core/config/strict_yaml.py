"""YAML in which every setting is said once.

PyYAML lets the last of two equal keys win without a word: an empty ``privacy:`` further down would
turn differential privacy off. Here that is an error with its line. Merges (``<<: *anchor``) are
refused too, for which of two settings counts would depend on PyYAML's order, and so are keys that
are no text (``yes``, ``1``). Anchors for whole values may be used.
"""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["read_yaml"]

_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


def read_yaml(text: str) -> Any:
    """What ``text`` says.

    Raises:
        ValueError: a sentence, if it is not YAML, or if a key stands there twice, is no text or
            merges.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except _RefusedKey:
        raise
    except RecursionError:
        raise ValueError("not YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # 2026-99-99 would be a date
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None


class _RefusedKey(ValueError):
    pass


class _StrictLoader(yaml.SafeLoader):
    """Safe, and looks at the keys of every mapping before they become a dict."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = key.value, key.start_mark.line + 1
            if key.tag == _MERGE:
                raise _RefusedKey(f"line {line}: '<<' merges are not read, write the settings out")
            if key.tag != _TEXT or not isinstance(name, str):
                shown = name if isinstance(name, str) else f"a {key.id}"
                raise _RefusedKey(f"line {line}: {shown} is no name of a setting")
            if name in lines:
                raise _RefusedKey(f"line {line}: {name} stands in line {lines[name]} already")
            lines[name] = line
        return super().construct_mapping(node, deep)

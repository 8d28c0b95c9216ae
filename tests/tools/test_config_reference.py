"""The page of settings names every key of the schema, as the schema has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from facemorph_core.config import load_run_config, schema
from facemorph_core.config.schema import RunConfig, Section
from tools.config_reference import page, parts


def sections(cls: type[BaseModel] = Section) -> Iterator[type[BaseModel]]:
    for section in cls.__subclasses__():
        if section.__module__ == schema.__name__:
            yield section
            yield from sections(section)


@pytest.mark.parametrize("section", sorted(set(sections()), key=lambda each: each.__name__))
def test_every_section_and_every_field_says_what_it_is(section):
    assert section.__doc__
    silent = [name for name, field in section.model_fields.items() if not field.description]
    assert set(silent) <= {"kind"}  # the docstring of its class says what a kind is


def leaves(given: object, path: str = "") -> Iterator[str]:
    if isinstance(given, dict):
        for name, value in given.items():
            yield from leaves(value, f"{path}.{name}".lstrip("."))
    else:
        yield path


def test_every_key_of_a_resolved_config_is_on_the_page():
    keys = {key.path for part in parts() for key in part.keys}
    private = {"noise_multiplier": 1.0, "scoring": {}}
    for kind in ("iid", "quantity", "by_person"):
        data = {"partition": {"kind": kind}}
        config = RunConfig.model_validate({"name": "x", "data": data, "privacy": private})
        assert set(leaves(config.model_dump())) <= keys
    for section in set(sections()):
        for name in section.model_fields:
            assert any(path == name or path.endswith(f".{name}") for path in keys) or name in {
                part.path.rpartition(".")[2] for part in parts()
            }


def test_what_the_page_says_of_a_bound_is_what_refuses_a_value():
    told = {key.path: key.values for part in parts() for key in part.keys}
    assert told["training.ema_decay"] == "number, >= 0, < 1"
    assert told["model.width"] == "whole number, >= 8, a multiple of 8"
    assert told["privacy.noise_multiplier"] == f"number, > 0, <= {schema.MOST_NOISE}"
    assert told["federation.codec"] == "float32, float16, int8"


def test_a_default_on_the_page_is_the_default(tmp_path):
    (tmp_path / "bare.yaml").write_text("name: bare\n")
    config = load_run_config(tmp_path / "bare.yaml")
    told = {key.path: key.default for part in parts() for key in part.keys}
    assert told["training.batch_size"] == f"`{config.training.batch_size}`"
    assert told["model.kind"] == f"`{config.model.kind}`"
    assert told["federation.strategy.kind"] == f"`{config.federation.strategy.kind}`"
    assert told["name"] == "needed"


def test_a_key_that_differs_between_kinds_comes_once_for_each():
    lines = [line for line in page().splitlines() if line.startswith("| `data.partition.alpha`")]
    assert len(lines) == 2
    assert "Kind dirichlet: " in lines[0]
    assert "Kind quantity: " in lines[1]
    strategies = [line for line in page().splitlines() if "`federation.strategy.tau`" in line]
    assert len(strategies) == 1
    assert "Kind fedadam or fedyogi: " in strategies[0]

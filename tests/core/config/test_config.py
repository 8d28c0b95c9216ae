from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from facemorph_core.config import RunConfig, digest, dump_run_config, load_run_config
from facemorph_core.config.changes import HOW_A_RUN_IS_RUN, changes, in_words
from facemorph_core.config.load import split_overrides
from facemorph_core.config.schema import FederationConfig, TrimmedMeanConfig
from facemorph_core.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_survives_a_round_trip(path, tmp_path, monkeypatch):
    config = load_run_config(path)
    again = tmp_path / "again.yaml"
    again.write_text(dump_run_config(config))
    assert load_run_config(again) == config
    assert digest(load_run_config(again)) == digest(config)


def test_all_mistakes_of_a_file_and_its_overrides_come_in_one_error(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: x\nmodel: {kind: vae, latent_dims: 64}\nloss: {kl: -1}\n")
    with pytest.raises(ConfigError) as caught:
        load_run_config(path, ["training.batch_size=0", "seed"])
    text = str(caught.value)
    assert text.startswith(f"{path} is not a valid run config:")
    for part in (
        "model.vae.latent_dims: Extra inputs are not permitted (got 64)",
        "loss.kl: Input should be greater than or equal to 0 (got -1)",
        "training.batch_size",
        "seed: an override reads section.key=value",
    ):
        assert part in text


def test_numbers_without_a_dot_are_numbers(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: x\ntraining: {learning_rate: 1e-5}\n")
    assert load_run_config(path).training.learning_rate == 1e-5
    assert load_run_config(path, ["loss.kl=2e-4"]).loss.kl == 2e-4


def test_a_section_without_a_kind_is_of_the_default_kind(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: x\n")
    config = load_run_config(path, ["model.width=8", "data.partition={}"])
    assert (config.model.kind, config.model.width) == ("vae", 8)
    assert config.data.partition.kind == "by_person"


def test_a_config_is_frozen():
    with pytest.raises(ValidationError):
        RunConfig(name="x").seed = 3


def test_an_override_wins_over_the_file_and_the_last_over_the_first(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: x\nseed: 1\n")
    assert load_run_config(path, ["seed=2", "seed=3"]).seed == 3
    assert load_run_config(path, ["model={kind: ae, width: 8}"]).model.kind == "ae"


@pytest.mark.parametrize(
    ("content", "words"),
    [("a: [", "not YAML"), ("- 1", "a mapping of settings"), ("\x00", "not YAML")],
)
def test_a_file_that_is_no_config_says_so(tmp_path, content, words):
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=words):
        load_run_config(path)


SAID_WRONG = [
    ("name: x\nprivacy: {noise_multiplier: 1}\nseed: 1\nprivacy:\n", "line 4: privacy stands"),
    ("name: x\nloss:\n  l1: 1\n  l1: 2\n", "line 4: l1 stands in line 3 already"),
    ("name: x\n'seed': 1\nseed: 2\n", "line 3: seed stands in line 2 already"),
    ("name: x\ndata: {partition: {kind: iid, kind: iid}}\n", "line 2: kind stands in line 2"),
    ("name: x\nloss: &a {l1: 1}\n<<: {seed: 1}\nseed: 2\n", "line 3: '<<' merges"),
    ("name: x\nloss: {<<: {l1: 1}, l1: 0}\n", "line 2: '<<' merges are not read"),
    ("name: x\nyes: 1\n", "line 2: yes is no name of a setting"),
    ("name: x\n1: 1\n", "line 2: 1 is no name of a setting"),
    ("name: x\n? [a]\n: 1\n", "line 2: a sequence is no name of a setting"),
    ("name: x\n? !!str [a]\n: 1\n", "line 2: a sequence is no name of a setting"),
    ("name: x\nseed: 2026-99-99\n", "not YAML: month must be in"),
    ("[" * 5000, "not YAML: nested too deeply"),
]
"""What a file holds, and what is said of it; so says whoever reads a section."""


@pytest.mark.parametrize(("content", "words"), SAID_WRONG)
def test_a_setting_is_said_once_and_by_its_name(tmp_path, content, words):
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_run_config(path)
    assert words in str(caught.value)


def test_an_override_says_a_setting_once_too(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: x\n")
    with pytest.raises(ConfigError, match="line 1: kl stands in line 1 already"):
        load_run_config(path, ["loss={kl: 1, kl: 2}"])


def test_the_settings_that_may_change_are_settings():
    base = RunConfig(name="x").model_dump()
    for name in HOW_A_RUN_IS_RUN:
        section = base
        for part in name.split("."):
            assert part in section
            section = section[part]


def test_where_two_configs_differ_is_told_by_setting():
    here = RunConfig(
        name="x", resume="must", model={"kind": "ae", "width": 48}, federation={"quorum": 1}
    )
    found = {each.setting: each for each in changes(RunConfig(name="x"), here)}
    assert set(found) == {"model.kind", "model.width", "federation.quorum"}
    assert [name for name, each in found.items() if each.allowed] == ["federation.quorum"]
    assert in_words([found["model.width"]]) == "model.width is 64 there and 48 here"
    assert changes(here, here) == ()


def test_a_missing_file_says_so():
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_run_config("nowhere.yaml")


@pytest.mark.parametrize("delta", ["0", "0.5", "1", ".nan", "-1e-5"])
def test_a_delta_that_is_no_promise_for_two_photos_is_refused(tmp_path, delta):
    path = tmp_path / "run.yaml"
    path.write_text(f"name: x\nprivacy: {{noise_multiplier: 1.0, delta: {delta}}}\n")
    with pytest.raises(ConfigError, match=r"privacy\.delta"):
        load_run_config(path)


def test_a_gan_under_differential_privacy_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "a.yaml"
    values = {"name": "x", "model": {"kind": "vaegan"}, "privacy": {"noise_multiplier": 1.0}}
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="the discriminator sees the photos too"):
        load_run_config(path)


def test_the_digest_ignores_how_a_process_starts_and_nothing_else():
    base = RunConfig(name="x")
    assert digest(base) == digest(base.model_copy(update={"resume": "must"}))
    assert digest(base) != digest(base.model_copy(update={"seed": 1}))


def test_an_unbalanced_quote_is_a_config_error():
    with pytest.raises(ConfigError, match="No closing quotation"):
        split_overrides("a='b")


@pytest.mark.parametrize(
    ("strategy", "quorum", "least"),
    [
        ({"kind": "krum", "num_malicious": 5}, 2, 13),
        ({"kind": "krum"}, 2, 3),
        ({"kind": "trimmed_mean", "beta": 0.2}, 4, 5),
        ({"kind": "trimmed_mean", "beta": 0.3}, 3, 4),
    ],
)
def test_a_rule_against_liars_wants_as_many_replies_as_its_promise_needs(strategy, quorum, least):
    with pytest.raises(ValidationError, match=f"needs {least} usable replies"):
        FederationConfig(strategy=strategy, quorum=quorum)
    assert FederationConfig(strategy=strategy, quorum=least).quorum == least


@given(beta=st.floats(1e-6, 0.4999))
def test_a_trimmed_mean_of_the_fewest_replies_drops_one_at_either_end(beta):
    least = TrimmedMeanConfig(beta=beta).least_replies
    assert int(beta * least) >= 1
    assert int(beta * (least - 1)) == 0
    assert least - 2 * int(beta * least) >= 1

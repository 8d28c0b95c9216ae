from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facemorph_core.config import RunConfig
from facemorph_core.config.schema import AEConfig, VAEConfig
from facemorph_core.errors import FederationError, ModelError, ShardError, TrainingDiverged
from facemorph_core.learning.federated import (
    Handshake,
    Refusal,
    RoundReport,
    ScoreSums,
    load_shared_weights,
    merge_reports,
    merge_scores,
    refusal_for,
    shared_weights,
    signature,
    weights_problem,
)
from facemorph_core.learning.federated.refusal import Refused
from facemorph_core.learning.models import build_model

TINY = VAEConfig(image_size=32, width=8, latent_dim=4)

counts = st.integers(1, 10_000)
values = st.floats(-1e6, 1e6)
reports = st.lists(
    st.builds(lambda n, v: RoundReport(n, {"loss": v}), counts, values), min_size=1, max_size=6
)


def initial_weights(config: VAEConfig, *, seed: int) -> dict[str, torch.Tensor]:
    return shared_weights(build_model(config, seed=seed))


def test_two_reports_merge_by_hand():
    merged = merge_reports(
        [RoundReport(1, {"loss": 4.0, "kl": 2.0}), RoundReport(3, {"loss": 8.0, "kl": 6})]
    )
    assert merged == RoundReport(4, {"loss": 7.0, "kl": 5.0})


def test_what_a_site_spent_is_no_figure_of_its_report():
    told = {"num-examples": 4, "psnr": 80.0, "epsilon": 1.5, "delta": 1e-5}
    assert RoundReport.parse(told) == RoundReport(4, {"psnr": 80.0})
    assert ScoreSums.parse(told) == ScoreSums(4, {"psnr": 80.0})


@given(reports=reports)
def test_the_order_of_reports_does_not_matter(reports):
    forward, backward = merge_reports(reports), merge_reports(reports[::-1])
    assert forward.examples == backward.examples
    assert forward.figures["loss"] == pytest.approx(backward.figures["loss"], rel=1e-9, abs=1e-9)


@given(reports=reports)
def test_a_merged_loss_lies_between_the_smallest_and_the_largest(reports):
    losses = [report.figures["loss"] for report in reports]
    merged = merge_reports(reports).figures["loss"]
    assert min(losses) - 1e-6 <= merged <= max(losses) + 1e-6


def test_one_report_is_itself():
    report = RoundReport(5, {"loss": 0.25})
    assert merge_reports([report]) == report


def test_scores_merge_to_the_mean_over_all_faces():
    merged = merge_scores([ScoreSums(1, {"psnr": 10.0}), ScoreSums(3, {"psnr": 60.0})])
    assert merged.means() == {"psnr": 17.5}


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"num-examples": 0},
        {"num-examples": 1.5},
        {"num-examples": True},
        {"num-examples": 3, "loss": math.nan},
        {"num-examples": 3, "loss": math.inf},
        {"num-examples": 3, "loss": [1.0]},
        {"num-examples": 3, **{f"m{i}": 1.0 for i in range(100)}},
        {"num-examples": 2**62},
        {"num-examples": 10**5000},
        {"num-examples": "3"},
        {"num-examples": 3, "loss": 1.7e308},
        {"num-examples": 3, "loss": -(10**400)},
        {"num-examples": 3, "loss": "x" * 10**6},
        {"num-examples": 3, "x" * 100: 1.0},
        {"num-examples": 3, "\x1b[2J": 1.0},
        {"num-examples": 3, "two\nlines": 1.0},
    ],
)
def test_a_report_that_is_no_report_is_refused(record):
    for kind in (RoundReport, ScoreSums):
        with pytest.raises(FederationError) as caught:
            kind.parse(record)
        assert len(str(caught.value)) < 200
        assert str(caught.value).isprintable()


counted = st.integers(1, 2**40)
figures = st.dictionaries(st.sampled_from("abc"), st.floats() | st.integers(), max_size=3)


@given(records=st.lists(st.tuples(counted, figures), min_size=1, max_size=5))
def test_whatever_is_not_refused_can_be_merged(records):
    for kind, merge in ((RoundReport, merge_reports), (ScoreSums, merge_scores)):
        good = []
        for examples, values in records:
            with contextlib.suppress(FederationError):
                good.append(kind.parse({"num-examples": examples, **values}))
        if good:
            merged = merge([each.counted_as(min(each.examples, 10)) for each in good])
            assert all(math.isfinite(value) for value in merged.as_record().values())


def test_a_site_that_counts_as_fewer_images_says_the_same_of_them():
    assert RoundReport(10, {"loss": 2.0}).counted_as(5) == RoundReport(5, {"loss": 2.0})
    assert ScoreSums(10, {"psnr": 200.0}).counted_as(5) == ScoreSums(5, {"psnr": 100.0})


def test_a_report_survives_the_trip():
    report = RoundReport(5, {"loss": 0.25})
    assert RoundReport.parse(report.as_record()) == report


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_stream_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second = initial_weights(TINY, seed=3), initial_weights(TINY, seed=3)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(before, torch.random.get_rng_state())
    other = initial_weights(TINY, seed=4)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_only_encoder_and_decoder_travel():
    names = initial_weights(TINY, seed=0)
    assert names
    assert all(name.startswith(("encoder.", "decoder.")) for name in names)


def test_weights_come_back_as_they_were_sent():
    model = build_model(TINY, seed=1)
    sent = initial_weights(TINY, seed=2)
    load_shared_weights(model, sent)
    got = shared_weights(model)
    assert all(torch.equal(got[name], sent[name]) for name in sent)


def damaged(change):
    weights = {name: value.numpy().copy() for name, value in initial_weights(TINY, seed=0).items()}
    change(weights)
    return weights


def first_of(weights):
    return next(iter(weights))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop(first_of(w)), "1 weights are missing"),
        (lambda w: w.update({"discriminator.x": np.zeros(1, np.float32)}), "1 weights are unknown"),
        (lambda w: w.update({first_of(w): np.zeros((1, 2), np.float32)}), "has shape"),
        (lambda w: w.update({first_of(w): w[first_of(w)].astype(np.float64)}), "is float64"),
        (lambda w: w[first_of(w)].fill(np.nan), "not finite"),
    ],
)
def test_weights_of_other_names_shapes_or_numbers_are_refused(change, words):
    weights = damaged(change)
    assert words in str(weights_problem(weights, signature(initial_weights(TINY, seed=0))))
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    with pytest.raises(ModelError, match=words):
        load_shared_weights(build_model(TINY), tensors)


def test_weights_of_another_model_are_refused():
    ours, theirs = build_model(TINY), initial_weights(AEConfig(image_size=32, width=8), seed=0)
    with pytest.raises(ModelError):
        load_shared_weights(ours, theirs)


def test_a_handshake_names_what_differs(tmp_path):
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "app.py").write_text("a = 1")
    here = Handshake.here(RunConfig(name="x"), tmp_path)
    here.require(here.as_strings())
    (tmp_path / "client" / "app.py").write_text("a = 2")
    with pytest.raises(Refused) as caught:
        Handshake.here(RunConfig(name="x"), tmp_path).require(here.as_strings())
    assert caught.value.refusal is Refusal.CODE_DIFFERS
    with pytest.raises(Refused) as caught:
        Handshake.here(RunConfig(name="y"), tmp_path).require(
            here.as_strings()
            | {"code_digest": Handshake.here(RunConfig(name="y"), tmp_path).code_digest}
        )
    assert caught.value.refusal is Refusal.CONFIG_DIFFERS
    with pytest.raises(Refused) as caught:
        here.require({})
    assert caught.value.refusal is Refusal.VERSION_DIFFERS


def test_a_refusal_never_repeats_what_the_site_said():
    secret = "/home/clinic/patients/smith.jpg"
    for error in (
        ShardError(secret),
        TrainingDiverged(secret),
        OSError(secret),
        ValueError(secret),
    ):
        assert secret not in refusal_for(error).sentence


def test_every_refusal_has_a_sentence():
    assert all(refusal.sentence for refusal in Refusal)

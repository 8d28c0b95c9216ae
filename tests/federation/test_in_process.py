"""The real apps, in one process: rounds, resume, drop-outs, attackers, privacy of what leaves."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from safetensors.numpy import load_file, save_file

from client.app import app as client_app
from facemorph_core.bundle.read import open_bundle
from facemorph_core.config import load_run_config
from facemorph_core.disk.records import read_metrics
from facemorph_core.errors import ConfigError, FederationError
from facemorph_core.learning.federated import Refusal, shared_weights, signature
from facemorph_core.learning.federated.codec import decoded
from facemorph_core.learning.privacy import Heads, SiteLedger, Told, photos_of, read_told
from facemorph_core.learning.privacy.spent import rounded_up
from facemorph_core.learning.training.start import starting_model
from facemorph_core.shards.shard import Shard
from server.app import app as server_app
from server.coordinator.rollback import rollback
from server.runstate import read_state
from tests.federation.local_grid import (
    FEW,
    OPEN,
    LocalGrid,
    Tamper,
    site_settings,
    tiny_shard,
    write_config,
)
from tests.ledgers import spent_of
from tests.modes import lax_in

SITES = 3
PLAIN = {"kind": "vae", "image_size": 32, "width": 8, "latent_dim": 8}


@pytest.fixture
def federation(tmp_path, monkeypatch):
    """Build a grid of three sites with shards of their own, and run the real ServerApp on it."""
    for number in range(1, SITES + 1):
        tiny_shard(tmp_path / f"shard-{number}", seed=number)
    monkeypatch.setenv("FACEMORPH_CACHE", str(tmp_path / "cache"))

    def run(
        *,
        tamper: dict[int, Tamper] | None = None,
        nodes=range(1, SITES + 1),
        limits: str = OPEN,
        registered: dict[int, str] | None = None,
        **sections,
    ) -> tuple[Path, LocalGrid]:
        config = write_config(tmp_path / "tiny.yaml", **sections)
        settings = {n: site_settings(tmp_path, n, limits=limits) for n in nodes}
        out = tmp_path / "run"
        run_config = {"config": str(config), "overrides": "", "run-dir": str(out)}
        apps = dict.fromkeys(nodes, client_app)
        grid = LocalGrid(apps, settings, run_config, tamper or {}, registered=registered or {})
        server_app(grid, Context(1, 0, {}, RecordDict(), run_config))
        return out, grid

    return run


def test_two_rounds_leave_a_whole_run_directory(federation):
    run, _ = federation()
    assert read_state(run).status == "completed"
    rounds = read_metrics(run)
    assert [entry["round"] for entry in rounds] == [0, 1, 2]
    assert rounds[-1]["used"] == ["clinic-1", "clinic-2", "clinic-3"]
    assert rounds[-1]["examples"] == SITES * 8
    assert rounds[-1]["sites"]["faces"] == SITES * 4
    assert (run / "samples" / "round-0002.png").exists()
    page = (run / "report.html").read_text()
    assert "clinic-1" in page
    assert "Trained without differential privacy" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    bundle = open_bundle(run / "model.facemorph")
    trained = load_file(run / "checkpoints" / "round-0002.safetensors")
    for name, value in bundle.weights().items():
        np.testing.assert_allclose(value, trained[name], atol=2e-3)


def test_training_learns(federation):
    run, _ = federation(federation={"rounds": 6, "local_epochs": 4})
    scores = [entry["sites"]["psnr"] for entry in read_metrics(run)[1:]]
    assert scores[-1] > scores[0] + 1


@pytest.mark.parametrize("codec", ["float32", "float16", "int8"])
def test_the_merged_weights_are_the_mean_of_the_sites_by_images(federation, codec):
    run, grid = federation(federation={"rounds": 1, "codec": codec})
    config = load_run_config(run / "config.yaml")
    start = shared_weights(starting_model(config))
    updates = [
        decoded({n: a.numpy() for n, a in content["arrays"].items()}, signature(start), codec)
        for content in grid.received
        if content.array_records
    ]
    merged = load_file(run / "checkpoints" / "round-0001.safetensors")
    for name, value in merged.items():
        slow = start[name].numpy() + np.mean([u[name].astype(np.float64) for u in updates], axis=0)
        np.testing.assert_allclose(value, slow, atol=1e-6)


def test_int8_sends_a_quarter_of_the_bytes_and_learns_as_well(federation):
    figures = {}
    for codec in ("float32", "int8"):
        run, _ = federation(
            name=f"tiny-{codec}", federation={"rounds": 6, "local_epochs": 4, "codec": codec}
        )
        figures[codec] = read_metrics(run)[-1]
        run.rename(run.with_name(codec))
    # a small model has many vectors for its few matrices; those travel as float32
    assert figures["int8"]["bytes_up"] < 0.4 * figures["float32"]["bytes_up"]
    assert abs(figures["int8"]["sites"]["psnr"] - figures["float32"]["sites"]["psnr"]) < 0.3


def test_a_site_keeps_what_the_codec_lost_and_no_more_than_two_rounds_of_it(federation, tmp_path):
    federation(federation={"rounds": 4, "codec": "int8"})
    for state in tmp_path.glob("shard-*.state/[0-9a-f]*/"):
        assert sorted(f.name for f in state.glob("lost-*")) == [
            "lost-0003.safetensors",
            "lost-0004.safetensors",
        ]


def test_what_a_site_keeps_is_its_owner_s_alone_under_any_umask(federation, tmp_path):
    before = os.umask(0)
    try:
        federation(
            model={"kind": "vaegan", "image_size": 32, "width": 8, "latent_dim": 8},
            loss={"adversarial": 0.1},
            federation={"codec": "int8"},
        )
    finally:
        os.umask(before)
    state = tmp_path / "shard-1.state"
    kept = [file for file in state.rglob("*") if file.name != "site.yaml"]  # the operator's own
    names = {file.name for file in kept}
    assert {"discriminator.safetensors", "lost-0002.safetensors", "privacy.jsonl"} <= names
    assert [each for each in kept if lax_in(each)] == []
    assert lax_in(tmp_path / "heads") == []


def test_a_site_says_when_every_user_of_its_machine_may_look_at_the_faces(
    federation, tmp_path, caplog
):
    for number in range(1, SITES + 1):
        (tmp_path / f"shard-{number}.state").mkdir(mode=0o700)
    (tmp_path / "shard-1").chmod(0o755)
    federation(federation={"rounds": 1})
    told = {line for line in caplog.messages if "chmod" in line}
    assert told == {f" hint: chmod -R go= {tmp_path / 'shard-1'}"}


def test_a_running_mean_is_what_is_released_while_sites_train_on(federation):
    run, _ = federation(federation={"rounds": 3, "ema_decay": 0.9})
    released = [load_file(f) for f in sorted((run / "checkpoints").glob("round-*"))]
    memory = load_file(run / "checkpoints" / "optimiser-0003.safetensors")
    trained = {n.removeprefix("trained."): v for n, v in memory.items() if n.startswith("trained.")}
    decay = (1 + 3) / (10 + 3)
    for name, value in released[2].items():
        slow = decay * released[1][name] + (1 - decay) * trained[name]
        np.testing.assert_allclose(value, slow, atol=1e-6)
    bundle = open_bundle(run / "model.facemorph")
    for name, value in bundle.weights().items():
        np.testing.assert_allclose(value, released[2][name], atol=2e-3)


def test_only_weights_counts_figures_and_a_name_leave_a_site(federation):
    _, grid = federation(
        model={"kind": "vaegan", "image_size": 32, "width": 8, "latent_dim": 8},
        loss={"adversarial": 0.1},
    )
    for content in grid.received:
        assert set(content) <= {"arrays", "metrics", "site"}
        assert all(isinstance(v, int | float) for v in content["metrics"].values())
        assert all(
            name.startswith(("encoder.", "decoder."))
            for record in content.array_records.values()
            for name in record
        )


def test_a_discriminator_stays_at_its_site_and_goes_on_there(federation, tmp_path):
    federation(
        model={"kind": "vaegan", "image_size": 32, "width": 8, "latent_dim": 8},
        loss={"adversarial": 0.1},
    )
    kept = sorted(tmp_path.glob("shard-*.state/*/discriminator.safetensors"))
    assert len(kept) == SITES
    first, second = load_file(kept[0]), load_file(kept[1])
    assert any(not np.array_equal(first[name], second[name]) for name in first)


# --- sites that fail, lie or vanish ---------------------------------------------------------


def with_arrays(change) -> Tamper:
    def tamper(request: Message, reply: Message) -> Message:
        if "arrays" not in reply.content:
            return reply
        arrays = {n: a.numpy().copy() for n, a in reply.content["arrays"].items()}
        change(arrays)
        reply.content["arrays"] = ArrayRecord({n: Array(a) for n, a in arrays.items()})
        return reply

    return tamper


def first(arrays):
    return next(iter(arrays))


def raw_bytes(request: Message, reply: Message) -> Message:
    if "arrays" in reply.content:
        name = first(reply.content["arrays"])
        array = reply.content["arrays"][name]
        reply.content["arrays"][name] = Array(array.dtype, array.shape, array.stype, b"garbage")
    return reply


def lying_about_count(request: Message, reply: Message) -> Message:
    reply.content["metrics"]["num-examples"] = -5
    return reply


def saying(**figures) -> Tamper:
    """Other figures than the site's own, in training and in scores."""

    def tamper(request: Message, reply: Message) -> Message:
        for name, value in figures.items():
            reply.content["metrics"][name.replace("_", "-")] = value
        return reply

    return tamper


def bytes_of(save) -> Tamper:
    """The first array's bytes replaced by what ``save`` writes; what is declared of it stays."""

    def tamper(request: Message, reply: Message) -> Message:
        if "arrays" in reply.content:
            name = first(reply.content["arrays"])
            array, stream = reply.content["arrays"][name], io.BytesIO()
            save(stream, array.numpy())
            changed = Array(array.dtype, array.shape, array.stype, stream.getvalue())
            reply.content["arrays"][name] = changed
        return reply

    return tamper


def forty_terabytes(stream, array) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**13,)}
    np.lib.format.write_array_header_1_0(stream, header)


def broken_header(stream, array) -> None:
    text = b"{'descr': '<f4', 'shape': " + b"(" * 9000
    stream.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)


def declared(**fields) -> Tamper:
    """Bytes as they should be, and other words about them."""

    def tamper(request: Message, reply: Message) -> Message:
        if "arrays" in reply.content:
            name = first(reply.content["arrays"])
            vars(reply.content["arrays"][name]).update(fields)
        return reply

    return tamper


def under_the_name_of_site_1(request: Message, reply: Message) -> Message:
    reply.metadata.__dict__["_src_node_id"] = 1
    reply.metadata.__dict__["_reply_to_message_id"] = "another's"
    reply.metadata.__dict__["_message_type"] = "query"
    return saying(num_examples=-1)(request, reply)


def no_records(request: Message, reply: Message) -> Message:
    return Message(RecordDict(), reply_to=request)


def lost_in_transport(request: Message, reply: Message) -> Message:
    """Flower cannot make a message of what came, and says so when it is fetched."""
    reply.__dict__["unreadable"] = True
    return reply


def unequal_figures(request: Message, reply: Message) -> Message:
    reply.content["metrics"]["a-figure-of-its-own"] = 1.0
    return reply


ATTACKS = {
    "nan": (with_arrays(lambda a: a[first(a)].fill(math.nan)), "not finite"),
    "shape": (with_arrays(lambda a: a.update({first(a): np.zeros(3, np.float32)})), "has shape"),
    "names": (with_arrays(lambda a: a.pop(first(a))), "are missing"),
    "extra": (with_arrays(lambda a: a.update(x=np.zeros(1, np.float32))), "are unknown"),
    "bytes": (raw_bytes, "cannot be read"),
    "archive": (bytes_of(lambda f, a: np.savez(f, a)), "cannot be read"),
    "40 TB": (bytes_of(forty_terabytes), "cannot be read"),
    "header": (bytes_of(broken_header), "cannot be read"),
    "pickle": (bytes_of(lambda f, a: np.save(f, np.array([{}]))), "cannot be read"),
    "order": (bytes_of(lambda f, a: np.save(f, np.asfortranarray(a))), "cannot be read"),
    "more bytes": (bytes_of(lambda f, a: (np.save(f, a), f.write(b"x"))), "cannot be read"),
    "declared shape": (declared(shape=(1, 2)), "has shape"),
    "declared kind": (declared(dtype="float64"), "instead of float32"),
    "declared form": (declared(stype="pickle"), "is not an npy array"),
    "count": (lying_about_count, "whole number above 0"),
    "2^62 images": (saying(num_examples=2**62), "no number of images"),
    "2^32 images": (saying(num_examples=2**32), "more than federation.max_images"),
    "10^400 images": (saying(num_examples=10**400), "num-examples"),
    "1.7e308": (saying(total=1.7e308), "too large"),
    "10^400": (saying(total=10**400), "too large"),
    "long name": (saying(**{"x" * 100_000: 1.0}), "name"),
    "terminal": (saying(**{"\x1b[2J": 1.0}), "name"),
    "1e5 times": (with_arrays(lambda a: [v.__imul__(1e5) for v in a.values()]), "norm"),
    "1e35 each": (with_arrays(lambda a: [v.fill(1e35) for v in a.values()]), "norm"),
    "another's name": (under_the_name_of_site_1, "whole number above 0"),
    "nothing in it": (no_records, "does not hold one record of figures"),
    "unreadable": (lost_in_transport, "cannot be read"),
    "silence": (lambda request, reply: None, "no answer within"),
    "error": (
        lambda request, reply: Message(Error(7, "/home/clinic/secret"), reply_to=request),
        "Flower's error code 7",
    ),
}


def test_a_bad_reply_costs_its_round_nothing_but_itself(federation):
    """Site 2 attacks in another way every round."""
    kinds = list(ATTACKS.values())

    def attack(request: Message, reply: Message) -> Message | None:
        return kinds[request.content["config"]["server-round"] - 1][0](request, reply)

    federated = {"rounds": len(kinds), "evaluate_every": 0, "deadline": 2.0}
    run, _ = federation(tamper={2: attack}, federation=federated)
    rounds = read_metrics(run)[1:]
    assert read_state(run).status == "completed"
    for entry, (_, words) in zip(rounds, kinds, strict=True):
        assert entry["used"] == ["clinic-1", "clinic-3"]
        assert any(words in item["reason"] for item in entry["set_aside"]), words
    assert "secret" not in (run / "metrics.jsonl").read_text()
    weights = load_file(run / "checkpoints" / f"round-{len(kinds):04d}.safetensors")
    assert all(np.isfinite(value).all() for value in weights.values())


SCORES = {
    "1.7e308": (saying(psnr=1.7e308), "too large"),
    "-1.7e308": (saying(psnr=-1.7e308), "too large"),
    "10^400": (saying(psnr=10**400), "too large"),
    "1e12 dB": (saying(psnr=4e12), "cannot be"),
    "2^62 faces": (saying(num_examples=2**62), "no number of images"),
    "2^32 faces": (saying(num_examples=2**32), "more than federation.max_images"),
    "many": (saying(psnr=[1.0] * 10**6), "not a finite number"),
    "another's name": (under_the_name_of_site_1, "whole number above 0"),
    "nothing in it": (no_records, "does not hold one record of figures"),
    "unreadable": (lost_in_transport, "cannot be read"),
}


def test_bad_scores_cost_a_round_nothing_but_themselves(federation):
    kinds = list(SCORES.values())

    def attack(request: Message, reply: Message) -> Message:
        if "arrays" in reply.content:
            return reply
        return kinds[request.content["config"]["server-round"] - 1][0](request, reply)

    run, _ = federation(tamper={2: attack, 3: attack}, federation={"rounds": len(kinds)})
    assert read_state(run).status == "completed"
    for entry, (_, words) in zip(read_metrics(run)[1:], kinds, strict=True):
        assert len(entry["used"]) == SITES
        assert entry["sites"]["faces"] == 4  # of the one site that is honest
        aside = {item["site"] for item in entry["set_aside"] if words in item["reason"]}
        assert aside == {"clinic-2", "clinic-3"} or words == "cannot be read", entry


def test_sites_may_give_unequal_figures(federation):
    run, _ = federation(tamper={2: unequal_figures})
    assert len(read_metrics(run)[-1]["used"]) == SITES
    assert "a-figure-of-its-own" not in read_metrics(run)[-1]["training"]


def test_a_round_without_a_quorum_keeps_the_weights_and_three_of_them_end_the_run(federation):
    silence = ATTACKS["silence"][0]
    with pytest.raises(FederationError, match="1 usable replies of 2 needed, 3 rounds in a row"):
        federation(tamper={1: silence, 2: silence}, federation={"rounds": 5, "deadline": 2.0})


def test_a_run_whose_every_round_failed_has_no_result_however_often_it_is_started(federation):
    nan = ATTACKS["nan"][0]
    for _ in range(2):
        with pytest.raises(FederationError, match="round 3: 1 usable replies of 2 needed"):
            federation(tamper={1: nan, 2: nan}, federation={"rounds": 3})
    with pytest.raises(FederationError, match=r"none of the 2 rounds of .* brought anything"):
        federation(federation={"rounds": 2})
    run, _ = federation(federation={"rounds": 3})
    assert read_state(run).status == "completed"
    assert [entry["merged"] for entry in read_metrics(run)[1:]] == [False, False, True]


def test_after_the_sites_are_mended_a_failed_run_goes_on(federation):
    silence = ATTACKS["silence"][0]
    with pytest.raises(FederationError):
        federation(tamper={1: silence, 2: silence}, federation={"rounds": 5, "deadline": 2.0})
    run, grid = federation(federation={"rounds": 5, "deadline": 2.0})
    assert read_state(run).status == "completed"
    assert [entry["round"] for entry in read_metrics(run)] == [0, 1, 2, 3, 4, 5]
    assert min(grid.rounds_asked) == 3


@pytest.mark.parametrize("faces", ["none", "held_out"])
def test_too_few_sites_is_an_error_and_nobody_s_photos_alone_make_a_model(federation, faces):
    """Whatever the server is to score: that sites are real is not the config's to say."""
    with pytest.raises(FederationError, match=r"1 sites after \d+ s, 2 are needed"):
        federation(nodes=[1], federation={"join_deadline": 0.01}, evaluation={"faces": faces})


def test_of_real_sites_nobody_is_said_to_be_held_out(federation):
    run, _ = federation(evaluation={"faces": "held_out"})
    assert [entry["server"] for entry in read_metrics(run)] == [{}, {}, {}]
    assert not (run / "partition.json").exists()
    assert "people at no site" not in (run / "report.html").read_text()


def test_a_site_that_dies_before_it_ever_answered_is_named(federation):
    run, _ = federation(
        tamper={2: lambda request, reply: None},
        registered={1: "clinic-a", 2: "clinic-b", 3: "studio"},
        federation={"deadline": 0.1},
    )
    last = read_metrics(run)[-1]
    assert last["used"] == ["clinic-a", "studio"]
    assert {item["site"] for item in last["set_aside"]} == {"clinic-b"}


# --- killed and resumed -----------------------------------------------------------------------


class Killed(BaseException):
    """What SIGKILL looks like to the code that runs."""


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": {"kind": "fedavg"}},
        {"strategy": {"kind": "fedadam"}},
        {"codec": "int8", "ema_decay": 0.9},
    ],
    ids=["fedavg", "fedadam", "int8-ema"],
)
def test_a_run_that_was_cut_off_ends_with_the_same_weights(federation, tmp_path, settings):
    sections = {"federation": {"rounds": 4, **settings}}
    whole, _ = federation(**sections)
    expected = load_file(whole / "checkpoints" / "round-0004.safetensors")
    whole.rename(tmp_path / "whole")

    def die_in_round_3(request: Message, reply: Message) -> Message:
        if request.content["config"]["server-round"] == 3:
            raise Killed
        return reply

    with pytest.raises(Killed):
        federation(tamper={1: die_in_round_3}, **sections)
    run, _ = federation(**sections)
    got = load_file(run / "checkpoints" / "round-0004.safetensors")
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)
    assert [entry["round"] for entry in read_metrics(run)] == [0, 1, 2, 3, 4]


def test_a_complete_run_is_left_as_it_is(federation):
    run, _ = federation()
    before = (run / "model.facemorph").read_bytes()
    _, grid = federation()
    assert not grid.rounds_asked
    assert (run / "model.facemorph").read_bytes() == before


def test_a_run_directory_of_another_config_is_not_touched(federation):
    federation()
    with pytest.raises(FederationError, match="another config: seed is 0 there and 5 here"):
        federation(seed=5)


def test_a_run_goes_on_with_the_lower_quorum_that_its_hint_names(federation):
    silence = ATTACKS["silence"][0]
    lost = {"tamper": {1: silence, 2: silence}}
    with pytest.raises(FederationError) as caught:
        federation(**lost, federation={"rounds": 4, "deadline": 2.0, "max_failed_rounds": 1})
    assert "lower federation.quorum, and start again" in caught.value.hint
    run, _ = federation(**lost, federation={"rounds": 2, "deadline": 2.0, "quorum": 1})
    assert read_state(run).status == "completed"
    assert read_metrics(run)[-1]["used"] == ["clinic-3"]
    assert load_run_config(run / "config.yaml").federation.quorum == 1


def test_a_complete_run_is_made_longer_and_then_back_to_a_round_and_on(federation):
    """Bundle and page are those of the rounds that count, and the sites train what is new."""
    run, _ = federation(federation={"rounds": 1})
    longer, grid = federation(federation={"rounds": 3})
    assert set(grid.rounds_asked) == {2, 3}
    assert open_bundle(run / "model.facemorph").manifest.training["rounds"] == 3
    assert "3 merged of 3 done" in (run / "report.html").read_text()
    expected = load_file(longer / "checkpoints" / "round-0003.safetensors")
    rollback(run, to=2)
    again, grid = federation(federation={"rounds": 3})
    assert set(grid.rounds_asked) == {3}
    assert (run / "model.facemorph").exists()
    got = load_file(again / "checkpoints" / "round-0003.safetensors")
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)


def test_weights_on_the_disk_that_are_no_numbers_are_not_sent_to_sites(federation):
    run, _ = federation()
    file = run / "checkpoints" / "round-0002.safetensors"
    weights = load_file(file)
    next(iter(weights.values()))[:] = np.nan
    save_file(weights, file)
    with pytest.raises(FederationError, match=r"round 2 is damaged: .* not finite") as caught:
        federation(federation={"rounds": 3})
    assert caught.value.hint.endswith(f"python -m server rollback {run} --to 1")


def test_why_the_app_failed_is_left_where_its_starter_looks(federation, tmp_path, monkeypatch):
    """Also where there is no run directory that could say so."""
    monkeypatch.setenv("FACEMORPH_REASON_FILE", str(tmp_path / "reason"))
    with pytest.raises(ConfigError):
        federation(model={"kind": "no-such-kind"})
    assert "model" in (tmp_path / "reason").read_text()
    assert not (tmp_path / "run").exists()


# --- what a site refuses ----------------------------------------------------------------------


def changed_request(**values):
    """A server that sends other things than it should: seen by the client as it is."""

    def app(message: Message, context: Context) -> Message:
        config = dict(message.content["config"]) | values
        message.content["config"] = ConfigRecord(config)
        return client_app(message, context)

    return app


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"core_version": "9.9"}, "another version of facemorph_core"),
        ({"config_digest": "0" * 64}, "resolved another config"),
        ({"code_digest": "0" * 64}, "runs other code (client or facemorph_core)"),
        ({"core_digest": "0" * 64}, "runs other code (client or facemorph_core)"),
        ({"run-id": "../../etc"}, "its own log says why"),
    ],
)
def test_a_site_refuses_what_does_not_fit_in_one_sentence(federation, monkeypatch, values, words):
    real = LocalGrid._answer

    def answer(self, message):
        if message.metadata.dst_node_id == 2:
            self.apps[2] = changed_request(**values)
        return real(self, message)

    monkeypatch.setattr(LocalGrid, "_answer", answer)
    run, _ = federation()
    assert any(words in item["reason"] for item in read_metrics(run)[-1]["set_aside"])


def test_a_site_refuses_another_graph(federation, monkeypatch):
    real = LocalGrid._answer

    def answer(self, message):
        if message.metadata.dst_node_id == 2:
            message.content["arrays"] = ArrayRecord(
                {"encoder.imprint": Array(np.ones((4, 4), np.float32))}
            )
        return real(self, message)

    monkeypatch.setattr(LocalGrid, "_answer", answer)
    run, _ = federation()
    assert any("do not fit the model" in i["reason"] for i in read_metrics(run)[-1]["set_aside"])


def test_the_text_of_an_exception_stays_at_the_site(federation, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("/home/clinic/patients/smith.jpg")

    monkeypatch.setattr("client.app.train_round", broken)
    with pytest.raises(FederationError):
        federation(federation={"rounds": 3})
    assert "smith" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "smith" not in (tmp_path / "run" / "state.json").read_text()


# --- every rule -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy",
    [
        {"kind": "fedprox", "mu": 0.1},
        {"kind": "fedyogi", "learning_rate": 1e-3},
        {"kind": "trimmed_mean", "beta": 0.34},
        {"kind": "krum", "num_malicious": 0},
    ],
    ids=lambda s: s["kind"],
)
def test_every_rule_of_the_config_runs(federation, strategy):
    run, _ = federation(federation={"strategy": strategy, "quorum": 3})
    assert read_state(run).status == "completed"
    assert read_metrics(run)[-1]["merged"]


def test_under_krum_the_site_that_was_taken_is_used_and_no_other(federation):
    far = with_arrays(lambda a: a.update({n: v + 0.1 for n, v in a.items()}))
    run, grid = federation(
        tamper={2: far}, federation={"rounds": 1, "strategy": {"kind": "krum"}, "quorum": 3}
    )
    entry = read_metrics(run)[-1]
    [used] = entry["used"]
    assert used != "clinic-2"
    rest = {"clinic-1", "clinic-2", "clinic-3"} - {used}
    assert {item["site"]: item["reason"] for item in entry["set_aside"]} == dict.fromkeys(
        rest, "krum took another's"
    )
    assert entry["examples"] == 8
    start = shared_weights(starting_model(load_run_config(run / "config.yaml")))
    merged = load_file(run / "checkpoints" / "round-0001.safetensors")
    sent = [c["arrays"] for c in grid.received if c["site"]["name"] == used and c.array_records]
    for name, value in merged.items():
        np.testing.assert_allclose(value, start[name].numpy() + sent[0][name].numpy(), atol=1e-7)


def test_a_trimmed_mean_of_three_is_the_middle_one_of_every_number(federation):
    far = with_arrays(lambda a: a.update({n: v + 0.1 for n, v in a.items()}))
    run, grid = federation(
        tamper={2: far},
        federation={
            "rounds": 1,
            "quorum": 3,
            "strategy": {"kind": "trimmed_mean", "beta": 0.34},
        },
    )
    assert read_metrics(run)[-1]["used"] == ["clinic-1", "clinic-2", "clinic-3"]
    start = shared_weights(starting_model(load_run_config(run / "config.yaml")))
    sent = [content["arrays"] for content in grid.received if content.array_records]
    for name, value in load_file(run / "checkpoints" / "round-0001.safetensors").items():
        middle = np.median([update[name].numpy() for update in sent], axis=0)
        np.testing.assert_allclose(value, start[name].numpy() + middle, atol=1e-6)


@pytest.mark.parametrize("kind", ["krum", "trimmed_mean"])
def test_a_rule_that_needs_all_replies_says_what_they_take_and_refuses_more(federation, kind):
    strategy = {"krum": {"kind": "krum"}, "trimmed_mean": {"kind": kind, "beta": 0.34}}[kind]
    with pytest.raises(FederationError, match=f"{kind} needs the updates of all 3 sites at once"):
        federation(federation={"strategy": strategy, "quorum": 3, "reply_memory": 1e-6})


# --- differential privacy ---------------------------------------------------------------------

DP = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, "delta": 1e-3, "max_epsilon": 1000}
GENEROUS = f"max_epsilon: 1000\nmax_delta: 1e-3\n{FEW}"


def test_under_dp_epsilon_is_composed_over_rounds_and_told_with_its_unit(federation, tmp_path):
    run, _ = federation(privacy=DP, model=PLAIN, limits=GENEROUS)
    rounds = read_metrics(run)[1:]
    spent = [entry["training"]["epsilon"] for entry in rounds]
    assert 0 < spent[0] < spent[1]
    assert set(rounds[0]["training"]) == {"epsilon", "delta", "steps"}
    page = (run / "report.html").read_text()
    assert f"epsilon {rounded_up(spent[1])} at delta 0.001; at most 1000.00 at delta 0.001" in page
    assert "The unit is one photo" in page
    ledgers = sorted(tmp_path.glob("shard-*.state/privacy.jsonl"))
    assert len(ledgers) == SITES


def test_a_second_run_on_the_same_photos_goes_on_spending(federation, tmp_path):
    run, _ = federation(privacy=DP, model=PLAIN, limits=GENEROUS)
    first = read_metrics(run)[-1]["training"]["epsilon"]
    run.rename(tmp_path / "first")
    run, _ = federation(privacy=DP, model=PLAIN, limits=GENEROUS)
    assert read_metrics(run)[-1]["training"]["epsilon"] > first


def without_epsilon(request: Message, reply: Message) -> Message:
    del reply.content["metrics"]["epsilon"]
    return reply


def failed(request: Message, reply: Message) -> Message:
    """As a site answers whose round fails after it was charged."""
    return Message(Error(Refusal.FAILED, "failed"), reply_to=request)


def spent_by(folder: Path) -> dict[str, float]:
    """The truth: what each site's own ledger says of the photos that it trains on."""
    told = {}
    for number in range(1, SITES + 1):
        shard = Shard.open(folder / f"shard-{number}")
        ledger = SiteLedger(
            folder / f"shard-{number}.state" / "privacy.jsonl", Heads(folder / "heads")
        )
        told[f"clinic-{number}"] = spent_of(ledger, photos_of(shard, "train"), DP["delta"])
    return told


BAD = {
    "as it is": lambda request, reply: reply,
    "lost": ATTACKS["silence"][0],
    "unreadable": lost_in_transport,
    "not finite": ATTACKS["nan"][0],
    "wrong count": lying_about_count,
    "no epsilon": without_epsilon,
    "failed": failed,
}
FATES = {
    1: ("as it is", "not finite", "wrong count", "no epsilon"),
    2: ("no epsilon", "as it is", "failed", "as it is"),
    3: ("lost", "as it is", "unreadable", "not finite"),
}


@pytest.mark.parametrize("last", ["as it is", "lost", "no epsilon"])
def test_the_epsilon_of_a_run_is_never_below_a_sites_own(federation, tmp_path, last):
    """One of four rounds is merged, or two: what was trained is spent all the same."""
    fates = {**FATES, 1: (*FATES[1][:3], last)}

    def fate(request: Message, reply: Message) -> Message | None:
        node, number = request.metadata.dst_node_id, request.content["config"]["server-round"]
        return BAD[fates[node][number - 1]](request, reply)

    run, _ = federation(
        privacy=DP,
        model=PLAIN,
        limits=GENEROUS,
        tamper=dict.fromkeys(fates, fate),
        federation={"rounds": 4, "max_failed_rounds": 9, "deadline": 2.0},
    )
    rounds = read_metrics(run)[1:]
    assert [entry["merged"] for entry in rounds] == [False, True, False, last == "as it is"]
    aside = {item["site"]: item["reason"] for entry in rounds for item in entry["set_aside"]}
    assert (
        "does not say its epsilon" in aside["clinic-2"] + aside["clinic-1"] or last != "no epsilon"
    )
    told, truth = read_told(run), spent_by(tmp_path)
    page = (run / "report.html").read_text()
    statement = open_bundle(run / "model.facemorph").manifest.privacy
    assert told.largest[DP["delta"]] == pytest.approx(max(truth.values()))
    if last == "as it is":
        assert told.silent == ()
        assert f"epsilon {rounded_up(max(truth.values()))} at delta 0.001;" in page
        assert statement["epsilon"] == told.largest[DP["delta"]]
        assert max(entry["training"]["epsilon"] for entry in rounds) == statement["epsilon"]
    else:
        assert told.silent == ("clinic-1",)
        assert "epsilon at least" in page
        assert "not told to the end by clinic-1" in page
        assert statement["epsilon"].startswith("at least")
        assert statement["sites_that_did_not_tell"] == 1
        assert "clinic" not in str(statement)


def test_what_sites_spent_is_kept_of_a_run_that_fails_or_dies(federation, tmp_path):
    fails = {"rounds": 1, "deadline": 2.0}
    with pytest.raises(FederationError):
        federation(
            privacy=DP,
            model=PLAIN,
            limits=GENEROUS,
            tamper=dict.fromkeys((1, 2, 3), ATTACKS["nan"][0]),
            federation=fails,
        )
    told, truth = read_told(tmp_path / "run"), spent_by(tmp_path)
    assert told == Told({DP["delta"]: max(truth.values())}, (), asked=True)

    def dies(request: Message, reply: Message) -> Message:
        raise Killed

    with pytest.raises(Killed):
        federation(privacy=DP, model=PLAIN, limits=GENEROUS, tamper={1: dies}, federation=fails)
    assert spent_by(tmp_path)["clinic-1"] > truth["clinic-1"]
    assert read_told(tmp_path / "run").silent == ("clinic-1", "clinic-2", "clinic-3")


def test_scores_cost_what_is_told_too(federation, tmp_path):
    """Photos kept aside may have spent more than those that were trained on."""
    scored = {**DP, "scoring": {"noise_multiplier": 0.3, "people": 2}}
    limits = GENEROUS + "scoring: noised\nmin_scored_people: 2\nmin_scoring_noise: 0\n"
    run, _ = federation(privacy=scored, model=PLAIN, limits=limits, federation={"rounds": 1})
    shard = Shard.open(tmp_path / "shard-1")
    ledger = SiteLedger(tmp_path / "shard-1.state" / "privacy.jsonl", Heads(tmp_path / "heads"))
    aside = spent_of(ledger, photos_of(shard, "val"), DP["delta"])
    assert aside > spent_by(tmp_path)["clinic-1"]
    assert read_told(run) == Told({DP["delta"]: aside}, (), asked=True)


def claiming(epsilon: float, delta: float) -> Tamper:
    def claims(request: Message, reply: Message) -> Message:
        if reply.has_content():
            reply.content["metrics"]["epsilon"] = epsilon
            reply.content["metrics"]["delta"] = delta
        return reply

    return claims


def test_a_liar_cannot_make_the_run_s_number(federation, tmp_path):
    """Nobody tells more than the config allows: who does is set aside and not believed."""
    run, _ = federation(
        privacy=DP,
        model=PLAIN,
        limits=GENEROUS,
        tamper={1: claiming(1e12, DP["delta"]), 2: claiming(1.0, 0.999)},
        registered={1: "clinic-1", 2: "clinic-2"},
        federation={"rounds": 1, "quorum": 1},
    )
    [entry] = read_metrics(run)[1:]
    aside = {item["site"]: item["reason"] for item in entry["set_aside"]}
    assert "tells epsilon 1000000000000.0 at delta" in aside["clinic-1"]
    assert "at delta 0.999, more than privacy allows" in aside["clinic-2"]
    truth = spent_by(tmp_path)["clinic-3"]
    assert read_told(run) == Told({DP["delta"]: truth}, ("clinic-1", "clinic-2"), asked=True)


def test_a_budget_that_another_run_has_spent_leaves_the_number_open(federation, tmp_path):
    """The site cannot say in a refusal how much it was; the number told is from before."""

    def spends(request: Message, reply: Message) -> Message:
        if request.content["config"]["server-round"] == 1:
            return reply
        return Message(Error(Refusal.BUDGET_EXHAUSTED, "no"), reply_to=request)

    run, _ = federation(
        privacy=DP, model=PLAIN, limits=GENEROUS, tamper={1: spends}, federation={"quorum": 1}
    )
    assert read_told(run).silent == ("clinic-1",)


def test_a_damaged_line_hides_neither_the_error_nor_what_others_told(federation, tmp_path):
    def dies(request: Message, reply: Message) -> Message:
        with (tmp_path / "run" / "spent.jsonl").open("a") as file:
            file.write('{"round": 3}\n')
        raise Killed

    with pytest.raises(Killed):
        federation(privacy=DP, model=PLAIN, limits=GENEROUS, tamper={1: dies})
    assert read_told(tmp_path / "run").damaged == 1


def test_under_dp_scores_are_asked_for_only_with_noise(federation, tmp_path):
    limits = GENEROUS + "scoring: noised\nmin_scored_people: 2\n"
    run, grid = federation(privacy=DP, model=PLAIN, limits=limits)
    assert "sites" not in read_metrics(run)[-1] or not read_metrics(run)[-1]["sites"]
    assert len(grid.received) == 2 * SITES
    run.rename(tmp_path / "first")
    scored = {**DP, "scoring": {"noise_multiplier": 3.0, "people": 2}}
    run, _ = federation(privacy=scored, model=PLAIN, limits=limits)
    assert set(read_metrics(run)[-1]["sites"]) == {"faces", "psnr", "ssim"}
    statement = open_bundle(run / "model.facemorph").manifest.privacy
    assert "sums of scores with noise" in statement["released"]


def test_a_site_stops_before_its_budget_and_says_so(federation):
    with pytest.raises(FederationError, match="would pass the site's privacy budget"):
        federation(privacy={**DP, "max_epsilon": 1e-3}, model=PLAIN, limits=GENEROUS)


def test_a_site_without_limits_of_its_own_answers_no_round_without_noise(federation):
    with pytest.raises(FederationError, match="the site's own limits forbid"):
        federation(limits="{}")

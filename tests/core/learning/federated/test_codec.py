"""What an update loses on its way, and that it loses it only for a while."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facemorph_core.errors import FederationError
from facemorph_core.learning.federated.codec import compressed, decoded, encoded, layout
from facemorph_core.learning.federated.mean import RunningMean

CODECS = ["float32", "float16", "int8"]
SHAPES = {"encoder.w": (5, 3, 2, 2), "encoder.b": (5,), "decoder.w": (4, 7)}

numbers = st.floats(-(2.0**20), 2.0**20, width=32)


def updates(values=numbers):
    return st.fixed_dictionaries(
        {n: arrays(np.float32, s, elements=values) for n, s in SHAPES.items()}
    )


def small_updates(seed: int, count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        {n: rng.normal(scale=1e-3, size=s).astype(np.float32) for n, s in SHAPES.items()}
        for _ in range(count)
    ]


@pytest.mark.parametrize("codec", CODECS)
@given(update=updates())
def test_what_travels_is_of_the_layout_and_close_to_the_update(codec, update):
    travelling = encoded(update, codec)
    assert {n: (a.shape, a.dtype) for n, a in travelling.items()} == layout(SHAPES, codec)
    arrived = decoded(travelling, SHAPES, codec)
    for name, value in update.items():
        if codec == "float32":
            np.testing.assert_array_equal(arrived[name], value)
        elif codec == "float16":
            cut = value.clip(-65504, 65504)
            np.testing.assert_allclose(arrived[name], cut, rtol=2.0**-11, atol=2.0**-24)
        else:
            largest = np.abs(value).reshape(len(value), -1).max(axis=1)
            step = largest.reshape(-1, *[1] * (value.ndim - 1)) / 127
            assert (np.abs(arrived[name] - value) <= 0.5001 * step + 1e-37).all()


@pytest.mark.parametrize("codec", CODECS)
def test_the_sum_of_what_arrived_and_what_is_still_lost_is_the_sum_of_the_updates(codec):
    lost: dict[str, np.ndarray] = {}
    sent = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    rounds = small_updates(0, 50)
    for update in rounds:
        for name, value in decoded(compressed(update, lost, codec), SHAPES, codec).items():
            sent[name] += value
    for name in SHAPES:
        wanted = np.sum([update[name].astype(np.float64) for update in rounds], axis=0)
        np.testing.assert_allclose(sent[name] + lost.get(name, 0), wanted, atol=1e-7)
        assert np.abs(sent[name] - wanted).max() < 2e-5  # of one round's step, not of fifty


def test_without_the_feedback_what_is_smaller_than_half_a_step_would_never_arrive():
    update = {"encoder.w": np.array([[1.0, 0.001]], np.float32)}
    shapes, lost, sent = {"encoder.w": (1, 2)}, {}, np.zeros((1, 2))
    for _ in range(1000):
        sent += decoded(compressed(update, lost, "int8"), shapes, "int8")["encoder.w"]
    np.testing.assert_allclose(sent, [[1000, 1.0]], atol=0.01)
    alone = decoded(encoded(update, "int8"), shapes, "int8")["encoder.w"]
    assert alone[0, 1] == 0


def test_int8_takes_a_quarter_of_the_bytes_of_float32():
    shapes = {"w": (64, 64, 3, 3), "b": (64,)}
    update = {n: np.ones(s, np.float32) for n, s in shapes.items()}
    size = {c: sum(a.nbytes for a in encoded(update, c).values()) for c in CODECS}
    assert size["float16"] == size["float32"] / 2
    assert size["int8"] < 0.255 * size["float32"]


BAD = {
    "a step that is no number": (lambda a: a["encoder.w/scale"].fill(np.nan), "not finite"),
    "steps of another kind": (
        lambda a: a.update({"encoder.w": a["encoder.w"].astype(np.int16)}),
        "int16",
    ),
    "no steps": (lambda a: a.pop("decoder.w/scale"), "1 weights are missing"),
    "a step too many": (lambda a: a.update({"x/scale": np.ones(1, np.float32)}), "are unknown"),
    "of another shape": (lambda a: a.update({"encoder.w": np.zeros((5, 3), np.int8)}), "has shape"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_of_the_layout_is_refused(kind):
    change, words = BAD[kind]
    travelling = encoded(small_updates(0, 1)[0], "int8")
    change(travelling)
    with pytest.raises(FederationError, match=words):
        decoded(travelling, SHAPES, "int8")


# --- the mean -----------------------------------------------------------------------------------


@given(
    sites=st.lists(st.tuples(updates(), st.integers(1, 2**40)), min_size=1, max_size=6),
)
def test_the_mean_is_that_of_all_images(sites):
    mean = RunningMean(SHAPES)
    for update, images in sites:
        mean.add(update, images)
    total = sum(images for _, images in sites)
    assert mean.images == total
    for name, value in mean.mean().items():
        slow = sum(images * update[name].astype(np.float64) for update, images in sites) / total
        np.testing.assert_allclose(value, slow, rtol=1e-6, atol=1e-7)


def test_nothing_that_a_site_can_send_is_too_large_to_be_added():
    mean = RunningMean({"w": (2,)})
    largest = np.full(2, np.finfo(np.float32).max)
    for _ in range(100):
        mean.add({"w": largest}, 2**40)
    np.testing.assert_array_equal(mean.mean()["w"], largest)


def test_a_step_beyond_all_numbers_decodes_to_one_that_no_norm_allows():
    travelling = encoded(small_updates(0, 1)[0], "int8")
    travelling["encoder.w/scale"] = np.full(5, 3e38, np.float32)
    travelling["encoder.w"] = np.full(SHAPES["encoder.w"], 127, np.int8)
    assert not np.isfinite(decoded(travelling, SHAPES, "int8")["encoder.w"]).any()


def test_there_is_no_mean_of_nothing():
    with pytest.raises(FederationError, match="no update"):
        RunningMean({"w": (2,)}).mean()

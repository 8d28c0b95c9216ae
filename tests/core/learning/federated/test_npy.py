"""Bytes of strangers become an array of what was expected, or a refusal: nothing else."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from facemorph_core.errors import FederationError
from facemorph_core.learning.federated.npy import array_in

KINDS = [np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.int8)]
SHAPE, FLOAT = (2, 3), np.dtype(np.float32)


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


GOOD = saved(np.arange(6, dtype=FLOAT).reshape(SHAPE))


def headed(header: bytes, numbers: bytes = bytes(24), version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + numbers


@given(data=st.data())
def test_what_numpy_saves_comes_back_bit_for_bit(data):
    kind = data.draw(st.sampled_from(KINDS))
    array = data.draw(arrays(kind, array_shapes(min_dims=0, max_dims=4, min_side=0)))
    got = array_in(saved(array), array.shape, kind)
    assert got.dtype == kind
    assert got.shape == array.shape
    assert got.tobytes() == array.tobytes()


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"


@given(st.binary(max_size=200))
@example(b"")
@example(b"\x93NUMPY\x01\x00")
@example(headed(HEADER.replace("2, 3", "10000000000000,").encode()))
@example(headed(HEADER.replace("False", "True").encode()))
@example(headed(HEADER.replace("<f4", ">f4").encode()))
@example(headed(HEADER.replace("'<f4'", "object").encode()))
@example(headed(b"{'descr': '<f4', 'shape': " + b"(" * 9000))
@example(headed(HEADER.encode(), bytes(23)))
@example(headed(HEADER.encode(), bytes(25)))
@example(headed(HEADER.encode(), version=b"\x02\x00"))
@example(headed(b"\xff\xfe"))
@example(b"PK\x03\x04")
def test_anything_else_is_refused(data):
    with pytest.raises(FederationError, match="not those of float32 numbers of shape"):
        array_in(data, SHAPE, FLOAT)


def test_how_far_numpy_pads_does_not_matter():
    padded = headed(HEADER.encode() + b" " * 50 + b"\n")
    np.testing.assert_array_equal(array_in(padded, SHAPE, FLOAT), np.zeros(SHAPE))


@given(place=st.integers(0, len(GOOD) - 25), byte=st.integers(0, 255))
def test_one_other_byte_in_the_header_changes_no_number(place, byte):
    damaged = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    try:
        got = array_in(damaged, SHAPE, FLOAT)
    except FederationError:
        return
    np.testing.assert_array_equal(got, np.arange(6).reshape(SHAPE))


@given(end=st.integers(0, len(GOOD) - 1))
def test_a_part_of_it_is_refused(end):
    with pytest.raises(FederationError):
        array_in(GOOD[:end], SHAPE, FLOAT)


def test_no_memory_is_taken_for_what_a_header_claims():
    claims = headed(HEADER.replace("2, 3", "10000000000000,").encode())
    tracemalloc.start()
    with pytest.raises(FederationError):
        array_in(claims, SHAPE, FLOAT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000

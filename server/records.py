"""Arrays as Flower's messages carry them."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord

from facemorph_core.learning.federated.codec import Arrays


def packed(arrays: Arrays) -> ArrayRecord:
    """The record of these arrays."""
    return ArrayRecord({name: Array(value) for name, value in arrays.items()})


def plain(record: ArrayRecord) -> Arrays:
    """The record's arrays in float32: Flower's adaptive rules compute in float64."""
    return {name: array.numpy().astype(np.float32) for name, array in record.items()}


def size_of(record: ArrayRecord) -> int:
    """Bytes of the record's arrays as they travel."""
    return sum(len(array.data) for array in record.values())

"""From other people's files to plain float32 arrays under torchvision's names or a graph's.

Kernels come out as OIHW, the order of torch. Nothing that a file names is ever called: pickles
are read by an unpickler that knows NumPy arrays and builtin containers and refuses the rest, and
of a TensorFlow.js graph only the list of its numbers is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facemorph_core.errors import MissingExtra, WeightsUnavailable

Arrays = dict[str, NDArray[np.float32]]

_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("collections", "OrderedDict"): dict,
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays in dicts, lists and tuples; anything else is an UnpicklingError."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed here") from None

    def persistent_load(self, pid: object) -> Any:
        raise pickle.UnpicklingError(f"a reference to something outside the file: {pid!r}")


def read_arrays(data: bytes) -> Any:
    """What a pickle of plain arrays holds.

    Raises:
        WeightsUnavailable: it holds anything else, or is damaged.
    """
    try:
        return ArrayUnpickler(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise WeightsUnavailable(f"a pickle of plain arrays was expected: {error}") from error


def from_flax(data: bytes, layers: tuple[int, ...]) -> Arrays:
    """The convolutions of a pickled flax tree: ``NET_0 / Conv_N / {kernel (HWIO), bias}``."""
    tree = read_arrays(data)
    try:
        (net,) = (part for name, part in tree.items() if name.startswith(("VGG16", "AlexNet")))
        converted: Arrays = {}
        for number, layer in enumerate(layers):
            kernel = net[f"Conv_{number}"]["kernel"].transpose(3, 2, 0, 1)  # HWIO -> OIHW
            converted[f"features.{layer}.weight"] = np.ascontiguousarray(kernel, np.float32)
            bias = net[f"Conv_{number}"]["bias"]
            converted[f"features.{layer}.bias"] = np.ascontiguousarray(bias, np.float32)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsUnavailable(f"the file is not laid out as expected: {error!r}") from error
    return converted


def from_torch(path: Path, layers: tuple[int, ...]) -> Arrays:
    """The convolutions of a state dict that torch saved, read with ``weights_only``."""
    try:
        import torch
    except ModuleNotFoundError:
        raise MissingExtra("train", needed_for="reading torchvision's own file") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        names = [f"features.{layer}.{part}" for layer in layers for part in ("weight", "bias")]
        return {name: state[name].detach().contiguous().float().numpy() for name in names}
    except (pickle.UnpicklingError, KeyError, RuntimeError, AttributeError) as error:
        raise WeightsUnavailable(f"{path.name} is not laid out as expected: {error}") from error


def from_tfjs(graph: bytes, numbers: bytes) -> Arrays:
    """The convolutions of a TensorFlow.js graph, their batch norms folded in, and PReLU's slopes.

    Under the graph's own names, with "." for "/": ``LAYER.weight``, ``.bias`` and, where a PReLU
    follows, ``.slope``. PReLU is there as relu(x) + mul (x - abs(x)), which makes the slope of the
    negative side 2 mul. In the one graph that is read here the sign of mul is wrong: the running
    means that are folded into the biases are those of the slope -2 mul, and only with that does
    the net know people (`facemorph_core.learning.losses.identity`).

    Raises:
        WeightsUnavailable: another layout than that.
    """
    converted: Arrays = {}
    try:
        (group,) = json.loads(graph)["weightsManifest"]
        start = 0
        for entry in group["weights"]:
            shape, dtype = entry["shape"], np.dtype(entry["dtype"]).newbyteorder("<")
            values = np.frombuffer(numbers, dtype, int(np.prod(shape, dtype=int)), start)
            start += values.nbytes
            converted |= _from_tfjs_part(entry["name"], values.reshape(shape))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsUnavailable(f"the graph is not laid out as expected: {error!r}") from error
    if start != len(numbers):
        raise WeightsUnavailable(f"the graph lists {start} bytes, its file has {len(numbers)}")
    return converted


def _from_tfjs_part(path: str, values: NDArray[Any]) -> Arrays:
    """One array under its new name; nothing if it belongs to no layer."""
    scope, _, part = path.rpartition("/")
    layer = scope.removeprefix("MobileFaceNet/").removeprefix("MobileFaceNet/").replace("/", ".")
    match part:
        case "Conv2D_weights":
            name, values = "weight", values.transpose(3, 2, 0, 1)  # HWIO -> OIHW
        case "depthwise_weights":
            name, values = "weight", values.transpose(2, 3, 0, 1)  # HWC1 -> C1HW
        case "Conv2D_bn_offset" | "depthwise_bn_offset":
            name = "bias"
        case "mul":
            name, values = "slope", -2 * values
        case _:
            return {}
    return {f"{layer}.{name}": np.array(values, np.float32, order="C")}


def digest_of(arrays: Mapping[str, NDArray[np.float32]]) -> str:
    """SHA-256 of names, shapes and values, whatever file they lie in."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()

r"""Random numbers that nobody can repeat without a key: AES-256 in counter mode.

A stream has an address, such as ("noise", step) or ("light", step, row): its key is a keyed hash
of the address. So what is drawn for one photo never depends on which other photos there are, and
256 bits from the operating system are all that a round needs.

Noise is drawn and added in double precision and only their sum is rounded to single, so that each
number that is released can come about in a great many ways. That makes the attack on the gaps
between floating-point numbers (Mironov, 2012) harder; it is no proof against it.

References:
    | Recommendation for Block Cipher Modes of Operation (NIST SP 800-38A, 2001)
    | A Note on the Generation of Random Normal Deviates (Box and Muller, 1958)
    | On Significance of the Least Significant Bits for Differential Privacy (Mironov, 2012)
"""

from __future__ import annotations

import hashlib
import math
import secrets

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

_KEY_BYTES = 32
_MANTISSA = 2**53  # whole numbers that a double holds exactly
_AT_ONCE = 2**21  # numbers drawn at a time: bounds the memory


class Secret:
    """Streams of random numbers from one key; without ``key``, from the operating system's."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(_KEY_BYTES) if key is None else key

    def uniform(self, count: int, *address: str | int) -> Tensor:
        """(count,) float64 numbers from [0, 1)."""
        return _fractions(self._words(count, address))

    def normal(self, shape: tuple[int, ...], *address: str | int) -> Tensor:
        """float64 numbers from N(0, 1)."""
        count = math.prod(shape)
        parts = [
            _box_muller(self._words(2 * -(-min(_AT_ONCE, count - start) // 2), (*address, start)))
            for start in range(0, count, _AT_ONCE)
        ]
        drawn = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        return drawn[:count].view(shape)

    def generator(self, *address: str | int) -> torch.Generator:
        """Torch's own generator, for what is done to a photo before its gradient is bounded.

        Its seed has 32 bits, as all of torch's on the CPU: enough there, where what is drawn
        needs no secrecy, only to have nothing to do with other photos.
        """
        return torch.Generator().manual_seed(int(self._words(1, address)[0]) % 2**32)

    def _words(self, count: int, address: tuple[str | int, ...]) -> Tensor:
        """(count,) int64 of random bits."""
        key = hashlib.blake2b(
            repr(address).encode(), key=self._key, digest_size=_KEY_BYTES
        ).digest()
        stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        bits = bytearray(stream.update(bytes(8 * count)))
        return torch.from_numpy(np.frombuffer(bits, np.int64))


def _fractions(words: Tensor) -> Tensor:
    """Each word's 53 lowest bits as a fraction, float64."""
    return (words & (_MANTISSA - 1)).double() / _MANTISSA


def _box_muller(words: Tensor) -> Tensor:
    """As many independent normal numbers as there are words; an even number of them."""
    first, second = _fractions(words).chunk(2)
    radius = first.neg().log1p().mul(-2).sqrt()  # 1 - u lies in (0, 1]: never the log of 0
    angle = second * (2 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()])

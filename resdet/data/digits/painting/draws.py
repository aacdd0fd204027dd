"""Random draws that are the same with every NumPy, on every machine.

NumPy guarantees the raw stream of a bit generator and the mixing of `SeedSequence`, but not the
output of `Generator.normal` or `integers`. So only raw 64-bit words are taken, and every draw below
is made from them by integer arithmetic or by one float64 operation.

Not for: training. Shuffles and augmentation there have their own seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

WORDS_AT_ONCE = 256
# Grid on which results of sin, cos and pow are put: C libraries differ in their last bits.
GRID = 1 << 20


def on_grid(value: float) -> float:
    """`value` rounded to a multiple of 2**-20, the same whatever the C library's last bit is."""
    return round(value * GRID) / GRID


class Draws:
    """One stream of draws, named by integers such as (seed, split, index)."""

    def __init__(self, *name: int):
        self._bits = np.random.PCG64(np.random.SeedSequence(list(name)))
        self._words: list[int] = []

    def _word(self) -> int:
        if not self._words:
            self._words = self._bits.random_raw(WORDS_AT_ONCE).tolist()
        return self._words.pop()

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A float in [low, high), of 53 random bits."""
        return low + (high - low) * ((self._word() >> 11) * 2.0**-53)

    def below(self, count: int) -> int:
        """An integer in [0, count)."""
        return (self._word() >> 32) * count >> 32

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high], both ends included."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def choice(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def log_uniform(self, low: float, high: float) -> float:
        """A float in [low, high] whose logarithm is uniform."""
        return on_grid(low * math.pow(high / low, self.uniform()))

    def permutation(self, count: int) -> list[int]:
        """0 … count - 1 in random order: sorted by one random word each."""
        words = [self._word() for _ in range(count)]
        return sorted(range(count), key=words.__getitem__)

    def noise(self, shape: tuple[int, ...], sigma: float) -> np.ndarray:
        """Integers of about normal distribution, mean 0, standard deviation `sigma` grey levels.

        Each is the sum of four random bytes, scaled in integers: bell-shaped and bounded, and
        four times cheaper than a normal draw.
        """
        count = math.prod(shape)
        words = self._bits.random_raw((count + 1) // 2).astype("<u8")
        pairs = words.view(np.uint8).view("<u2")  # 2 * count halves of two bytes
        pairs = (pairs & 0xFF) + (pairs >> 8)
        sums = (pairs[0::2] + pairs[1::2])[:count].astype(np.int32) - 510
        # 147.8: standard deviation of a sum of four uniform bytes, sqrt(4 * (256**2 - 1) / 12).
        return ((sums * round(sigma * 65536 / 147.8) + 32768) >> 16).reshape(shape)

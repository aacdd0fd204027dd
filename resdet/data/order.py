"""One sample order for all: which image comes at which position, and with which random numbers.

The order is a pure function of (seed, position), so a training goes on exactly where it stopped,
on any number of workers and processes (`docs/faults.md` F36, F42, F49). Each epoch is a permutation
of its own. The random numbers of a sample depend on (seed, epoch, index) alone.

Not for: reading samples, or evaluation (which goes through a set once, in its own order).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """Image `index` of the set, drawn in `epoch`."""

    epoch: int
    index: int


class SampleOrder:
    """The endless order of a set of `num_samples`.

    Args:
        num_samples: at least 1.
        seed: 0 or above.
        groups: per sample the number of a group; a batch holds samples of one group only
            (Detectron2 groups wide and tall images). None: one group.

    Raises:
        ValueError: no samples, a negative seed, or as many groups as there are not samples.
    """

    def __init__(self, num_samples: int, seed: int, groups: Sequence[int] | None = None):
        if num_samples < 1:
            raise ValueError("num_samples is 0: there is nothing to draw")
        if seed < 0:
            raise ValueError(f"seed is {seed}, expected 0 or above: the order must be repeatable")
        if groups is not None and len(groups) != num_samples:
            raise ValueError(f"{len(groups)} groups for {num_samples} samples")
        self.num_samples = num_samples
        self.seed = seed
        self.groups = groups

    def samples(self, start: int = 0) -> Iterator[Sample]:
        """Samples from position `start` on, without end."""
        first_epoch, offset = divmod(start, self.num_samples)
        for epoch in itertools.count(first_epoch):
            generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
            for index in generator.permutation(self.num_samples)[offset:].tolist():
                yield Sample(epoch, index)
            offset = 0

    def batches(self, batch_size: int, start: int = 0) -> Iterator[list[Sample]]:
        """Batches from number `start` on, without end.

        With groups the batches before `start` are drawn again without reading anything: where
        the next batch begins depends on what waits in each group.
        """
        if self.groups is None:
            stream = self.samples(start * batch_size)
            while True:
                yield list(itertools.islice(stream, batch_size))
        waiting: dict[int, list[Sample]] = {}
        number = 0
        for sample in self.samples():
            group = waiting.setdefault(self.groups[sample.index], [])
            group.append(sample)
            if len(group) == batch_size:
                if number >= start:
                    yield list(group)
                group.clear()
                number += 1


def generator_for(seed: int, sample: Sample) -> np.random.Generator:
    """The random numbers of one sample's augmentation."""
    return np.random.Generator(np.random.PCG64([seed, sample.epoch, sample.index]))


def seed_global_generators(seed: int, sample: Sample) -> None:
    """The same for code that draws from numpy's and Python's global generators (Detectron2's)."""
    state = int(generator_for(seed, sample).integers(2**32))
    np.random.seed(state)  # noqa: NPY002 it is the global one that they draw from
    random.seed(state)

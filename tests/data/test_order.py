"""One sample order: a function of seed and position, whatever the start, workers or processes."""

import itertools

import numpy as np
import pytest

from resdet.data.order import Sample, SampleOrder, generator_for


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def test_every_epoch_shows_every_sample_once():
    order = SampleOrder(7, seed=3)
    samples = take(order.samples(), 21)
    for epoch in range(3):
        part = samples[7 * epoch : 7 * epoch + 7]
        assert sorted(s.index for s in part) == list(range(7))
        assert {s.epoch for s in part} == {epoch}


@pytest.mark.parametrize("groups", [None, [0, 1, 1, 0, 1, 0, 0, 1, 1, 1]])
@pytest.mark.parametrize("start", [0, 1, 4, 13])
def test_going_on_from_any_batch_equals_one_go(groups, start):
    """F36: Detectron2 drew 5 0 1 3 twice and never 2 and 4."""
    order = SampleOrder(10, seed=5, groups=groups)
    whole = take(order.batches(3), 20)
    assert take(order.batches(3, start), 20 - start) == whole[start:]


def test_a_batch_holds_one_group_only():
    """Detectron2's aspect ratio grouping."""
    groups = [i % 2 for i in range(11)]
    for batch in take(SampleOrder(11, 0, groups).batches(4), 30):
        assert len({groups[s.index] for s in batch}) == 1 and len(batch) == 4


def test_processes_share_each_batch():
    """F49: 8 to 4 processes changes who reads a sample, not which samples make a step."""
    whole = take(SampleOrder(10, 1).batches(4), 5)
    parts = [[b[r::2] for b in take(SampleOrder(10, 1).batches(4), 5)] for r in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert sorted(first + second, key=batch.index) == batch


def test_seeds_and_epochs_give_other_orders():
    a, b = (take(SampleOrder(50, seed).samples(), 100) for seed in (0, 1))
    assert a != b
    assert [s.index for s in a[:50]] != [s.index for s in a[50:]]


def test_random_numbers_belong_to_the_sample():
    """F42: the same for any number of workers, other in each epoch."""
    draw = [generator_for(1, Sample(e, i)).random() for e, i in ((0, 0), (0, 0), (1, 0), (0, 1))]
    assert draw[0] == draw[1] and len(set(draw)) == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [((0, 1), "nothing to draw"), ((3, -1), "seed is -1"), ((3, 1, [0]), "1 groups for 3 samples")],
)
def test_what_cannot_be_ordered_is_refused(args, message):
    with pytest.raises(ValueError, match=message):
        SampleOrder(*args)


def test_the_order_is_the_same_on_every_machine():
    """numpy's PCG64 is specified; the first draws of seed 1, computed by numpy alone."""
    expected = np.random.Generator(np.random.PCG64([1, 0])).permutation(5).tolist()
    assert [s.index for s in take(SampleOrder(5, 1).samples(), 5)] == expected

"""BN statistics against the whole population, by numpy; batches of any size, several processes."""

import itertools
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from resdet.pretrain.recipe.norm_statistics import combined, recompute_bn_statistics
from tests.support import children

SCRIPT = Path(__file__).parents[2] / "support" / "norm_statistics_in_two.py"


def images(number=50):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(number, 3, 5, 5, generator=generator)
    x = x * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1) + 7
    x[20:] += 4  # batches differ, so that a mean of variances is another number
    return x


def population(x):
    values = x.double().numpy().transpose(1, 0, 2, 3).reshape(3, -1)
    return torch.from_numpy(values.mean(1)), torch.from_numpy(values.var(1))


@pytest.mark.parametrize("sizes", [[50], [10] * 5, [30, 19, 1], [1] * 50], ids=str)
def test_they_are_the_populations_whatever_the_batches(sizes):
    """Batches count by their sizes: of 30, 19 and 1, equal weights give a mean that is 0.4 off."""
    x = images()
    net = nn.Sequential(nn.BatchNorm2d(3))
    batches = [(part, None, []) for part in x.split(sizes)]
    assert recompute_bn_statistics(net, batches, lambda t: t, len(sizes)) == (1, 50)
    mean, variance = population(x)
    # float32: torch's mean and variance of a batch, rounded to 6e-8 each, and the buffer itself.
    torch.testing.assert_close(net[0].running_mean.double(), mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(net[0].running_var.double(), variance, rtol=2e-6, atol=0)


def test_a_layer_normalises_by_its_batch_meanwhile():
    """The second norm sees maps that the first made of one batch at a time: mean 0, variance 1."""
    x = images()
    net = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    recompute_bn_statistics(net, [(part, None) for part in x.split(10)], lambda t: t, 5)
    seen = torch.cat([nn.BatchNorm2d(3)(part) for part in x.split(10)])
    mean, variance = population(seen.detach())
    torch.testing.assert_close(net[1].running_mean.double(), mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(net[1].running_var.double(), variance, rtol=2e-6, atol=0)


def test_a_layer_that_no_image_reaches_keeps_its_statistics():
    class OneOfTwo(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.used(x)

    net = OneOfTwo()
    net.other.running_mean.fill_(5)
    assert recompute_bn_statistics(net, [(images(), None)], lambda t: t, 1) == (2, 50)
    assert net.other.running_mean.eq(5).all() and net.used.running_mean.ne(0).all()


def test_without_norms_nothing_is_read():
    def batches():
        raise AssertionError("read")
        yield

    assert recompute_bn_statistics(nn.Linear(2, 2), batches(), lambda t: t, 1) == (0, 0)


def test_it_shows_how_far_it_is(monkeypatch, caplog):
    """51,200 images take minutes: a line at most every ten seconds, here of 6 s a batch."""
    clock = itertools.count(0, 6)
    name = "resdet.pretrain.recipe.norm_statistics"
    monkeypatch.setattr(f"{name}.time.monotonic", lambda: float(next(clock)))
    net = nn.Sequential(nn.BatchNorm2d(3))
    batches = [(torch.randn(2, 3, 4, 4), None, [])] * 6
    with caplog.at_level(logging.INFO, logger=name):
        recompute_bn_statistics(net, batches, lambda t: t, 6)
    assert [r.getMessage() for r in caplog.records if r.name == name] == [
        "statistics of norms: 2 of 6 batches, 6.000 s a batch, eta 24 s",
        "statistics of norms: 4 of 6 batches, 6.000 s a batch, eta 12 s",
        "statistics of norms: 6 of 6 batches, 6.000 s a batch, eta 0 s",
    ]


def test_moments_of_parts_are_those_of_the_whole():
    """Chan, Golub, LeVeque's update, in double, against numpy over both parts together."""
    generator = np.random.default_rng(1)
    a, b = generator.normal(1e4, 1, (2, 7)), generator.normal(1e4 + 3, 2, (2, 300))

    def moments(x):
        mean = x.mean(1)
        return x.shape[1], torch.tensor(mean), torch.tensor(((x.T - mean) ** 2).sum(0))

    whole = np.concatenate([a, b], 1)
    count, mean, squares = combined(moments(a), moments(b))
    assert count == 307
    np.testing.assert_allclose(mean, whole.mean(1), rtol=1e-14)
    np.testing.assert_allclose(squares / count, whole.var(1), rtol=1e-11)


def test_two_processes_combine_their_shares_exactly():
    """One has 33 images and the other 17, of other means; both get the whole set's statistics."""
    done = children.python(SCRIPT, processes=2, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    # Both print at once, and may share a line.
    found = [json.loads(text) for text in re.findall(r"{[^{}]*}", done.stdout)]
    assert len(found) == 2 and found[0] == found[1]
    mean, variance = population(images())
    assert found[0]["images"] == 50
    np.testing.assert_allclose(found[0]["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(found[0]["variance"], variance, rtol=2e-6)

"""ENGINE.FAST_TRAINING against the same model without it: losses, gradients, names, statistics."""

import copy

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from resdet.detect.fast.fast_detector import fast
from resdet.detect.fast.fast_training import speed_up
from resdet.engine.speed.precision import Precision
from tests.support.detectors import (
    NETS,
    bound_of_bfloat16,
    boxes,
    detector,
    detector_on_standard_heads,
    images,
)

pytestmark = pytest.mark.numeric


def batch():
    found = images()
    for number, record in enumerate(found):
        objects = Instances((record["height"], record["width"]))
        objects.gt_boxes = Boxes(
            torch.tensor([[10.0, 20.0, 90.0, 100.0], [60.0, 5.0, 130.0, 60.0]])
        )
        objects.gt_classes = torch.tensor([number, 3])
        record["instances"] = objects
    return found


def fixed_proposals(dtype=torch.float64):
    found = []
    for number, record in enumerate(images()):
        proposals = Instances((record["height"], record["width"]))
        proposals.proposal_boxes = Boxes(boxes(40, number).to(dtype))
        proposals.objectness_logits = torch.zeros(40, dtype=dtype)
        found.append(proposals)
    return found


def losses_of(model):
    """With the draws of step 0; gradients lie in the parameters."""
    torch.manual_seed(0)
    if next(model.parameters()).dtype == torch.float64:
        # Detectron2's NMS is for float32 alone; `test_proposals` is about it.
        model.proposal_generator.predict_proposals = lambda *_: fixed_proposals()
    with EventStorage():
        losses = model.train()(batch())
    sum(losses.values()).backward()
    return {name: value.detach() for name, value in losses.items()}


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
@pytest.mark.parametrize("case", NETS)
def test_losses_and_gradients_are_the_stock_ones(case, norm):
    """In float64, live norms and frozen ones; of every parameter, under its own name."""
    model = detector(*NETS[case], norm=norm).double()
    model.roi_heads.batch_size_per_image = 24
    quick = copy.deepcopy(model)
    speed_up(quick, Precision(channels_last=True))
    before, after = model.state_dict(), quick.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    expected, found = losses_of(model), losses_of(quick)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=name)
    pairs = zip(model.named_parameters(), quick.named_parameters(), strict=True)
    # Of the whole: what a bias before a live norm gets is rounding and nothing else.
    least = 1e-10 * max(p.grad.abs().max().item() for p in model.parameters())
    for (name, one), (_, two) in pairs:
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-7, atol=least, msg=name)
    # Statistics of live norms moved alike.
    for name, one in model.state_dict().items():
        torch.testing.assert_close(quick.state_dict()[name], one, rtol=1e-9, atol=1e-12, msg=name)


def test_few_regions_take_the_other_way_to_the_same_gradients():
    """Fewer cells in the regions than on the map: the first layers run in the regions."""
    model = detector(*NETS["1x1"]).double()
    model.roi_heads.batch_size_per_image = 1
    quick = copy.deepcopy(model)
    speed_up(quick, Precision())
    expected, found = losses_of(model), losses_of(quick)
    torch.testing.assert_close(sum(found.values()), sum(expected.values()), rtol=1e-10, atol=0)
    for one, two in zip(model.parameters(), quick.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", ["resnet fpn", "resnet dc5"])
def test_detectors_on_detectron2s_own_heads(case):
    """FPN and DC5: the same losses and gradients in float64; the same losses in float32, rounded.

    No gradients in float32: where rounding turns one ReLU on or off they jump (1.3e-4 of their norm
    with AVX2 and two threads, 1e-6 elsewhere). Losses do not: 60 layers that round by some 1e-7 of
    a map each are 6e-6 at most.
    """
    model = detector_on_standard_heads(case)
    quick = copy.deepcopy(model)
    speed_up(quick, Precision(channels_last=True))
    assert list(model.state_dict()) == list(quick.state_dict())
    for one in (model, quick):
        one.proposal_generator.predict_proposals = lambda *_: fixed_proposals(torch.float32)
    expected, found = losses_of(model), losses_of(quick)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)
    for one in (model, quick):
        one.double().zero_grad()
    expected, found = losses_of(model), losses_of(quick)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=name)
    differences, every = [], []
    for one, two in zip(model.parameters(), quick.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None)
        if one.grad is not None:
            every.append(one.grad)
            differences.append(one.grad - two.grad)
    total = torch.nn.utils.get_total_norm
    assert len(every) > 20
    assert total(differences) < 1e-9 * total(every)


@pytest.mark.bf16
def test_bfloat16_keeps_float32_weights_and_stays_near():
    """Weights and gradients in float32; losses within what 53 layers round on the same regions.

    Without them RPN's order of boxes, which hangs on rounding, made one loss differ by 8 %.
    """
    model = detector(*NETS["1x1"])
    quick = copy.deepcopy(model)
    speed_up(quick, Precision(bf16=True, channels_last=True))
    for one in (model, quick):
        one.proposal_generator.predict_proposals = lambda *_: fixed_proposals(torch.float32)
    expected, found = losses_of(model), losses_of(quick)
    assert {p.dtype for p in quick.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in quick.parameters()} == {torch.float32}
    assert {v.dtype for v in found.values()} == {torch.float32}
    assert sum(expected.values()) != sum(found.values())
    for name, value in expected.items():
        assert abs(found[name] - value) < bound_of_bfloat16(53) * value, name


@pytest.mark.bf16
@pytest.mark.parametrize("standard", [False, True], ids=["our heads", "FPN"])
def test_every_layer_that_is_called_computes_in_bfloat16(standard):
    """Trunk, pyramid, tail and box head, whatever the config was when the model was built."""
    model = detector_on_standard_heads("resnet fpn") if standard else detector(*NETS["1x1"])
    model.roi_heads.batch_size_per_image = 24
    speed_up(model, Precision(bf16=True, channels_last=True))
    types = {}
    for name, module in model.named_modules():
        layer = isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
        if layer and name.startswith(("backbone", "roi_heads")) and "predictor" not in name:
            module.register_forward_hook(lambda m, x, y, name=name: types.update({name: y.dtype}))
    losses_of(model)
    assert len(types) > 10
    assert {n: t for n, t in types.items() if t != torch.bfloat16} == {}


def test_detecting_with_a_model_that_was_sped_up():
    """The trained model, and its fast form, detect what the stock model detects."""
    model = detector(*NETS["1x1"])
    quick = copy.deepcopy(model)
    speed_up(quick, Precision(channels_last=True))
    with torch.no_grad():
        expected = model(images(1))[0]["instances"]
        for other in (quick.eval(), fast(quick)):
            found = other(images(1))[0]["instances"]
            assert len(found) == len(expected)
            # Sorted by score, so order is no matter; rounding moves one by less than 1e-6 (seen).
            torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-4)

"""ENGINE.COMPILE: the same losses and gradients, files without a trace of it, refusals."""

import itertools

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.engine.evaluation import evaluating
from resdet.engine.loop import Loop
from resdet.engine.speed import torch_compile as module
from resdet.engine.speed.cpu_features import ATEN_LIMIT
from resdet.engine.speed.torch_compile import compiled, missing_compiler
from resdet.errors import ConfigError
from resdet.nets.resnet import BasicBlock, ResNet

needs_compiler = pytest.mark.skipif(
    bool(missing_compiler("cpu")), reason=f"cannot compile here: {missing_compiler('cpu')}"
)
# float32, sums in another order. A weight's gradient is a sum over 256 places (4 images of 8 x 8),
# which rounds by 256 * 6e-8 = 1.5e-5 of its terms at most; six layers pass that on to each other
# through norms, which divide by small numbers.
ROUNDING = 1e-4


def test_off_is_the_model_itself():
    model = torch.nn.Linear(2, 2)
    assert compiled(model, "off", "cpu") is model


@pytest.mark.parametrize(
    ("device", "patch", "words"),
    [
        ("cpu", "no compiler", r"no C\+\+ compiler \(none-such\): apt install g\+\+, name another"),
        ("cpu", "no headers", r"Python's headers are not here \(Python\.h\): apt install python3"),
        ("cpu", "limited", "ATEN_CPU_CAPABILITY=default is set.*unset ATEN_CPU_CAPABILITY"),
        ("cuda", "no triton", "triton is not installed.*pip install triton"),
        ("cuda", "no compiler", "no C compiler"),
    ],
)
def test_where_nothing_can_compile_it_states_what_to_type(
    monkeypatch, tmp_path, device, patch, words
):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv(ATEN_LIMIT, raising=False)
    if patch == "limited":
        monkeypatch.setenv(ATEN_LIMIT, "default")
    elif patch == "no compiler":
        monkeypatch.setenv("CXX", "none-such")
        monkeypatch.setattr(module.shutil, "which", lambda name: None)
    elif patch == "no headers":
        monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/g++")
        monkeypatch.setattr(module.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    else:
        monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"ENGINE\.COMPILE is on, but .*{words}.*COMPILE to off"):
        compiled(torch.nn.Linear(2, 2), "on", device)


def make_net():
    """Two blocks, the second with a projection: compiled in seconds."""
    torch.manual_seed(0)
    return ResNet(BasicBlock, (1, 1), 4, 3, stem="cifar").train()


def batch_of(size):
    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, 3, 8, 8, generator=generator), torch.arange(size) % 3


@needs_compiler
@pytest.mark.numeric
def test_a_compiled_net_trains_as_itself_and_leaves_no_trace():
    """Loss, gradients and BN statistics of a step as without it; names of tensors unchanged; two
    sizes of batch are compiled once each, and scoring in other sizes compiles nothing."""
    plain, net = make_net(), make_net()
    call = compiled(net, "on", "cpu")
    torch._dynamo.utils.counters.clear()
    for size in (4, 2, 4, 2):
        x, y = batch_of(size)
        losses = []
        for model, forward in ((plain, plain), (net, call)):
            model.zero_grad()
            loss = torch.nn.functional.cross_entropy(forward(x), y)
            loss.backward()
            losses.append(loss.item())
        assert losses[1] == pytest.approx(losses[0], rel=ROUNDING)
        for (name, p), q in zip(net.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=ROUNDING, atol=ROUNDING, msg=name)
    with evaluating(net), torch.no_grad():
        for size in (1, 3, 5):
            net(batch_of(size)[0])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    ours, theirs = net.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=ROUNDING, atol=ROUNDING)


def make_loop(setting):
    net = make_net()
    call = compiled(net, setting, "cpu")
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    return Loop(
        net,
        optimizer,
        torch.optim.lr_scheduler.StepLR(optimizer, 10),
        lambda batch: {"loss": torch.nn.functional.cross_entropy(call(batch[0]), batch[1])},
        lambda start: itertools.repeat(batch_of(4)),
        seed=1,
    )


@needs_compiler
@pytest.mark.parametrize(("before", "after"), [("off", "on"), ("on", "off")])
@pytest.mark.numeric
def test_a_checkpoint_goes_on_with_and_without(before, after):
    """Two steps and two of the other setting are four steps of a loop without it."""
    whole, first, second = make_loop("off"), make_loop(before), make_loop(after)
    whole.train(0, 4)
    first.train(0, 2)
    second.load_state_dict(first.state_dict())
    second.train(2, 4)
    for name, tensor in whole.model.state_dict().items():
        ours = second.model.state_dict()[name]
        # Ten times ROUNDING of a weight: each of four steps starts from the last one's rounding.
        torch.testing.assert_close(ours, tensor, rtol=1e-3, atol=1e-4, msg=name)

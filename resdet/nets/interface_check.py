"""Whether a net implements the three methods correctly; else every fault, at once.

Not for: the quality of the net.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from resdet.nets.chain import Chain, by_stage
from resdet.nets.net import Stage

WANTED = {"shared_stage": str, "pooled_size": int, "tail_channels": int, "num_classes": int}
SEE = "docs/own_net.md shows a whole net"
# Sides that a classifier of one size is tried on: ImageNet's and CIFAR's.
USUAL_SIDES = (224, 32)
# Each net fails in its own way.
FAILURES = (RuntimeError, ValueError, AssertionError)


def check_interface(net: nn.Module) -> None:
    """Methods, attributes and names, without running anything.

    Raises:
        ValueError: all that is missing or of another kind, each with what was expected.
    """
    what = type(net).__name__
    if not isinstance(net, nn.Module):
        raise ValueError(f"the builder gave a {what}, expected a torch.nn.Module. {SEE}.")
    faults = [
        f"{method}() is missing: {promise}"
        for method, promise in (
            ("stages", "it gives the Stage(name, channels, stride) of every map, in order"),
            ("trunk", "trunk(to) gives the layers up to the stage `to`"),
            ("tail", "tail(after) gives the layers behind the shared stage"),
        )
        if not callable(getattr(net, method, None))
    ]
    faults += [
        f"{name} is {_shown(getattr(net, name, None))}, expected {kind.__name__}"
        for name, kind in WANTED.items()
        if type(getattr(net, name, None)) is not kind
    ]
    if not faults:
        faults = _faults_of_names(net)
    if faults:
        raise ValueError("\n".join((f"{what} is no net for resdet:", *faults, f"{SEE}.")))


def check_net(net: nn.Module, *, side: int | None = None) -> None:
    """Runs the net on small random images, and compares every shape with the declared one.

    Strides are measured by two sizes: a map grows by one cell per `stride` pixels, whatever
    padding does at its edges. Parameters, statistics and mode stay as they were.

    Args:
        net: on any device; on "meta" nothing can be run, and its interface is checked alone.
        side: of the smaller square image, in pixels; by default four cells of the last map, at
            least 128. The larger one has four cells more.

    Raises:
        ValueError: as `check_interface`; or a layer fails, a map, a region or the logits have
            another shape, or a layer changes the map of a stage in place; states which method, the
            expected and the actual value.
    """
    check_interface(net)
    if any(p.is_meta for p in net.parameters()):
        return
    promised: Any = net
    stages = list(promised.stages())
    step = 4 * stages[-1].stride
    side = side or max(128, step)
    was_training = [m.training for m in net.modules()]
    net.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _check_maps(promised, stages, side, side + step)
            _check_tail(promised, stages)
            _check_logits(promised, side)
    finally:
        for module, mode in zip(net.modules(), was_training, strict=True):
            module.train(mode)


def _faults_of_names(net: Any) -> list[str]:
    stages: Sequence[Any] = net.stages()
    if not stages or not all(isinstance(s, Stage) for s in stages):
        kinds = ", ".join(sorted({type(s).__name__ for s in stages})) or "nothing"
        return [f"stages() gives {kinds}, expected resdet.nets.Stage, at least one"]
    names, strides = [s.name for s in stages], [s.stride for s in stages]
    if len(set(names)) < len(names):
        return [f"stages() gives a name twice: {', '.join(names)}"]
    if strides != sorted(strides):
        return [f"stages() gives strides {strides}, expected strides that never fall"]
    if net.shared_stage not in names:
        return [f"shared_stage is {net.shared_stage!r}, expected one of {', '.join(names)}"]
    faults = []
    for method, argument in (("trunk", names[-1]), ("trunk", net.shared_stage), ("tail", None)):
        called = f"{method}({argument!r})" if argument else f"{method}()"
        try:
            chain = Chain.of(getattr(net, method)(argument))
        except (TypeError, ValueError) as error:
            faults.append(f"{called}: {error}")
            continue
        faults += _faults_of_tensors(net, chain, called)
        if method == "trunk":
            expected = names[: names.index(argument or "") + 1]
            if list(by_stage(chain.names, names)) != expected or chain.names[-1:] != expected[-1:]:
                faults.append(
                    f"{called} has the layers {', '.join(chain.names) or 'none'}, expected "
                    f"{', '.join(expected)} among them in this order, the last one at the end"
                )
    return faults


def _faults_of_tensors(net: nn.Module, chain: Chain, called: str) -> list[str]:
    """The chain's tensors must be the net's own, under the net's names, for loading."""
    own = net.state_dict()
    for name, tensor in chain.state_dict().items():
        if name not in own:
            return [
                f"{called} has the tensor {name}, which the net's state_dict() does not have: a "
                "layer must be called as the net calls it"
            ]
        if own[name].data_ptr() != tensor.data_ptr():
            return [f"{called} has a copy of {name}: expected the net's own layer, not another"]
    return []


def _check_maps(net: Any, stages: Sequence[Stage], small: int, large: int) -> None:
    sizes: dict[str, list[tuple[int, ...]]] = {s.name: [] for s in stages}
    for side in (small, large):
        x = _random(net, 1, 3, side, side)
        kept: list[tuple[str, torch.Tensor, torch.Tensor]] = []
        for name, layer in Chain.of(net.trunk(stages[-1].name)).items():
            x = _run(f"{type(net).__name__}.trunk(): the layer {name}", layer, x)
            if name in sizes:
                sizes[name].append(tuple(x.shape))
                kept.append((name, x, x.clone()))
        for name, now, then in kept:
            if not torch.equal(now, then):
                raise ValueError(
                    f"{type(net).__name__}.trunk(): the layer behind {name} changes the map of "
                    f"{name} in place, and an FPN would read it too late. Use inplace=False there."
                )
    for stage in stages:
        first, second = sizes[stage.name]
        where = f"{type(net).__name__}.stages() promises {stage}, but trunk() gave"
        if len(first) != 4 or first[1] != stage.channels:
            raise ValueError(
                f"{where} {first} for a {small} x {small} image, expected (1, {stage.channels}, "
                f"{small // stage.stride}, {small // stage.stride}) or nearly so."
            )
        growth = (large - small) // stage.stride
        if second[2] - first[2] != growth or second[3] - first[3] != growth:
            raise ValueError(
                f"{where} {first[2]} x {first[3]} cells at {small} pixels and {second[2]} x "
                f"{second[3]} at {large}: a stride of {stage.stride} gives {growth} more a side."
            )


def _check_tail(net: Any, stages: Sequence[Stage]) -> None:
    channels = next(s.channels for s in stages if s.name == net.shared_stage)
    regions = _random(net, 2, channels, net.pooled_size, net.pooled_size)
    asked = f"{type(net).__name__}.tail() on two regions of shape {tuple(regions.shape)}"
    out = _run(f"{asked} (pooled_size, shared_stage)", Chain.of(net.tail()), regions)
    if tuple(out.shape) != (2, net.tail_channels):
        raise ValueError(
            f"{asked} gives {tuple(out.shape)}, expected (2, {net.tail_channels}): "
            "regions, tail_channels."
        )


def _check_logits(net: Any, side: int) -> None:
    """On images of that side, or of a usual one: a last layer may take maps of one size alone."""
    faults = []
    for size in (side, *USUAL_SIDES):
        try:
            out = _run(f"{type(net).__name__}.forward()", net, _random(net, 2, 3, size, size))
        except ValueError as error:
            faults.append(error)
            continue
        _check_shape_of_logits(net, out, size)
        return
    raise faults[0]


def _check_shape_of_logits(net: Any, out: Any, side: int) -> None:
    shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
    if shape != (2, net.num_classes):
        raise ValueError(
            f"{type(net).__name__}.forward() on two {side} x {side} images gives {shape}, expected "
            f"(2, {net.num_classes}): images, num_classes."
        )


def _run(what: str, layer: nn.Module, x: torch.Tensor) -> Any:
    """Raises ValueError where the layer does not take this input; begins with what it is."""
    try:
        return layer(x)
    except FAILURES as error:
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{what} fails: {reason} (its input has {tuple(x.shape)})") from None


def _random(net: Any, *shape: int) -> torch.Tensor:
    parameter = next(net.parameters())
    return torch.randn(*shape).to(parameter)


def _shown(value: Any) -> str:
    return "missing" if value is None else f"{value!r} ({type(value).__name__})"

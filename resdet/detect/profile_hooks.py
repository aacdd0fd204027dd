"""Spans around the parts of a detector, while `--profile` records: forward hooks, nothing patched.

NMS is an operator of torchvision's that Detectron2 calls; torch's own `TorchFunctionMode` records
it inside the RPN and the region heads. The row is the operator alone: sorting and picking
around it belong to the row above.

Not for: our own region heads' tail, which has its span where it runs (`region_heads`,
`region_features`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from resdet import profile

# Detectron2's paths of the parts that are shown. Paths that a model lacks are skipped.
PARTS = (
    ("backbone", "trunk"),
    ("proposal_generator", "RPN"),
    ("proposal_generator.rpn_head", "RPN layers"),
    ("roi_heads", "RoI heads"),
    ("roi_heads.pooler", "RoI pooling"),
    ("roi_heads.box_pooler", "RoI pooling"),
    ("roi_heads.res5", "RoI tail"),
    ("roi_heads.box_head", "RoI tail"),
    ("roi_heads.box_predictor", "class and box layers"),
)
CALLS_NMS = ("proposal_generator", "roi_heads")


def watch(model: nn.Module) -> None:
    """Hooks for the life of the model, where a profile is recorded; else nothing."""
    if profile.active() is None:
        return
    # Our heads' last layers have the names of stages, res5 among them.
    tail_names = set(getattr(_part(model, "roi_heads"), "tail_names", ()))
    for path, name in PARTS:
        module = _part(model, path)
        if module is not None and path.removeprefix("roi_heads.") not in tail_names:
            _around(module, functools.partial(profile.span, name))
    for path in CALLS_NMS:
        module = _part(model, path)
        if module is not None:
            _around(module, _SpanOfNMS)


def _part(model: nn.Module, path: str) -> nn.Module | None:
    part: Any = model
    for name in path.split("."):
        part = getattr(part, name, None)
    return part if isinstance(part, nn.Module) else None


def _around(module: nn.Module, context: Callable[[], Any]) -> None:
    """Every forward of the module within a new context, also one that raises."""
    open_ones: list[Any] = []

    def before(module: nn.Module, args: Any) -> None:
        open_ones.append(context())
        open_ones[-1].__enter__()

    def after(module: nn.Module, args: Any, output: Any) -> None:
        open_ones.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after, always_call=True)


class _SpanOfNMS(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if str(function) == "torchvision.nms":
            with profile.span("NMS"):
                return function(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

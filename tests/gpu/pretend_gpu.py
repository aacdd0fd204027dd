"""A pretend GPU for machines without one: tensors say cuda:0, their values lie on the CPU.

    with pretend() as gpu:
        net.to("cuda")(torch.zeros(1, 3, 32, 32, device="cuda")).sum().backward()
    gpu.waits, gpu.launches, gpu.copies          # counted by line of code

torch lets a backend be written in Python (PrivateUse1). Operations are seen below autograd, checked
as CUDA checks them, run on the CPU and wrapped again. Refused are: operands on two devices, GPU
indices into a CPU tensor, `.numpy()`, operations without a CUDA kernel, `torch.load` without
map_location. Autocast casts by CUDA's lists.

It cannot be undone in a process: tests on it run in one of their own (`test_pretend_gpu.py`).

Not for: speed, memory, streams, rounding of CUDA's kernels, NCCL, torch.compile.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
import torchvision  # noqa: F401 its operations are registered
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as tree
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
OURS = ("/resdet/", "/detectron2/", "/fvcore/")


class Refused(RuntimeError):
    """What CUDA would refuse."""


class Place:
    """The one device that is pretended; None before the first use."""

    here: torch.device | None = None
    gpu: PretendGPU | None = None


class OnGPU(torch.Tensor):
    """A tensor that says it lies on cuda:0. `held`, on the CPU, has its values."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: type[OnGPU], held: torch.Tensor) -> OnGPU:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, layout=held.layout, device=Place.here, requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert Place.gpu is not None, "used after the pretence has ended"
        return Place.gpu.run(func, args, kwargs or {})

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]

    # Module.to() swaps what is held instead of replacing parameters, whose identity stays.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: Any, meta: Any, size: Any, stride: Any) -> OnGPU:
        return OnGPU(inner["held"])

    def __deepcopy__(self, memo: dict[int, Any]) -> OnGPU:
        made = OnGPU(self.held.clone()).requires_grad_(self.requires_grad)
        made._is_param = getattr(self, "_is_param", False)
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().__reduce_ex__(protocol)

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu().")
        return self.detach().cpu().numpy()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()


class _Devices(TorchFunctionMode):
    """Where a caller names cuda, torch must hear the name of the backend that stands for it."""

    def __torch_function__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {k: self.named(v) if k == "device" else v for k, v in (kwargs or {}).items()}
        if func is torch.Tensor.cuda:
            return args[0].to(Place.here)
        if func is torch.Tensor.pin_memory:
            return Place.gpu.pin(args[0])  # type: ignore[union-attr]
        if func is torch.Tensor.to:
            args = [args[0], *map(self.named, args[1:])]
        return func(*args, **kwargs)

    def named(self, value: Any) -> Any:
        if not isinstance(value, str | torch.device) or torch.device(value).type != "cuda":
            return value
        if (torch.device(value).index or 0) >= Place.gpu.count:  # type: ignore[union-attr]
            raise Refused(f"CUDA error: invalid device ordinal ({value})")
        return Place.here


MOVES = {"aten::copy_", "aten::_foreach_copy_", "aten::_to_copy"}
INDEXED = {f"aten::{n}" for n in ("index", "_unsafe_index", "index_put", "index_put_",
                                  "_index_put_impl_", "_unsafe_index_put")}  # fmt: skip
# The host waits for a value, or for the size of a result.
WAITS = {f"aten::{n}" for n in ("_local_scalar_dense", "nonzero", "masked_select", "equal",
                                "is_nonzero", "_unique2", "unique_dim", "unique_consecutive",
                                "bincount")} | {"torchvision::nms"}  # fmt: skip
TAKES_NUMBERS = {f"aten::{n}" for n in ("fill_", "masked_fill", "masked_fill_", "where",
                                        "_fused_sgd_")}  # fmt: skip
NO_LAUNCH = {f"aten::{n}" for n in ("detach", "alias", "lift_fresh", "_reshape_alias",
                                    "_unsafe_view", "_local_scalar_dense")}  # fmt: skip
KERNELS = ("CUDA", "CompositeExplicitAutograd", "CompositeImplicitAutograd",
           "CompositeExplicitAutogradNonFunctional")  # fmt: skip


class PretendGPU(TorchDispatchMode):
    """The device, and what was seen of it since `forget`.

    Attributes:
        waits, launches, copies: (line of code, operation) to times.
        pinned: memory of the host, by its address, that the GPU reads by itself.
        current: number of the GPU that was chosen; tensors say 0 of every one.
    """

    def __init__(self, count: int = 1, capability: tuple[int, int] = (9, 0)):
        super().__init__()
        self.count = count
        self.capability = capability
        self.waits, self.launches, self.copies = Counter(), Counter(), Counter()
        self.pinned: dict[int, torch.Tensor] = {}
        self.current = 0

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor, from now on in pinned memory; held, so that nothing else takes its place."""
        self.pinned[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def forget(self) -> None:
        for counter in (self.waits, self.launches, self.copies):
            counter.clear()

    def __torch_dispatch__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensors = [t for t in tree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        target = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        to_gpu = target is not None and target.type in ("cuda", Place.here.type)  # type: ignore
        if not to_gpu and not any(type(t) is OnGPU for t in tensors):
            return func(*args, **kwargs)
        name = func.name().partition(".")[0]
        self._look_at(func, name, args, kwargs, tensors, target, to_gpu)
        if target is not None:
            kwargs = {**kwargs, "device": CPU}
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        held_args, held_kwargs = tree.tree_map_only(OnGPU, lambda t: t.held, (args, kwargs))
        output = func(*held_args, **held_kwargs)
        # What is written into comes back as the object that was given.
        given = {id(t.held if type(t) is OnGPU else t): t for t in tensors}
        stays = to_gpu or target is None

        def wrapped(t: torch.Tensor) -> torch.Tensor:
            if func._schema.is_mutable and id(t) in given:
                return given[id(t)]
            return OnGPU(t) if stays else t

        if torch.Tag.inplace_view in func.tags:  # unsqueeze_ and others: the shape shown changes
            with torch._C._DisableTorchDispatch():
                func(*args, **kwargs)
        return tree.tree_map_only(torch.Tensor, wrapped, output)

    def _look_at(
        self, func: Any, name: str, args: Any, kwargs: Any, tensors: Any, target: Any, to_gpu: bool
    ) -> None:
        """Checks and counts one operation."""
        if name in MOVES:
            return self._move(name, args, kwargs, to_gpu, target)
        if any(type(t) is OnGPU for t in tensors):
            self._check(func, name, args, tensors)
        masks = name in INDEXED and any(
            t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]
        )
        unsized = name == "aten::repeat_interleave" and kwargs.get("output_size") is None
        if name in WAITS or masks or unsized:
            self.waits[line(), name] += 1
        if not func.is_view and name not in NO_LAUNCH:
            self.launches[line(), name] += 1
        return None

    def _move(self, name: str, args: Any, kwargs: Any, to_gpu: bool, target: Any) -> None:
        tensors = [t for t in tree.tree_leaves(args) if isinstance(t, torch.Tensor)]
        on_gpu = [type(t) is OnGPU for t in tensors]
        if name == "aten::_to_copy":
            source, goal = on_gpu[0], to_gpu or (target is None and on_gpu[0])
        else:
            goal, source = on_gpu[0], on_gpu[-1]
        if source and goal:
            self.launches[line(), name] += 1
        elif source or goal:
            self.copies[line(), "to the CPU" if source else "to the GPU"] += 1
            if source:
                self.waits[line(), "copy to the CPU"] += 1
            elif not (self._is_pinned(tensors[-1]) and _is_non_blocking(args, kwargs)):
                self.waits[line(), "copy to the GPU"] += 1

    def _is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.pinned

    def _check(self, func: Any, name: str, args: Any, tensors: Any) -> None:
        if not has_kernel(func):
            raise Refused(f"Could not run '{func.name()}' with arguments from the 'CUDA' backend")
        others = [t for t in tensors if type(t) is not OnGPU]
        if name in INDEXED:
            indices = [t for t in args[1] if t is not None]
            if type(args[0]) is not OnGPU:
                raise Refused(f"{func}: indices on the GPU into a tensor on the CPU ({line()})")
            others = [t for t in others if not any(t is i for i in indices)]
        numbers = torch.Tag.pointwise in func.tags or name in TAKES_NUMBERS | INDEXED
        writes = func._schema.is_mutable and type(args[0]) is torch.Tensor
        if others and (writes or any(t.dim() or not numbers for t in others)):
            shapes = ", ".join(f"{tuple(t.shape)} on {t.device}" for t in tensors[:6])
            raise Refused(f"Expected all tensors on the same device, {func}: {shapes} ({line()})")


def _is_non_blocking(args: Any, kwargs: Any) -> bool:
    return bool(kwargs.get("non_blocking") or (len(args) > 2 and args[2] is True))


_KNOWN: dict[Any, bool] = {}


def has_kernel(func: Any) -> bool:
    """Whether a CUDA build of torch has one; other builds know of none, and everything passes."""
    if func not in _KNOWN:
        has = torch._C._dispatch_has_kernel_for_dispatch_key
        knows = has("aten::mm", "CUDA") and func.namespace != "prim"
        _KNOWN[func] = not knows or any(has(func.name(), key) for key in KERNELS)
    return _KNOWN[func]


def line() -> str:
    """The innermost line of resdet or Detectron2 that the operation comes from."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        for root in OURS:
            at = path.rfind(root)
            if at >= 0 and "/torch/" not in path[at:]:
                return f"{path[at + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


# -- autocast by CUDA's lists (torch's documentation of torch.amp, "CUDA Op-Specific Behavior") ----

LOW = """conv1d conv2d conv_transpose2d.input convolution addmm addmv matmul mm mv linear addbmm
baddbmm bmm prelu scaled_dot_product_attention"""
FULL = """exp log log1p rsqrt pow.Tensor_Scalar pow.Tensor_Tensor softplus layer_norm group_norm
nll_loss nll_loss2d l1_loss smooth_l1_loss mse_loss binary_cross_entropy_with_logits cdist
logsumexp linalg_vector_norm upsample_nearest2d upsample_bilinear2d cosine_similarity prod
softmax.int log_softmax.int cumsum sum sum.dim_IntList norm.Scalar norm.ScalarOpt_dim"""
_libraries: list[torch.library.Library] = []
AUTOCAST = torch._C.DispatchKey.AutocastPrivateUse1


def _register_casts() -> None:
    others = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
    others.fallback(torch.library.fallthrough_kernel)
    aten = torch.library.Library("aten", "IMPL", "AutocastPrivateUse1")
    vision = torch.library.Library("torchvision", "IMPL", "AutocastPrivateUse1")
    _libraries.extend((others, aten, vision))
    low = lambda: torch.get_autocast_dtype(Place.here.type)  # noqa: E731  # type: ignore
    for names, dtype in ((LOW, low), (FULL, lambda: torch.float32)):
        for name in names.split():
            packet, _, overload = name.partition(".")
            operation = getattr(getattr(torch.ops.aten, packet), overload or "default")
            aten.impl(name, _cast(operation, dtype))
    for name in ("roi_align", "nms"):
        operation = getattr(torch.ops.torchvision, name).default
        vision.impl(name, _cast(operation, lambda: torch.float32, back=name != "nms"))


def _cast(operation: Any, dtype: Callable[[], torch.dtype], back: bool = False) -> Any:
    """The operation on arguments of one type; `back` gives the result the type of the first."""

    def call(*args: Any, **kwargs: Any) -> Any:
        goal = dtype()

        def one(t: Any) -> Any:
            is_float = type(t) is OnGPU and t.is_floating_point() and t.dtype != torch.float64
            return t.to(goal) if is_float and t.dtype != goal else t

        before = next((t.dtype for t in tree.tree_leaves(args)
                       if isinstance(t, torch.Tensor) and t.is_floating_point()), goal)  # fmt: skip
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(AUTOCAST)):
            output = operation(*tree.tree_map(one, args), **tree.tree_map(one, kwargs))
        return tree.tree_map_only(torch.Tensor, lambda t: t.to(before), output) if back else output

    return call


def _set_up() -> None:
    """When this is imported, before autograd counts the devices: at its first backward pass."""
    backend_registration._setup_privateuseone_for_python_backend("pretend")
    torch._C._ensureCUDADeviceGuardSet()
    Place.here = torch.device("pretend", 0)
    _register_casts()


_set_up()


# -- torch.cuda ------------------------------------------------------------------------------------


@contextlib.contextmanager
def pretend(count: int = 1, capability: tuple[int, int] = (9, 0)) -> Iterator[PretendGPU]:
    """A machine with GPUs, for this thread and those that autograd starts from it."""
    gpu = PretendGPU(count, capability)
    load, enter, leave = torch.load, torch.autocast.__enter__, torch.autocast.__exit__

    def strict_load(file: Any, map_location: Any = None, **kwargs: Any) -> Any:
        if map_location is None:
            raise Refused(f"torch.load of {file} without map_location would land on the GPU")
        return load(file, map_location=map_location, **kwargs)

    def enter_autocast(self: Any) -> Any:
        output = enter(self)
        if self.device == "cuda":
            kind = Place.here.type  # type: ignore[union-attr]
            self.before = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
            torch.set_autocast_enabled(kind, self._enabled)
            torch.set_autocast_dtype(kind, self.fast_dtype)
        return output

    def leave_autocast(self: Any, *error: Any) -> Any:
        if self.device == "cuda":
            kind = Place.here.type  # type: ignore[union-attr]
            torch.set_autocast_enabled(kind, self.before[0])
            torch.set_autocast_dtype(kind, self.before[1])
        return leave(self, *error)

    def set_device(device: Any) -> None:
        index = device if isinstance(device, int) else torch.device(device).index or 0
        if index >= count:
            raise Refused(f"CUDA error: invalid device ordinal ({device})")
        gpu.current = index

    def synchronize(device: Any = None) -> None:
        gpu.waits[line(), "synchronize"] += 1

    properties = types.SimpleNamespace(
        name="a pretend GPU", major=capability[0], minor=capability[1], total_memory=16 << 30
    )
    no_effect = ("_lazy_init", "empty_cache", "manual_seed", "manual_seed_all",
                 "reset_peak_memory_stats")  # fmt: skip
    zeros = ("max_memory_allocated", "memory_allocated")
    functions = {
        "is_available": lambda: True, "is_initialized": lambda: True,
        "device_count": lambda: count, "current_device": lambda: gpu.current,
        "set_device": set_device, "synchronize": synchronize,
        "get_device_name": lambda *a: properties.name,
        "get_device_properties": lambda *a: properties,
        "get_device_capability": lambda *a: capability,
        # As torch decides it from the capability: natively from 8.0 on, emulated before.
        "is_bf16_supported": lambda including_emulation=True: including_emulation
        or capability >= (8, 0),
        **{name: lambda *a: None for name in no_effect},
        **{name: lambda *a: 0 for name in zeros},
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        for name, value in functions.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(torch, "load", strict_load))
        # Pinned memory is CUDA's; what is copied from it is the same.
        pinning = torch.utils.data._utils.pin_memory
        pin = functools.partial(tree.tree_map_only, torch.Tensor, gpu.pin)
        stack.enter_context(mock.patch.object(pinning, "pin_memory", lambda data, *a: pin(data)))
        stack.enter_context(mock.patch.object(torch.accelerator, "is_available", lambda: True))
        stack.enter_context(mock.patch.object(torch.autocast, "__enter__", enter_autocast))
        stack.enter_context(mock.patch.object(torch.autocast, "__exit__", leave_autocast))
        for module in ("torch.optim.optimizer", "torch.utils._foreach_utils"):
            kinds = sys.modules[module]._foreach_supported_types  # type: ignore[attr-defined]
            kinds.append(OnGPU)
            stack.callback(kinds.remove, OnGPU)
        # torch.tensor(..., device="cuda") then moves its values where a mode sees it.
        lifts = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts)
        before, Place.gpu = Place.gpu, gpu
        try:
            with gpu, _Devices():
                yield gpu
        finally:
            Place.gpu = before

"""Nets of a user's own, by name: registered in Python, never named in a file as code.

Not for: nets of ours (`zoo`) or of timm (`timm`); whether the net has the interface
(`interface_check`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from resdet.nets.families import family_of
from resdet.nets.net import Net

_BUILDERS: dict[str, Callable[..., Any]] = {}


def register(name: str, builder: Callable[..., Any]) -> None:
    """From now on `build(name)` calls `builder(num_classes, **options)`, in this process.

    With several processes each must register: call this at the top level of a module that each
    of them imports, such as the script that was started.

    Args:
        name: a name that is free; one with ":" belongs to an origin, such as timm.
        builder: gives an `nn.Module` with `stages`, `trunk` and `tail` (docs/own_net.md).

    Raises:
        ValueError: the name is empty, reserved or taken. TypeError: `builder` cannot be called.
    """
    if not callable(builder):
        raise TypeError(
            f"the builder of {name!r} is a {type(builder).__name__}, expected a function of "
            "num_classes that gives the net"
        )
    if not name or ":" in name or family_of(name) is not None:
        why = "names with a colon belong to an origin" if ":" in name else "it is resdet's own"
        raise ValueError(f"a net cannot be registered as {name!r}: {why}. Choose another name.")
    if name in _BUILDERS:
        raise ValueError(
            f"a net is registered as {name!r} already ({_where(_BUILDERS[name])}). Choose another "
            "name."
        )
    _BUILDERS[name] = builder


def registered() -> tuple[str, ...]:
    """Names of the registered nets."""
    return tuple(_BUILDERS)


def build_registered(name: str, num_classes: int, **options: Any) -> Net:
    """The output of the builder of `name`.

    Raises:
        ValueError: the builder takes no such option.
    """
    try:
        return cast(Net, _BUILDERS[name](num_classes, **options))
    except TypeError as error:
        # One that the builder itself hands on wrongly is its own fault.
        if "keyword argument" not in str(error) or not any(f"'{o}'" in str(error) for o in options):
            raise
        raise ValueError(
            f"{name} ({_where(_BUILDERS[name])}) cannot be built with the options "
            f"{', '.join(sorted(options))}: {error}"
        ) from error


def _where(builder: Callable[..., Any]) -> str:
    code = getattr(builder, "__code__", None)
    if code is None:
        return getattr(builder, "__qualname__", type(builder).__name__)
    return f"{builder.__qualname__}, {code.co_filename}, line {code.co_firstlineno}"

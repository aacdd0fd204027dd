"""Our keys on top of Detectron2's config, read strictly; what was stated, and what follows from it.

Our keys stand in `keys`, each once. With their defaults Detectron2 behaves as
without them.

Reading is strict (`docs/faults.md` F47, F48): unknown keys are refused with file and line, integers
widened to floats. What was *stated* is remembered, so that a fact that comes from elsewhere (a
card, a net, a data set) can fill a key, but never overrule the user.

Not for: what the keys do (classes get plain values, never the config), or YAML (`config_file`).
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from resdet.config.config_file import parse_text, read_file
from resdet.config.detectron2_keys import (
    DETECTOR,
    META_ARCHITECTURES,
    READ,
    REFUSED,
    RPN_ALONE,
    fate_of,
)
from resdet.config.key_checks import leaves, ranges
from resdet.config.key_checks.training_schemes import of_schemes
from resdet.config.keys import ALLOWED, COUNTS, ONLY_OF, add_keys
from resdet.config.localization_keys import NOT_READ
from resdet.config.recipes import recipe_filling as recipes
from resdet.errors import ConfigError, first_few


def get_cfg() -> CfgNode:
    """Detectron2's defaults with our keys, all off."""
    cfg = get_detectron2_cfg()
    add_keys(cfg)
    return cfg


# The first line of a run's own config, by which a copy of it is known too.
OF_A_RUN = "# Every value that a run had; its schedule is that of its batch."
# Of a value of another type, in characters.
LONGEST_SHOWN = 60


@dataclass
class Config:
    """A config with its history.

    Attributes:
        cfg: the values; a Detectron2 CfgNode.
        stated: dotted key to where it was stated ("coco_r101.yaml, line 12", "command line").
        derived: dotted key to why it has its value, where it was not stated.
        by_net: of the keys of TRANSFER.RECIPE those that follow from the net, once it is known.
    """

    cfg: CfgNode
    stated: dict[str, str] = field(default_factory=dict)
    derived: dict[str, str] = field(default_factory=dict)
    by_net: dict[str, Any] = field(default_factory=dict)

    def fill(self, facts: Mapping[str, Any], source: str) -> None:
        """Sets keys from facts; what was stated otherwise is a contradiction.

        Raises:
            ConfigError: a key was stated with another value; all such keys, both values, where.
        """
        clashes = []
        for key, value in facts.items():
            current = get_key(self.cfg, key)
            # An empty name is none: MODEL.NET.NAME "" leaves a preset's net to the weights.
            if key in self.stated and current != "" and not _same(current, value):
                clashes.append(
                    f"{key} is {_show(current)} ({self.stated[key]}), "
                    f"expected {_show(value)} ({source})"
                )
        if clashes:
            raise ConfigError(
                first_few(clashes, indent="")
                + "\nLeave these keys out: they are set by themselves."
            )
        for key, value in facts.items():
            if not _same(get_key(self.cfg, key), value):
                set_key(self.cfg, key, value)
            if key not in self.stated:
                self.derived[key] = source

    def to_yaml(self) -> str:
        return text_of_run(self.cfg)

    def explain(self) -> str:
        """One line per key that is not Detectron2's or our default: value and reason."""
        defaults = dict(flatten(get_cfg()))
        departing = recipes.reason_of_departure(self, dict(flatten(self.cfg)))
        lines = []
        for key, value in flatten(self.cfg):
            # A schedule that follows the batch was stated before.
            reason = self.derived.get(key) or self.stated.get(key)
            if reason and key in departing:
                reason += f"; {departing[key]}"
            if reason and (key in self.derived or not _same(value, defaults.get(key))):
                lines.append(f"{key:45} {_show(value):32} {reason}")
        return "\n".join(lines)


def text_of_run(cfg: CfgNode) -> str:
    """Every key as it is now, as YAML, under the line by which it is known as a run's."""
    return f"{OF_A_RUN}\n{cfg.dump()}"


def resolve(
    config_file: Path | str | None,
    opts: Sequence[str] = (),
    *,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Config:
    """The config of a file (with its `_BASE_`) and of `KEY VALUE` pairs, strictly read.

    Args:
        renamed: names that keys may have in the file, to those of today; `stated` has both.

    Raises:
        ConfigError: file missing or not safe YAML, base missing or in a circle, key unknown or
            twice, value of another type; with file and line.
    """
    config, order = Config(get_cfg()), recipes.StatedOrder()
    if config_file is not None:
        for name, value, line in read_file(Path(config_file)):
            key = renamed.get(name, name)
            _apply(config, key, value, line if key == name else f"{line}, as {name}")
            order.add(key, line.path)
    refuse_late_flags(opts)
    if len(opts) % 2:
        raise ConfigError(
            f"KEY VALUE pairs expected at the end, but {opts[-1]!r} stands alone: "
            "give it a value, as in SOLVER.MAX_ITER 20."
        )
    for key, text in zip(opts[::2], opts[1::2], strict=True):
        _apply(config, key, parse_text(text), "command line")
        order.add(key, "command line")
    recipes.lay_recipe(config, order.below, _defaults())
    _check_values(config)
    return config


def _check_values(config: Config) -> None:
    """Raises ConfigError for all values that are unknown for their key."""
    faults = [
        f"{config.stated.get(key, 'default')}: {key} is {_show(get_key(config.cfg, key))}, "
        f"expected one of {', '.join(map(_show, choices))}."
        for key, choices in ALLOWED.items()
        if get_key(config.cfg, key) not in choices
    ]
    faults += [
        f"{config.stated.get(key, 'default')}: {key} is {_show(value)}, expected {expected}."
        for key, value, expected in ranges.faults(config.cfg, get_key)
    ]
    faults += _other_architecture(config) or [
        *(f"{n.text} {n.fix}" for n in unread(config) if not n.is_stock),
        *of_schemes(config.cfg, config.stated),
        *recipes.faults_of_recipe(config.cfg, config.stated),
    ]
    if faults:
        raise ConfigError(first_few(faults, indent=""))


def _other_architecture(config: Config) -> list[str]:
    """A fault where the config is of no Faster R-CNN. Its other keys need no second one."""
    key, architecture = "MODEL.META_ARCHITECTURE", config.cfg.MODEL.META_ARCHITECTURE
    if architecture in (DETECTOR, RPN_ALONE):
        return []
    why = META_ARCHITECTURES.get(architecture, "no detector of this name is known here")
    where = config.stated.get(key, "default")
    return [f"{where}: {key} is {architecture}, expected {DETECTOR}: {why}."]


class Unread(NamedTuple):
    """A key of Detectron2 with a value that nothing here reads.

    Attributes:
        is_stock: it asks for nothing by itself and stands in a file, as in Detectron2's own bases.
        fix: what to do.
    """

    text: str
    is_stock: bool
    fix: str = "Leave it out."


def unread(config: Config) -> Iterator[Unread]:
    """Keys of Detectron2 that were given a value which nothing here would read."""
    defaults = get_detectron2_cfg()
    for key, where in config.stated.items():
        fate = fate_of(key, config.cfg)
        if fate.kind == READ:
            continue
        value = get_key(config.cfg, key)
        if not _same(value, get_key(defaults, key)):
            verb = "not read" if fate.kind == REFUSED else "without meaning here"
            text = f"{where}: {key} {_show(value)} is {verb}: {fate.note}."
            is_stock = fate.kind != REFUSED and where != "command line"
            default = get_key(defaults, key)
            typed = f"{key} {_typed(default)}"
            fix = "Leave it out." if where == "command line" else f"Leave it out, or add: {typed}"
            yield Unread(text, is_stock, fix)


def _typed(value: Any) -> str:
    """As a shell takes it, in one word.

    Example:
        >>> _typed(True), _typed("auto"), _typed(""), _typed(()), _typed([0.5, 1.0])
        ('True', 'auto', '""', '"()"', '"[0.5, 1.0]"')
    """
    text = repr(value).replace("'", "")
    return text if re.fullmatch(r"[\w.+-]+", text) else f'"{text}"'


def refuse_keys_of_other(config: Config, command: str) -> None:
    """Raises ConfigError for stated keys that `command` never reads.

    Args:
        command: "pretrain_cls", "train_det" or "train_loc".
    """
    defaults = get_cfg()
    others = {name: keys for name, keys in ONLY_OF.items() if name != command}
    if command == "train_loc":
        others = {"another command": NOT_READ}
    faults = [
        f"{where}: {key} is read by {other} alone."
        for key, where in config.stated.items()
        for other, names in others.items()
        if any(key == n or (n[-1] == "." and key.startswith(n)) for n in names)
        and not _same(get_key(config.cfg, key), get_key(defaults, key))
    ]
    if faults:
        raise ConfigError(
            f"{first_few(faults, indent='')}\n{command} would pass over that: leave it out."
        )


def refuse_late_flags(opts: Sequence[str]) -> None:
    """Raises ConfigError for a flag behind the first KEY VALUE pair, which argparse swallows."""
    for word in opts:
        if word.startswith("--"):
            raise ConfigError(
                f"{word} comes after the first KEY VALUE pair; put flags before the pairs."
            )


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf, sorted by key."""
    for key in sorted(node):
        value = node[key]
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def get_key(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def set_key(cfg: CfgNode, key: str, value: Any) -> None:
    *path, leaf = key.split(".")
    for part in path:
        cfg = cfg[part]
    are_lists = isinstance(cfg[leaf], tuple | list) and isinstance(value, tuple | list)
    cfg[leaf] = type(cfg[leaf])(value) if are_lists else value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _show(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_show(v) for v in value) + "]"
    return repr(value)


@functools.cache
def _defaults() -> dict[str, Any]:
    """What each key is where no file states it; a base may have put another kind of list there."""
    return dict(flatten(get_cfg()))


def _apply(config: Config, key: str, value: Any, where: str) -> None:
    node: Any = config.cfg
    for part in key.split("."):
        if not isinstance(node, CfgNode) or part not in node:
            known = [k for k, _ in flatten(config.cfg)]
            close = difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.7)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{where}: {key} does not exist.{hint}")
        parent, node = node, node[part]
    if isinstance(node, CfgNode):
        raise ConfigError(
            f"{where}: {key} holds keys of its own; give one of them, "
            f"such as {key}.{next(iter(node), '')}."
        )
    where_key = f"{where}: {key}"
    default = _defaults().get(key)
    if wrong := leaves.misfit(value, default):
        raise ConfigError(f"{where_key} {wrong}.")
    # What may be None has no one type, whatever a file put there before: its range decides.
    old = None if default is None else node
    fitting = _counted(value, where_key) if key in COUNTS else _coerced(value, old, where_key)
    parent[key.rpartition(".")[2]] = fitting
    config.stated[key] = where


def _coerced(value: Any, old: Any, where: str) -> Any:
    if old is None:
        return value
    if isinstance(old, bool) or isinstance(value, bool):
        fits = isinstance(value, bool) and isinstance(old, bool)
    elif isinstance(old, float) and isinstance(value, int):
        try:
            return float(value)
        except OverflowError:
            fits = False
    elif isinstance(old, tuple | list) and isinstance(value, tuple | list):
        return type(old)(value)
    else:
        fits = type(value) is type(old)
    if not fits:
        is_short = len(repr(value)) <= LONGEST_SHOWN
        shown = repr(value) if is_short else f"{repr(value)[:40]}…"
        # An empty list is no example: of one name, such as a data set's, that name is.
        is_name = isinstance(value, str) and isinstance(old, tuple | list) and not old and is_short
        example = type(old)([value]) if is_name else old
        raise ConfigError(
            f"{where} is {shown} ({type(value).__name__}), "
            f"expected {type(old).__name__} such as {example!r}."
        )
    return value


def _counted(value: Any, where: str) -> int | tuple[str, ...]:
    """The count for all sets, or "NAME=COUNT" of one set or several."""
    if type(value) is int and value >= 0:
        return value
    entries = (value,) if isinstance(value, str) else value
    if not isinstance(entries, tuple | list) or not all(map(_is_count_of_a_set, entries)):
        raise ConfigError(
            f"{where} is {_show(value)}, expected a count of 0 or more, or the counts of sets such "
            "as 'voc_2007_trainval=3' or ('voc_2007_trainval=3', 'voc_2007_test=1')."
        )
    names = [entry.rpartition("=")[0] for entry in entries]
    if len(set(names)) < len(names):
        raise ConfigError(f"{where} is {_show(value)}: a set stands twice. Keep one count of each.")
    return tuple(entries)


def _is_count_of_a_set(entry: Any) -> bool:
    name, _, count = entry.rpartition("=") if isinstance(entry, str) else ("", "", "")
    return bool(name) and count.isdecimal()

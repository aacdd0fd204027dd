"""Config files and keys on top of Detectron2's config.

keys            every key of ours: its meaning, its values, and what "off" is
paper_keys      those of the paper's experiments beyond its baseline
config_file     a YAML file, strictly read, with file and line of every key
dependent_keys  keys that are read with another one alone
ranges          what values a key may have
detectron2_keys what becomes of each key of Detectron2
recipes         TRANSFER.RECIPE: what trains of a net, and how
training_schemes  what SOLVER.SCHEME goes with
config          file and command line to one config; what was stated and what was derived
presets         the config files that come with resdet, by name; needs no package

The names below come from `config`, which is imported at their first use: it needs Detectron2.

What follows from card, net and data sets is in `resdet.detect.architecture.derived_keys`: it knows
detection.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resdet.config.config import (
        Config,
        check_reference_batch,
        data_options,
        drop_path_option,
        flatten,
        get_cfg,
        get_key,
        net_options,
        refuse_keys_of_other,
        refuse_late_flags,
        resolve,
        set_key,
        unread,
    )

__all__ = [
    "Config",
    "check_reference_batch",
    "data_options",
    "drop_path_option",
    "flatten",
    "get_cfg",
    "get_key",
    "net_options",
    "refuse_keys_of_other",
    "refuse_late_flags",
    "resolve",
    "set_key",
    "unread",
]


if not TYPE_CHECKING:  # else a type checker would take any misspelt name for one of these

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'resdet.config' has no attribute {name!r}")
        return getattr(importlib.import_module("resdet.config.config"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

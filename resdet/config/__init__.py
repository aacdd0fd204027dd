"""Config files and keys on top of Detectron2's config.

keys            every key of ours: its meaning, its values, and what "off" is
paper_keys      those of the paper's experiments beyond its baseline
config_file     a YAML file, strictly read, with file and line of every key
key_checks      what values keys may have, alone and beside others
detectron2_keys what becomes of each key of Detectron2
recipes         TRANSFER.RECIPE: what trains of a net, and how
config          file and command line to one config; what was stated and what was derived
batch_scaling   a schedule for another batch than it was made for
plain_values    values out of a config, for classes that never see one
presets         the config files that come with resdet, by name; needs no package

The names below are imported at their first use: they need Detectron2.

What follows from card, net and data sets is in `resdet.detect.architecture.derived_keys`: it knows
detection.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resdet.config.batch_scaling import check_reference_batch
    from resdet.config.config import (
        Config,
        flatten,
        get_cfg,
        get_key,
        refuse_keys_of_other,
        refuse_late_flags,
        resolve,
        set_key,
        unread,
    )
    from resdet.config.plain_values import data_options, drop_path_option, net_options

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

_ELSEWHERE = {
    "check_reference_batch": "batch_scaling",
    "data_options": "plain_values",
    "drop_path_option": "plain_values",
    "net_options": "plain_values",
}


if not TYPE_CHECKING:  # else a type checker would take any misspelt name for one of these

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'resdet.config' has no attribute {name!r}")
        module = importlib.import_module(f"resdet.config.{_ELSEWHERE.get(name, 'config')}")
        return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

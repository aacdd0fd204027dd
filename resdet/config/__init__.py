"""Config files and keys on top of Detectron2's config.

keys            every key of ours: its meaning, its values, and what "off" is
config_file     a YAML file, strictly read, with file and line of every key
config          file and command line to one config; what was stated and what was derived

What follows from card, net and data sets is `resdet.detect.derived_keys`: it knows detection.
"""

from resdet.config.config import (
    Config,
    check_reference_batch,
    data_options,
    flatten,
    get_cfg,
    get_key,
    net_options,
    refuse_late_flags,
    resolve,
    set_key,
)

__all__ = [
    "Config",
    "check_reference_batch",
    "data_options",
    "flatten",
    "get_cfg",
    "get_key",
    "net_options",
    "refuse_late_flags",
    "resolve",
    "set_key",
]

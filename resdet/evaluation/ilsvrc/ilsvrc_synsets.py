"""ImageNet's 1,000 classes by their numbers in the challenge, from ilsvrc_synsets.yaml.

Two orders are in use: files for the server have ILSVRC2012_ID, 1 to 1000, as the development kit
lists them; nets have outputs 0 to 999 in the order of sorted wnids.

Not for: names of classes, or the 200 classes of DET.
"""

from __future__ import annotations

import functools
from importlib import resources

import yaml

CLASSES = 1000


@functools.cache
def wnids_by_id() -> tuple[str, ...]:
    """The wnids in the order of ILSVRC2012_ID; place 0 is id 1.

    Example:
        >>> wnids_by_id()[0]  # 1, kit fox
        'n02119789'
    """
    file = resources.files("resdet.evaluation.ilsvrc") / "ilsvrc_synsets.yaml"
    return tuple(yaml.safe_load(file.read_text("utf-8"))["wnids"].split())


@functools.cache
def sorted_wnids() -> tuple[str, ...]:
    """The wnids in the order of the outputs of nets; place 0 is the tench, n01440764."""
    return tuple(sorted(wnids_by_id()))

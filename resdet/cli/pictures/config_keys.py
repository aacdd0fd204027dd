"""KEY VALUE pairs behind a list of files, told from the files.

A key is a word such as INPUT.SIXTEEN_BIT: a section of the config, a dot, and capitals; a file of
that name comes first. IMG_0001.JPG is no key, as no section is called so.

Not for: whether such a key exists (`resdet.config.resolve`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

SECTIONS = (
    "CUDNN_BENCHMARK", "DATALOADER", "DATASETS", "ENGINE", "EVAL", "FLOAT32_PRECISION", "GLOBAL",
    "INPUT", "MODEL", "OUTPUT_DIR", "PRETRAIN", "SEED", "SOLVER", "TEST", "TRANSFER", "VERSION",
    "VIS_PERIOD",
)  # fmt: skip
# An option that no one types, as argparse takes no second list of positional words.
MARK = "--keys"
_KEY = re.compile(rf"({'|'.join(SECTIONS)})(\.[A-Z0-9_]+)*")


def with_keys_marked(words: Sequence[str]) -> list[str]:
    """`MARK` before the first key; what stands behind it is pairs, and not files."""
    for place, word in enumerate(words):
        if _KEY.fullmatch(word) and not Path(word).exists():
            return [*words[:place], MARK, *words[place:]]
    return list(words)

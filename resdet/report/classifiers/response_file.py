"""responses.json of `resdet analyze responses`, read strictly.

Not for: measuring (`resdet.pretrain.analysis`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resdet.errors import DataError
from resdet.run import shapes
from resdet.run.folder import read_json

SHAPE = {
    "definition": str,
    "nets": [{"title": str, "net?": str, "file?": str, "tensors?": str,
              "layers": [{"name": str, "after": str, "std": shapes.NUMBER}]}],
}  # fmt: skip


def responses_in(path: Path) -> dict[str, Any]:
    """The file's content.

    Raises:
        RunError: it is not there, or not of this shape. DataError: it has no net, or one without
            layers.
    """
    values: dict[str, Any] = read_json(path, SHAPE)
    if not values["nets"] or not all(net["layers"] for net in values["nets"]):
        raise DataError(f"{path} has no responses in it. Make it again: resdet analyze responses.")
    return values

"""What a hostile pickle holds: code that is run where it is unpickled."""

from __future__ import annotations

import os
from pathlib import Path


class Payload:
    """Leaves a mark where it is run; harmless otherwise."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch '{self.mark}'",)

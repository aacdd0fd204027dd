"""Where the real data lies, for the comparisons with published figures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """RESDET_SHARED_DATA, or ../shared/data beside the repository; skips where there is none."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    path = Path(os.environ.get("RESDET_SHARED_DATA", default))
    if not (path / "MANIFEST.sha256").is_file():
        pytest.skip(f"no real data at {path}; RESDET_SHARED_DATA names it")
    return path

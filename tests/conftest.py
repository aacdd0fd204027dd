"""Fixtures for all tests: the real sample data where it lies beside the checkout, else a skip."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real sample data: $RESDET_SHARED_DATA, or ../shared/data."""
    folder = Path(os.environ.get("RESDET_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real sample data at {folder} (set RESDET_SHARED_DATA)")
    return folder

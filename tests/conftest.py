"""Fixtures for all tests: the real sample data where it lies beside the checkout, else a skip."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuses an id with an address, such as a function's: two workers never agree on it."""
    for item in items:
        if re.search(r" at 0x[0-9a-f]+", item.nodeid):
            raise pytest.UsageError(f"{item.nodeid}: the id has an address. Give the case an id.")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real sample data: $RESDET_SHARED_DATA, or ../shared/data."""
    folder = Path(os.environ.get("RESDET_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real sample data at {folder} (set RESDET_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def ilsvrc_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tree in ILSVRC's layout, of the embedded digits; nobody writes into it."""
    from resdet.data import digits
    from resdet.data.ilsvrc.ilsvrc_trial import make_trial
    from tests.support.digit_sets import SMALL

    folder = tmp_path_factory.mktemp("ilsvrc")
    painted = digits.make(folder / "digits", sizes=SMALL, workers=1)
    make_trial(folder / "ILSVRC", painted, scenes=24, windows=40)
    return folder / "ILSVRC"

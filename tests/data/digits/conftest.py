"""Small embedded sets, painted on the spot."""

from __future__ import annotations

from pathlib import Path

import pytest

from resdet.data import digits
from resdet.data.digits import worker
from tests.support.digit_sets import SMALL, TINY


@pytest.fixture(scope="module")
def one_studio():
    """The material is read once for all sets that this process paints here."""
    studio = worker.Studio()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "Studio", lambda: studio)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits.make(tmp_path_factory.mktemp("digits") / "set", sizes=SMALL, workers=1)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return digits.make(tmp_path / "tiny", sizes=TINY, workers=1)

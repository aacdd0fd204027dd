"""Scoring a finished run again: which keys may differ, and whose word holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from resdet.cli.training_command import as_in_run
from resdet.config import get_key, resolve
from resdet.errors import RunError
from resdet.run.folder import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Trained with three orphans dropped and a test side of 72."""
    config = resolve(None, ["DATASETS.DROP_ORPHANS", "3", "INPUT.MIN_SIZE_TEST", "72"])
    return Run.create(
        tmp_path / "run", kind="detection", config_text=config.to_yaml(), command=[], seed=1
    )


def test_another_test_set_may_have_other_faults(run: Run) -> None:
    """A count that is stated now holds; one that is not is the run's."""
    config = resolve(None, ["DATASETS.DROP_DEGENERATE", "new=2"])
    as_in_run(config, run)
    assert config.cfg.DATASETS.DROP_DEGENERATE == ("new=2",)
    assert config.cfg.DATASETS.DROP_ORPHANS == 3
    assert config.cfg.INPUT.MIN_SIZE_TEST == 72


def test_a_key_that_shapes_detections_is_refused(run: Run) -> None:
    """Both values and where the new one was given."""
    config = resolve(None, ["INPUT.MIN_SIZE_TEST", "36"])
    with pytest.raises(RunError, match=r"MIN_SIZE_TEST is 36 \(command line\), .* with 72"):
        as_in_run(config, run)


@pytest.mark.parametrize(
    ("key", "value"),
    [("TEST.BEST_METRIC", "AP"), ("TEST.EVAL_PERIOD", "50"), ("ENGINE.DISK_WAIT", "60.0")],
)
def test_a_key_that_shapes_no_detection_may_differ(run: Run, key: str, value: str) -> None:
    """The page would say that the results are another detector's."""
    config = resolve(None, [key, value])
    as_in_run(config, run)
    assert str(get_key(config.cfg, key)) == value

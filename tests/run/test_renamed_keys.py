"""Run folders of before a key was renamed, read by what reads a run's config."""

import pytest

pytest.importorskip("detectron2")

from resdet.cli.training.stored_config import refuse_other_config
from resdet.config import flatten, get_cfg, resolve
from resdet.errors import RunError
from resdet.report.runs import read_config
from resdet.run.folder import Run
from resdet.run.renamed_keys import RENAMED
from tests.support.old_runs import with_old_names


@pytest.fixture
def old(tmp_path):
    """A run that averaged its weights, with its config as it was written then."""
    config = resolve(None, ["SOLVER.EMA_DECAY", "0.9"])
    text = with_old_names(config.to_yaml())
    return Run.create(tmp_path / "old", kind="detection", config_text=text, command=[], seed=0)


def test_old_names_are_no_keys_and_new_ones_are():
    keys = dict(flatten(get_cfg()))
    assert not keys.keys() & RENAMED.keys() and set(RENAMED.values()) <= keys.keys()
    assert RENAMED["PRETRAIN.EMA_DECAY"] == "SOLVER.EMA_DECAY"


def test_reports_have_the_name_of_today(old):
    config = read_config(old)
    assert config["SOLVER.EMA_DECAY"] == 0.9 and "PRETRAIN.EMA_DECAY" not in config


def test_a_resume_holds_the_values_against_each_other(old):
    refuse_other_config(old, resolve(None, ["SOLVER.EMA_DECAY", "0.9"]))
    with pytest.raises(RunError, match=r"SOLVER.EMA_DECAY is 0.8, the run was started with 0.9"):
        refuse_other_config(old, resolve(None, ["SOLVER.EMA_DECAY", "0.8"]))

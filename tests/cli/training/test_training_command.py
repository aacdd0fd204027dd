"""Scoring a finished run again: which keys may differ, whose word holds, and which model."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import yaml

from resdet.cli.training import training_command
from resdet.cli.training.scored_run import run_of_best
from resdet.cli.training.stored_config import as_in_run
from resdet.config import get_key, resolve
from resdet.errors import ConfigError, RunError
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


@pytest.mark.parametrize("key", ["PRETRAIN.TEST_SIDE", "LOC.TEST_SIDE"])
def test_a_key_that_begins_like_a_free_one_is_the_runs(run: Run, key: str) -> None:
    """PRETRAIN.TEST and LOC.TEST may differ; the side was taken from the command's config."""
    stored = resolve(None, [key, "288"])
    (run.path / "config.yaml").write_text(stored.to_yaml(), encoding="utf-8")
    config = resolve(None, [])
    as_in_run(config, run)
    assert get_key(config.cfg, key) == 288
    with pytest.raises(RunError, match=rf"{key} is 300 \(command line\), .* with 288"):
        as_in_run(resolve(None, [key, "300"]), run)


def test_a_key_that_shapes_detections_is_refused(run: Run) -> None:
    """Both values and where the new one was given."""
    config = resolve(None, ["INPUT.MIN_SIZE_TEST", "36"])
    with pytest.raises(RunError, match=r"MIN_SIZE_TEST is 36 \(command line\), .* with 72"):
        as_in_run(config, run)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TEST.BEST_METRIC", "AP"),
        ("TEST.EVAL_PERIOD", "50"),
        ("TEST.EARLY_STOP", "3"),
        ("TEST.VALIDATION_LOSS", "True"),
        ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 30.0, 1.0]]"),
        ("ENGINE.DISK_WAIT", "60.0"),
    ],
)
def test_a_key_that_shapes_no_detection_may_differ(run: Run, key: str, value: str) -> None:
    """The page would say that the results are another detector's."""
    config = resolve(None, [key, value])
    as_in_run(config, run)
    assert str(get_key(config.cfg, key)) == value


def scaled(file: Path, *opts: str) -> tuple[float, int, tuple[int, ...]]:
    """Rate, length and steps that a training with this config has."""
    solver = training_command.read_config(file, list(opts)).cfg.SOLVER
    return solver.BASE_LR, solver.MAX_ITER, solver.STEPS


def test_a_runs_own_config_has_the_schedule_that_the_run_had(tmp_path: Path) -> None:
    """Made for 16 images and scaled to 2 once; by hand 4 images are twice that rate."""
    text = """SOLVER: {REFERENCE_BATCH: 16, IMS_PER_BATCH: 2, SCALE_LR: linear, BASE_LR: 0.02,
                        MAX_ITER: 100, STEPS: [60], WARMUP_ITERS: 0}\n"""
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    config = training_command.read_config(tmp_path / "c.yaml", [])
    Run.create(tmp_path / "run", kind="detection", config_text=config.to_yaml(), command=[], seed=1)
    own = tmp_path / "run" / "config.yaml"
    assert scaled(own) == scaled(tmp_path / "c.yaml") == (0.0025, 800, (480,))
    again = training_command.read_config(own, [])
    assert yaml.safe_load(again.to_yaml()) == yaml.safe_load(config.to_yaml())
    assert scaled(own, "SOLVER.IMS_PER_BATCH", "4") == (0.005, 400, (240,))
    assert scaled(own, "SOLVER.IMS_PER_BATCH", "4", "SOLVER.SCALE_LR", "keep")[0] == 0.0025
    # Whoever states what the schedule is for, is believed.
    assert scaled(own, "SOLVER.REFERENCE_BATCH", "1")[0] == 0.005
    copy = tmp_path / "copy.yaml"
    copy.write_bytes(own.read_bytes())
    assert scaled(copy) == scaled(own) and scaled(copy, "SOLVER.IMS_PER_BATCH", "4")[0] == 0.005


def of_best(run: Run, *opts: str, **changes: bool) -> Run | None:
    """`--output RUN --eval-only --best OPTS`."""
    args = argparse.Namespace(output=str(run.path), best=True, eval_only=True)
    vars(args).update(changes)
    found = run_of_best(args, resolve(None, opts), "run", "model_best.pth")
    assert args.output == (f"{run.path}_best" if found else str(run.path))
    return found


def test_the_best_of_a_run_is_scored_as_the_run_was_made(run: Run) -> None:
    """F37; each refusal states what to type."""
    assert of_best(run, best=False) is None
    with pytest.raises(ConfigError, match="Add --eval-only"):
        of_best(run, eval_only=False)
    with pytest.raises(RunError, match=r"kept no best model.*TEST\.BEST_METRIC"):
        of_best(run)
    (run.path / "model_best.pth").touch()
    run.update(best={"metric": "a/AP", "value": 1.0, "step": 5}, state="interrupted")
    with pytest.raises(RunError, match=r"is interrupted.*MODEL\.WEIGHTS .*model_best\.pth"):
        of_best(run)
    run.update(state="finished")
    with pytest.raises(ConfigError, match=r"MODEL\.WEIGHTS is b\.pth, and --best scores .*"):
        of_best(run, "MODEL.WEIGHTS", "b.pth")
    with pytest.raises(RunError, match=r"MIN_SIZE_TEST is 36"):
        of_best(run, "INPUT.MIN_SIZE_TEST", "36")
    found = of_best(run)
    assert found is not None and found.path == run.path


def test_output_dir_is_the_run_folder_and_two_names_for_it_are_refused(tmp_path):
    """Detectron2's key: of the command line and of a file; --output goes before the file's."""

    def taken(output, opts, text=""):
        file = tmp_path / "c.yaml"
        file.write_text(text, encoding="utf-8")
        args = argparse.Namespace(output=output)
        training_command.take_output(args, training_command.read_config(str(file), opts))
        return args.output

    assert taken(None, []) is None
    assert taken(None, ["OUTPUT_DIR", "a"]) == "a"
    assert taken(None, [], "OUTPUT_DIR: b\n") == "b"
    assert taken("c", [], "OUTPUT_DIR: b\n") == "c"
    assert taken("a", ["OUTPUT_DIR", "a/"]) == "a"
    with pytest.raises(ConfigError, match="--output is a, and OUTPUT_DIR b"):
        taken("a", ["OUTPUT_DIR", "b"])
    with pytest.raises(ConfigError, match="the name of a folder"):
        taken(None, ["OUTPUT_DIR", " "])

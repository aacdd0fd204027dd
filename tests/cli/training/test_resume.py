"""`--resume auto`: one command, repeated by a scheduler until it ends with 0."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.cli.arguments import with_bare_resume
from resdet.cli.training import stored_config
from resdet.config import resolve
from resdet.errors import RunError
from resdet.run.folder import Run
from tests.support import children, tiny, trainings


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--resume auto SEED 1", "--resume auto SEED 1"),
        (
            "--config a.yaml --resume MODEL.WEIGHTS x",
            "--config a.yaml --resume=newest MODEL.WEIGHTS x",
        ),
        ("--resume", "--resume=newest"),
        ("--resume --output r", "--resume=newest --output r"),
        ("MODEL.WEIGHTS x --resume", "MODEL.WEIGHTS x --resume"),
        ("--resume=auto", "--resume=auto"),
    ],
)
def test_a_key_behind_resume_is_not_its_value(given: str, expected: str) -> None:
    assert with_bare_resume(given.split()) == expected.split()


def test_one_command_starts_goes_on_and_ends(tmp_path: Path) -> None:
    """Killed before its first checkpoint and after; equal to a run in one go. In between an
    annotation changes, which stops it; a finished run has nothing to do."""
    tiny.voc_tree(tmp_path / "voc")
    changes = {
        "SOLVER.MAX_ITER": 4,
        "SOLVER.CHECKPOINT_PERIOD": 2,
        "DATASETS.TEST": ["voc:voc:val"],
    }
    text = trainings.detector(
        trainings.FROM_SCRATCH, {**changes, "DATASETS.TEST": ["voc:voc:test"]}
    )
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")

    def auto(*opts: str, kill_at: int | None = None, output: str = "r"):
        words = ("train_det", "--config", "c.yaml", "--output", output, "--resume", "auto", *opts)
        return children.run_cli(*words, cwd=tmp_path, kill_at=kill_at)

    whole = auto(output="whole")
    assert whole.returncode == 0, whole.stderr[-3000:]
    assert auto(kill_at=1).returncode == -9
    killed = auto(kill_at=3)
    assert killed.returncode == -9 and "starts anew" in killed.stderr
    assert [p.name for p in Run.open(tmp_path / "r").checkpoints.glob("*.pth")] == [
        "step_0000002.pth"
    ]

    xml = next((tmp_path / "voc" / "Annotations").glob("*1.xml"))
    before = xml.read_text(encoding="utf-8")
    xml.write_text(before.replace("<difficult>0", "<difficult>1"), encoding="utf-8")
    refused = auto()
    assert refused.returncode == 2
    assert "voc:voc:train has the hash" in refused.stderr
    assert "ENGINE.ALLOW_CHANGED_DATA True" in refused.stderr
    xml.write_text(before, encoding="utf-8")

    done = auto()
    assert done.returncode == 0, done.stderr[-3000:]
    assert "goes on" in done.stderr
    one, other = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"]
        for name in ("whole", "r")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    again = auto()
    assert again.returncode == 0 and "training from step" not in again.stderr
    # The run's own config needs no word, where the run is gone on with or scored.
    for flag in ("--resume", "--eval-only"):
        alone = children.run_cli("train_det", "--output", "r", flag, cwd=tmp_path)
        assert alone.returncode == 0, alone.stderr[-3000:]
    gone = children.run_cli("train_det", "--output", "gone", "--resume", cwd=tmp_path)
    assert gone.returncode == 2 and "gone/config.yaml does not exist, so gone is no" in gone.stderr
    none = children.run_cli("train_det", "--output", "r", cwd=tmp_path)
    assert none.returncode == 2 and "train_det needs --config FILE" in none.stderr


def test_a_run_of_before_a_key_was_there_goes_on(tmp_path: Path) -> None:
    """What the key does is off, as it was then; another value than that is refused as ever."""
    text = resolve(None).to_yaml()
    older = "\n".join(line for line in text.splitlines() if "TF32" not in line)
    assert older != text
    run = Run.create(tmp_path / "r", kind="detection", config_text=older, command=[], seed=0)
    stored_config.refuse_other_config(run, resolve(None))
    with pytest.raises(RunError, match=r"ENGINE\.TF32 is 'on', the run was started with 'off'"):
        stored_config.refuse_other_config(run, resolve(None, ["ENGINE.TF32", "on"]))

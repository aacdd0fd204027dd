"""The keys of speed in a whole pretraining: off and on give one net, runs go on across them."""

import re

import pytest
import torch

pytest.importorskip("detectron2")

from resdet import weights
from resdet.cli.main import run_command
from resdet.engine.speed.kept_memory import can_keep
from resdet.pretrain import set_scores, trainer
from resdet.run.folder import Run
from tests.support import children, tiny, trainings

CONFIG = trainings.classifier({"SOLVER.CHECKPOINT_PERIOD": 2})
EXACT = ["ENGINE.FUSED_OPTIMIZER", "auto", "ENGINE.KEEP_MEMORY", "auto"]
# Four steps in float32 whose updates alone round differently: by 6e-8 of a weight or statistic
# below 8 (5e-7) a step, which the next steps' gradients make larger. Twenty times as much.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("speed")
    tiny.class_folders(place / "data")
    (place / "c.yaml").write_text(CONFIG, encoding="utf-8")
    pretrain(place, "off")
    return place


def pretrain(place, output, *opts, ok=True):
    done = children.run_cli(
        "pretrain_cls", "--config", "c.yaml", "--output", output, *opts, cwd=place
    )
    assert (done.returncode == 0) == ok, done.stderr
    return done


def assert_same_net(place, one, other):
    a, _ = weights.load(place / one / "model.safetensors")
    b, _ = weights.load(place / other / "model.safetensors")
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=ROUNDING, atol=ROUNDING, msg=name)


def speed_lines(place, run):
    log = (place / run / "log.txt").read_text(encoding="utf-8")
    return re.findall(r"resdet\.pretrain\]: speed: (.*)", log)


def test_the_log_has_which_settings_are_on(place):
    assert speed_lines(place, "off") == ["all keys off (docs/speed.md has what each key does)"]


@pytest.mark.numeric
def test_fused_and_kept_memory_give_the_same_net(place):
    pretrain(place, "on", *EXACT)
    assert_same_net(place, "off", "on")
    names = "fused SGD, memory kept" if can_keep() else "fused SGD"
    assert speed_lines(place, "on")[0].startswith(names + " (")


def test_a_run_goes_on_with_keys_that_it_was_not_started_with(place):
    """Two steps off, killed, and the rest with both keys: the net of four steps off."""
    killed = children.run_cli(
        "pretrain_cls", "--config", "c.yaml", "--output", "across", cwd=place, kill_at=3
    )
    assert killed.returncode == -9, killed.stderr
    pretrain(place, "across", "--resume", *EXACT)
    assert_same_net(place, "off", "across")
    assert "FUSED_OPTIMIZER: auto" in Run.open(place / "across").config_text


def test_activations_that_are_computed_again_give_the_same_net_to_the_bit(place):
    """Statistics of the live norms, too, and the file has no trace of it."""
    pretrain(place, "again", "ENGINE.ACTIVATION_CHECKPOINTING", "on")
    a, _ = weights.load(place / "off" / "model.safetensors")
    b, _ = weights.load(place / "again" / "model.safetensors")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert speed_lines(place, "again")[0].startswith("activations recomputed (")


@pytest.mark.parametrize("bf16", ["off", "on"])
def test_statistics_and_scores_are_computed_as_the_net_trains(tmp_path, monkeypatch, bf16):
    """The key is of the net, not of its training alone."""
    monkeypatch.chdir(tmp_path)
    tiny.class_folders(tmp_path / "data")
    text = trainings.classifier({"ENGINE.BF16": bf16, "PRETRAIN.BN_IMAGES": 6})
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    seen = []
    for module, name in ((set_scores, "score"), (trainer, "recompute_bn_statistics")):
        work = getattr(module, name)

        def noting(*args, name=name, work=work):
            seen.append((name, torch.is_autocast_enabled("cpu")))
            return work(*args)

        monkeypatch.setattr(module, name, noting)
    words = ["--config", "c.yaml", "--output", "r", "SOLVER.MAX_ITER", "1"]
    assert run_command("pretrain_cls", words) == 0
    assert seen == [("recompute_bn_statistics", bf16 == "on"), ("score", bf16 == "on")]


def test_compile_without_a_compiler_is_refused_before_anything_starts(place, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)  # refused before the compiler is
    done = pretrain(place, "refused", "ENGINE.COMPILE", "on", ok=False)
    assert done.returncode == 2
    assert "ENGINE.COMPILE is on, but there is no C++ compiler (no-such-compiler)" in done.stderr
    assert "Traceback" not in done.stderr and not (place / "refused").exists()


def test_detection_refuses_compile_and_states_what_it_has(place):
    """A key that a command passes over in silence would be taken for a gain."""
    tiny.voc_tree(place / "voc")
    config = trainings.detector(trainings.FROM_SCRATCH)
    (place / "d.yaml").write_text(config, encoding="utf-8")
    done = children.run_cli(
        *("train_det", "--config", "d.yaml", "--output", "det", "ENGINE.COMPILE", "on"), cwd=place
    )
    assert done.returncode == 2, done.stderr
    assert "which is for classifiers" in done.stderr and "ENGINE.FAST_TRAINING on" in done.stderr
    key = ("ENGINE.ACTIVATION_CHECKPOINTING", "on")
    done = children.run_cli("train_det", "--config", "d.yaml", "--output", "det", *key, cwd=place)
    assert done.returncode == 2 and "ENGINE.IMAGES_PER_PASS is what" in done.stderr
    done = pretrain(place, "refused", "ENGINE.COMPILE", "on", *key, ok=False)
    assert done.returncode == 2
    assert not (place / "det").exists()

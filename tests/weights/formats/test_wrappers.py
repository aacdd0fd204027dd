"""What trainers put around the tensors: taken off by rule, named, or left to the user."""

import argparse

import numpy as np
import pytest
import torch

from resdet import weights
from resdet.errors import WeightsError
from resdet.weights.formats import containers
from tests.support.weight_files import ARRAYS, TENSORS, as_torch, same

WRAPPED = {
    "state_dict": ({"state_dict": TENSORS, "epoch": 3}, ("state_dict",)),
    "model": ({"model": TENSORS, "optimizer": {"lr": 0.1}}, ("model",)),
    "pycls": ({"model_state": TENSORS, "cfg": "x"}, ("model_state",)),
    "nested": ({"model": {"state_dict": TENSORS}}, ("model", "state_dict")),
    "DDP": ({f"module.{n}": t for n, t in TENSORS.items()}, ("module.",)),
    "compiled": ({f"_orig_mod.{n}": t for n, t in TENSORS.items()}, ("_orig_mod.",)),
    "Lightning": (
        {"state_dict": {f"model.{n}": t for n, t in TENSORS.items()}, "epoch": 1},
        ("state_dict", "model."),
    ),
    "compiled DDP": (
        {"model": {f"module._orig_mod.{n}": t for n, t in TENSORS.items()}},
        ("model", "module.", "_orig_mod."),
    ),
    "average alone": ({"model_ema": TENSORS}, ("model_ema",)),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_wrappers_are_taken_off_and_named(tmp_path, case):
    """Each as its trainer writes it (conventions of DDP, torch.compile, Lightning, pycls, timm)."""
    content, wrappers = WRAPPED[case]
    as_torch(tmp_path / "x.pth", content)
    assert same(containers.read(tmp_path / "x.pth")).wrappers == wrappers


def test_one_of_mocos_encoders_is_chosen_by_its_prefix(tmp_path):
    """MoCo's checkpoint: DDP around encoder_q, encoder_k, queue and queue_ptr."""
    query = {f"module.encoder_q.{n}": t for n, t in TENSORS.items()}
    key = {f"module.encoder_k.{n}": -t for n, t in TENSORS.items()}
    beside = {"module.queue": torch.zeros(4), "module.queue_ptr": torch.zeros(1)}
    as_torch(tmp_path / "alone.pth", {"state_dict": {**query, **beside}})
    found = same(containers.read(tmp_path / "alone.pth"))
    assert found.wrappers == ("state_dict", "module.", "encoder_q.")
    assert set(found.left_aside) == {"queue", "queue_ptr"}
    as_torch(tmp_path / "moco.pth", {"state_dict": {**query, **key, **beside}})
    for part in ("encoder_q.", "encoder_q", "module.encoder_q."):
        found = same(containers.read(tmp_path / "moco.pth", part=part))
        assert (len(found.left_aside), found.part) == (4, part)
    chosen = containers.read(tmp_path / "moco.pth", part="encoder_k.").tensors
    assert torch.equal(chosen["a.bias"], -TENSORS["a.bias"])
    with pytest.raises(WeightsError, match=r"no part 'encoder.'.*it has state_dict, module\."):
        containers.read(tmp_path / "moco.pth", part="encoder.")


def test_averages_beside_the_weights_are_named_and_taken_on_request(tmp_path):
    """timm's trainer writes `state_dict` and `state_dict_ema` side by side."""
    averaged = {n: t + 1 for n, t in TENSORS.items()}
    as_torch(tmp_path / "x.pth", {"state_dict": TENSORS, "state_dict_ema": averaged, "arch": "r"})
    found = same(containers.read(tmp_path / "x.pth"))
    assert found.averages == ("state_dict_ema",)
    assert found.beside == {"arch": "r"}
    chosen = containers.read(tmp_path / "x.pth", part="state_dict_ema")
    assert torch.equal(chosen.tensors["a.bias"], averaged["a.bias"])
    with pytest.raises(WeightsError, match=r"no part 'teacher' with tensors; it has state_dict"):
        containers.read(tmp_path / "x.pth", part="teacher")


def test_other_encoders_are_found_by_their_wrappers(tmp_path):
    """MoCo v3, torch's AveragedModel, mmpretrain's backbone beside its head."""
    cases = {
        "v3": {f"module.base_encoder.{n}": t for n, t in TENSORS.items()}
        | {"module.predictor.0.weight": torch.ones(2)},
        "averaged": {f"module.{n}": t for n, t in TENSORS.items()} | {"n_averaged": torch.ones(())},
        "mm": {f"backbone.{n}": t for n, t in TENSORS.items()} | {"head.fc.weight": torch.ones(2)},
    }
    for name, content in cases.items():
        as_torch(tmp_path / name, content)
        same(containers.read(tmp_path / name))


def test_parts_of_other_names_are_listed(tmp_path):
    """DINO keeps a student and a teacher."""
    as_torch(tmp_path / "dino.pth", {"student": TENSORS, "teacher": TENSORS, "epoch": 3})
    with pytest.raises(
        WeightsError, match="parts of other names: student, teacher.*--part student"
    ):
        containers.read(tmp_path / "dino.pth")
    same(containers.read(tmp_path / "dino.pth", part="teacher"))


def test_two_parts_of_the_same_names_are_not_guessed_between(tmp_path):
    """A trainer's `model` beside its `teacher`; the optimizer's tensors have other names."""
    content = {"model": TENSORS, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    as_torch(tmp_path / "x.pth", content)
    same(containers.read(tmp_path / "x.pth"))
    as_torch(tmp_path / "x.pth", {**content, "teacher": {n: -t for n, t in TENSORS.items()}})
    with pytest.raises(
        WeightsError, match=r"2 nets .*: model, teacher.*--part model or --part teacher"
    ):
        containers.read(tmp_path / "x.pth")
    same(containers.read(tmp_path / "x.pth", part="model"))
    inner = {f"net.{n}": t for n, t in TENSORS.items()} | {"other.weight": torch.ones(1)}
    as_torch(tmp_path / "y.pth", {"student": inner, "teacher": inner})
    assert same(containers.read(tmp_path / "y.pth", part="teacher/net.")).key == "teacher"


def test_wrappers_inside_the_net_are_taken_off_too(tmp_path):
    """FSDP wraps each block, and the whole; torch.compile and checkpoints wrap blocks alone."""
    content = {
        f"_fsdp_wrapped_module.a._fsdp_wrapped_module.{n[2:]}": t for n, t in TENSORS.items()
    }
    as_torch(tmp_path / "x.pth", {"model": content})
    assert same(containers.read(tmp_path / "x.pth")).wrappers[:2] == (
        "model",
        "_fsdp_wrapped_module.",
    )
    as_torch(
        tmp_path / "x.pth", {"a._checkpoint_wrapped_module.weight": TENSORS["a.weight"],
                             "a._orig_mod.bias": TENSORS["a.bias"]}
    )  # fmt: skip
    same(containers.read(tmp_path / "x.pth"))


def test_a_file_with_its_card_inside_has_no_parts(tmp_path):
    """A part that would be passed over is refused."""
    card = weights.Card("resnet18", weights.Input("RGB", (0, 0, 0), (1, 1, 1)))
    weights.save(tmp_path / "x.safetensors", TENSORS, card)
    with pytest.raises(WeightsError, match="card inside.*Leave the part out"):
        containers.read(tmp_path / "x.safetensors", part="a.")


def test_what_trainers_keep_beside_the_tensors_is_no_program(tmp_path):
    """timm's trainer saves its argparse.Namespace, others numpy's numbers."""
    content = {"state_dict": TENSORS, "args": argparse.Namespace(lr=0.1, opt=["sgd"])}
    as_torch(tmp_path / "x.pth", {**content, "best": np.float64(3.0), "top": np.float32(1)})
    same(containers.read(tmp_path / "x.pth"))
    np.savez(open(tmp_path / "x.npz", "wb"), arch="resnet18", **ARRAYS)  # noqa: SIM115
    same(containers.read(tmp_path / "x.npz"))

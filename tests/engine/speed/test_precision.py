"""ENGINE.TF32 and ENGINE.DETERMINISTIC: off leaves torch alone, on sets what torch documents."""

import os

import pytest
import torch

from resdet.engine.speed.precision import set_arithmetic


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    before = settings()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before[:2]
    torch.backends.cudnn.benchmark = before[2]
    torch.use_deterministic_algorithms(before[3])


def settings():
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    )


def test_off_changes_nothing():
    before = settings()
    set_arithmetic("off", False, False)
    assert settings() == before
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


@pytest.mark.parametrize(("value", "allowed"), [("on", True), ("never", False)])
def test_tf32_is_one_key_for_both_of_torchs(value, allowed):
    set_arithmetic(value, False, True)
    assert settings() == (allowed, allowed, True, False)


def test_deterministic_looks_for_no_faster_algorithm():
    """torch's page on reproducibility: three settings, and cuBLAS's workspace."""
    set_arithmetic("off", True, True)
    assert settings()[2:] == (False, True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_deterministic_algorithms_pool_regions_to_the_same_gradients():
    """What a detector adds to a classifier, forward and backward, as without the key."""
    from torchvision.ops import roi_align

    grads = []
    for deterministic in (False, True):
        set_arithmetic("off", deterministic, False)
        x = torch.arange(64.0).reshape(1, 1, 8, 8).requires_grad_()
        roi_align(x, [torch.tensor([[1.0, 1.0, 6.0, 5.0]])], 3, aligned=True).sum().backward()
        grads.append(x.grad)
    assert torch.equal(*grads)

"""A file of weights."""

import pytest
import torch


@pytest.fixture
def file(tmp_path):
    def save(state, name="x.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return save

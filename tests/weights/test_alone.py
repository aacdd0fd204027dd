"""The weight doctor alone: no Detectron2, timm or torchvision, none of the toolkit's data."""

import json

import torch

from resdet import nets
from tests.support import children

BLOCKED = ("detectron2", "timm", "torchvision", "fvcore", "yacs", "pycocotools", "resdet.data")
ALONE = """
import runpy
sys.argv = ["resdet", "convert_weights", *sys.argv[1:]]
runpy.run_module("resdet", run_name="__main__")
"""


def alone(*args):
    return children.python("-c", children.unimportable(BLOCKED) + ALONE, *args)


def test_the_doctor_needs_no_library_of_any_origin(tmp_path):
    """Inspects, converts and inspects again, with every such library made unimportable."""
    torch.manual_seed(0)
    state = nets.build("resnet18", 5, width=0.125).state_dict()
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_()
    torch.save({"model": state}, tmp_path / "x.pth")
    card = ["--color", "RGB", "--mean", "1", "2", "3", "--std", "60", "61", "62"]
    done = alone("card", str(tmp_path / "x.pth"), *card)
    assert done.returncode == 0, done.stderr
    done = alone(
        "convert", str(tmp_path / "x.pth"), "--to", "resdet", "-o", str(tmp_path / "y.safetensors")
    )
    assert done.returncode == 0, done.stderr
    done = alone("inspect", str(tmp_path / "y.safetensors"), "--json")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert found["architecture"] == "resnet18" and found["input"]["std"] == [60.0, 61.0, 62.0]
    assert found["loads_into"][0]["arrived"] == found["loads_into"][0]["expected"] == 102

"""Logits against torchvision and Detectron2 with shared weights, in float64."""

import pytest
import torch
import torchvision

from resdet import nets
from resdet.weights import transfer
from resdet.weights.origins import registry
from resdet.weights.transfer import COUNTER

TOLERANCE = 1e-10  # float64; the same operations in the same order give 0


def randomise_norms(module: torch.nn.Module) -> None:
    for name, tensor in module.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(std=0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.ndim == 1 and name.endswith("weight"):
            tensor.uniform_(0.5, 1.5)


RESNETS = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
VGGS = [f"vgg{depth}{norm}" for depth in (16, 19) for norm in ("", "_bn")]


@pytest.mark.parametrize("name", [*RESNETS, *VGGS])
def test_logits_equal_torchvisions(name):
    """torchvision's own module, random weights and statistics, stride in the 3x3."""
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    randomise_norms(theirs)
    options = {"stride_in_1x1": False} if name.startswith("resnet") else {}
    with torch.device("meta"):
        ours = nets.build(name, **options)
    ours = ours.to_empty(device="cpu").eval()
    state = theirs.state_dict()
    table = registry.table("torchvision", name)
    renamed = {o: state[t] for o, t in table.items() if t in state}
    assert set(table.values()) == set(state)  # a bijection over every tensor
    received = transfer(ours, renamed, where="torchvision", optional=())
    assert len(received.arrived) == len([n for n in state if not n.endswith(COUNTER)])
    side = 224 if name.startswith("vgg") else 96
    x = torch.randn(1, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours.double()(x), theirs.double()(x), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_msra_stride_nets_equal_detectron2s(depth):
    """Detectron2's `ResNet` with STRIDE_IN_1X1, loaded by equal names, nothing left over."""
    resnet = pytest.importorskip("detectron2.modeling.backbone.resnet")
    torch.manual_seed(0)
    bottleneck = depth >= 50
    theirs = resnet.ResNet(
        resnet.BasicStem(3, 64, norm="BN"),
        resnet.ResNet.make_default_stages(
            depth,
            block_class=resnet.BottleneckBlock if bottleneck else resnet.BasicBlock,
            norm="BN",
            **({"stride_in_1x1": True} if bottleneck else {}),
        ),
        num_classes=10,
    ).eval()
    randomise_norms(theirs)
    ours = nets.build(f"resnet{depth}", 10, stride_in_1x1=True).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, 3, 96, 96, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            ours.double()(x), theirs.double()(x)["linear"], rtol=0, atol=TOLERANCE
        )

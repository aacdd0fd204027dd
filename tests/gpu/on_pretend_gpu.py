"""Checks on the pretend GPU (`pretend_gpu`); `test_pretend_gpu.py` runs them.

Not for: speed, memory, or what only a real device shows (NCCL, its kernels' rounding).
"""

import json

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from resdet.cli.main import run_command
from resdet.config import resolve
from resdet.detect.fast.fast_detector import fast
from resdet.detect.fast.fast_training import speed_up
from resdet.detect.model import fill_from_weights_and_net
from resdet.engine import parallel
from resdet.engine.parallel import distributed
from resdet.engine.speed.precision import Precision
from resdet.run.folder import Run
from tests.gpu.pretend_gpu import Refused, pretend
from tests.support import loops, tiny, trainings

GPU = {"MODEL.DEVICE": "cuda"}


def command(name, *words, expected=0):
    assert run_command(name, [*map(str, words)]) == expected


def rows(folder):
    return [row for row in Run.open(folder).metrics() if "total_loss" in row]


# -- basics ----------------------------------------------------------------------------------


def test_basics_what_cuda_refuses_is_refused():
    with pretend() as gpu:
        x, c = torch.randn(3, 4, device="cuda"), torch.randn(3, 4)
        refused = [
            lambda: x + c,
            lambda: torch.cat([x, c]),
            lambda: c.add_(x),
            lambda: c[x > 0],
            lambda: torch.nn.Linear(4, 4)(x),
            lambda: x.to("cuda:1"),
            lambda: torch.nn.functional.cross_entropy(x, torch.tensor([0, 1, 2])),
        ]
        for call in refused:
            with pytest.raises(Refused):
                call()
        with pytest.raises(TypeError, match="to numpy"):
            x.numpy()
        assert (x + torch.tensor(1.0)).is_cuda and x[torch.tensor([0, 2])].is_cuda
        gpu.forget()
        x.sum().item()
        assert sum(gpu.waits.values()) == 1 and sum(gpu.launches.values()) == 1
        x.cpu()
        assert sum(gpu.waits.values()) == 2 and sum(gpu.copies.values()) == 1


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True)])
def test_basics_bf16_is_chosen_where_it_is_native(capability, expected):
    """A T4 emulates it, slower than float32."""
    with pretend(capability=capability):
        assert Precision.of("cuda", "auto", "auto").bf16 is expected


def test_basics_a_gpu_that_is_not_there_is_a_page(tmp_path, capsys):
    tiny.class_folders(tmp_path / "data")
    path = tmp_path / "c.yaml"
    path.write_text(trainings.classifier({"MODEL.DEVICE": "cuda:1"}), encoding="utf-8")
    with pretend():
        command("pretrain_cls", "--config", path, "--output", tmp_path / "r", expected=2)
    assert "MODEL.DEVICE is cuda:1, but this machine has 1 GPU" in capsys.readouterr().err


def test_basics_each_process_wraps_its_own_gpu(monkeypatch):
    """Under torchrun no group knows local ranks: the device's own number is right."""
    asked = {}

    def no_group():
        raise AssertionError("only Detectron2's launch makes the group of a machine")

    monkeypatch.setattr(parallel.comm, "get_local_rank", no_group)
    monkeypatch.setattr(parallel.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        parallel, "DistributedDataParallel", lambda model, **options: asked.update(options)
    )
    with pretend():
        distributed(torch.nn.Linear(2, 2).to("cuda"))
    assert asked["device_ids"] == [0]


# -- classifier --------------------------------------------------------------------------------


EVERY_KEY = {
    "ENGINE.BF16": "on",
    "ENGINE.CHANNELS_LAST": "on",
    "ENGINE.FUSED_OPTIMIZER": "auto",
    "ENGINE.CLIP_GRADIENT_NORM": 5.0,
    "ENGINE.IMAGES_PER_PASS": 4,
    "PRETRAIN.BN_IMAGES": 12,
}


@pytest.mark.parametrize(("keys", "bound"), [({}, 1e-6), (EVERY_KEY, 0.05)])
def test_classifier_trains_resumes_and_scores_as_on_a_cpu(tmp_path, monkeypatch, keys, bound):
    """In float32 the CPU's losses, since the same code runs; bfloat16 keeps three digits, and CUDA
    rounds to it at other operations."""
    monkeypatch.chdir(tmp_path)
    tiny.class_folders(tmp_path / "data")
    losses = []
    for device in ("cpu", "cuda"):
        more = {"SOLVER.MAX_ITER": 20, "SOLVER.CHECKPOINT_PERIOD": 10, "MODEL.DEVICE": device}
        path = tmp_path / f"{device}.yaml"
        path.write_text(trainings.classifier({**more, **keys}), encoding="utf-8")
        with pretend():
            command("pretrain_cls", "--config", path, "--output", tmp_path / device)
        losses += [row["total_loss"] for row in rows(tmp_path / device)]
    assert losses[1] == pytest.approx(losses[0], rel=bound)
    again = ("--config", tmp_path / "cuda.yaml", "--output", tmp_path / "cuda")
    with pretend():
        command("pretrain_cls", *again, "--resume", "SOLVER.MAX_ITER", 22)
        command("pretrain_cls", *again, "--eval-only", "SOLVER.MAX_ITER", 22)


# -- detectors ---------------------------------------------------------------------------------

FPN = {
    "MODEL.BACKBONE.NAME": "build_net_fpn_backbone",
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16], [32], [64], [128], [256]],
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.FPN.OUT_CHANNELS": 16,
}
KINDS = {
    "c4": {},
    # 256 channels in the shared map: wide enough for Winograd, which a GPU leaves alone.
    "c4_wide": {"MODEL.NET.WIDTH": 1.0},
    "vgg": {"MODEL.NET.NAME": "vgg11", "MODEL.NET.FC_CHANNELS": 32},
    "fpn": FPN,
}
KEYS = {
    "off": {},
    "on": {
        "ENGINE.FAST_TRAINING": "on", "ENGINE.FAST_INFERENCE": "on",
        "ENGINE.FUSED_OPTIMIZER": "auto",
    },
    "bf16": {
        "ENGINE.FAST_TRAINING": "on", "ENGINE.FAST_INFERENCE": "on", "ENGINE.BF16": "on",
        "ENGINE.CHANNELS_LAST": "on",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_detectors_train_and_detect_with_every_key(tmp_path, monkeypatch, kind):
    """Losses of the CPU, with the keys off and on; then scored on the other device."""
    monkeypatch.chdir(tmp_path)
    tiny.voc_tree(tmp_path / "voc")
    losses = {}
    for device in ("cpu", "cuda"):
        for name, keys in KEYS.items():
            changes = {"SOLVER.MAX_ITER": 2, **KINDS[kind], **keys, "MODEL.DEVICE": device}
            path = tmp_path / f"{device}_{name}.yaml"
            text = trainings.detector(trainings.FROM_SCRATCH, changes)
            path.write_text(text, encoding="utf-8")
            with pretend():
                command("train_det", "--config", path, "--output", tmp_path / f"{device}_{name}")
            losses[device, name] = rows(tmp_path / f"{device}_{name}")[-1]["total_loss"]
    for name in ("off", "on"):
        assert losses["cuda", name] == pytest.approx(losses["cpu", name], rel=1e-4)
    assert losses["cuda", "bf16"] == pytest.approx(losses["cpu", "off"], rel=0.2)
    for here, there in (("cpu", "cuda"), ("cuda", "cpu")):
        with pretend():
            command("train_det", "--config", tmp_path / f"{here}_on.yaml", "--eval-only",
                    "--output", tmp_path / f"{here}_on", "MODEL.DEVICE", there)  # fmt: skip


def test_detectors_pyramid_computes_in_bf16_as_on_a_cpu(tmp_path):
    """CUDA's autocast would upsample and add in float32, and so give other maps."""
    maps = {}
    for device in ("cpu", "cuda"):
        cfg = resolved(tmp_path, {**FPN, "MODEL.DEVICE": device})
        with pretend():
            torch.manual_seed(0)
            backbone = build_model(cfg).eval().backbone
            backbone.precision = backbone.bottom_up.precision = Precision(device, bf16=True)
            x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(device)
            with torch.no_grad():
                maps[device] = {name: t.cpu() for name, t in backbone(x).items()}
    for name, level in maps["cpu"].items():
        assert torch.equal(level, maps["cuda"][name]), name


# -- counts --------------------------------------------------------------------------------------


def resolved(folder, changes):
    """A detector's config for two classes, from a file as users write it."""
    path = folder / "resolved.yaml"
    text = trainings.detector({**trainings.FROM_SCRATCH, "MODEL.ROI_HEADS.NUM_CLASSES": 2}, changes)
    path.write_text(text, encoding="utf-8")
    config = resolve(path)
    fill_from_weights_and_net(config, None)
    return config.cfg


def batch(number):
    """Images of 96 x 128 with two objects each."""
    generator = torch.Generator().manual_seed(0)
    objects = Instances((96, 128))
    objects.gt_boxes = Boxes(torch.tensor([[10.0, 10.0, 60.0, 70.0], [50.0, 20.0, 110.0, 90.0]]))
    objects.gt_classes = torch.tensor([0, 1])
    image = torch.randint(0, 255, (number, 3, 96, 128), generator=generator).float()
    return [{"image": x, "instances": objects, "height": 96, "width": 128} for x in image]


def counted(cfg, *, fast_keys, training):
    """Launches, waits and copies of a step of two images, or of one image, after a first."""
    with pretend() as gpu:
        torch.manual_seed(0)
        model = build_model(cfg)
        if training:
            model.train()
            if fast_keys:
                speed_up(model, Precision("cuda"))
            optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-4)

            def step():
                optimizer.zero_grad()
                sum(model(batch(2)).values()).backward()
                optimizer.step()
        else:
            model.eval()
            model = fast(model) if fast_keys else model

            def step():
                with torch.no_grad():
                    model(batch(1))

        with EventStorage(0):  # Detectron2's losses write to it
            step()
            gpu.forget()
            torch.manual_seed(1)
            step()
        return sum(gpu.launches.values()), sum(gpu.waits.values())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["c4", "fpn"])
def test_counts_of_the_fast_keys_are_no_more_than_stocks(tmp_path, kind, training):
    """A group of regions would cost some 20 launches and 2 waits of the host, each of them."""
    # Frozen, as after pretraining: those are what the fast keys fold.
    frozen = {"MODEL.NET.NORM": "FrozenBN", "MODEL.WEIGHTS": "given here"}
    cfg = resolved(tmp_path, {**KINDS[kind], **GPU, **frozen})
    stock = counted(cfg, fast_keys=False, training=training)
    ours = counted(cfg, fast_keys=True, training=training)
    print(json.dumps({"kind": kind, "training": training, "stock": stock, "fast": ours}))
    assert ours[0] <= stock[0]
    assert ours[1] <= stock[1]


def test_counts_of_the_loop_one_wait_a_step(tmp_path, monkeypatch):
    """All losses, the gradient's norm and the metrics are read at once."""
    monkeypatch.chdir(tmp_path)
    run = loops.make_run(tmp_path / "r")
    with pretend() as gpu:
        loop = loops.make_loop()
        loop.model.to("cuda")
        loop.losses = lambda x: {
            "loss_a": loop.model(x.to("cuda")).square().mean(),
            "loss_b": loop.model(x.to("cuda")).abs().mean(),
        }
        seen = []

        class Count(loops.HookBase):
            def before_step(self):
                gpu.forget()

            def after_step(self):
                seen.append(sum(gpu.waits.values()))

        loop.register_hooks([Count()])
        loop.train(0, 3)
    assert seen == [1, 1, 1]
    assert run.path.exists()

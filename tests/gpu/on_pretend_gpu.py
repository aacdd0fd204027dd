"""Checks on the pretend GPU (`pretend_gpu`); `test_pretend_gpu.py` runs them.

Not for: speed, memory, or what only a real device shows (NCCL, its kernels' rounding).
"""

import argparse
import json

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from benchmarks.detection.detectors import pair
from benchmarks.detection.training import batch_of_one
from resdet.cli.main import run_command
from resdet.cli.training.training_command import read_config
from resdet.config import resolve
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.detect.fast.fast_detector import fast
from resdet.detect.fast.fast_training import speed_up
from resdet.engine import parallel
from resdet.engine.loop import Loop
from resdet.engine.parallel import distributed
from resdet.engine.processes import run_in_processes
from resdet.engine.speed.precision import Precision
from resdet.run import layout
from resdet.run.folder import Run
from tests.gpu.pretend_gpu import Place, Refused, pretend
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


def test_basics_a_named_gpu_is_the_one_that_is_waited_for(tmp_path, capsys):
    """Profiles and pinned memory are about the current GPU; the log states what torch may use."""
    (tmp_path / "c.yaml").write_text(trainings.classifier({"MODEL.DEVICE": "cuda:1"}), "utf-8")
    with pretend(count=2):
        read_config(tmp_path / "c.yaml", [])
        assert torch.cuda.current_device() == 1
    line = "a pretend GPU: TensorFloat-32 in convolutions (ENGINE.TF32)"
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("rank", [0, 1])
def test_basics_each_process_of_torchrun_computes_on_its_own_gpu(monkeypatch, rank):
    """With NCCL, on the GPU that "cuda" then is; a rank's number is not its machine's."""
    for name, value in {"RANK": 4 + rank, "LOCAL_RANK": rank, "WORLD_SIZE": 6}.items():
        monkeypatch.setenv(name, str(value))
    chosen = []
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend, **_: chosen.append(backend)
    )
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with pretend(count=2):
        current = run_in_processes(
            lambda args: torch.cuda.current_device(), argparse.Namespace(), "cuda"
        )
    assert (chosen, current) == (["nccl"], rank)


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
    losses, errors = {}, {}
    for device in ("cpu", "cuda"):
        more = {"SOLVER.MAX_ITER": 20, "SOLVER.CHECKPOINT_PERIOD": 10, "MODEL.DEVICE": device}
        path, folder = tmp_path / f"{device}.yaml", tmp_path / device
        path.write_text(trainings.classifier({**more, **keys}), encoding="utf-8")
        with pretend() as gpu:
            command("pretrain_cls", "--config", path, "--output", folder)
            command("pretrain_cls", "--config", path, "--output", folder, "--resume",
                    "SOLVER.MAX_ITER", 22)  # fmt: skip
        assert bool(gpu.launches) == (device == "cuda")
        losses[device] = {row["iteration"]: row["total_loss"] for row in rows(folder)}
        errors[device] = Run.open(folder).read("classification.json")["data/val"]
        settings = (folder / "log.txt").read_text(encoding="utf-8")
        assert ("speed: bfloat16, channels_last, fused SGD" in settings) == bool(keys)
    # The loss before the resume, and the one after.
    assert list(losses["cuda"]) == list(losses["cpu"]) == [19, 21]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=bound)
    # Scored on the other device: the same images, and of 18 at most one at the edge of another.
    for here, there in (("cpu", "cuda"), ("cuda", "cpu")):
        with pretend() as gpu:
            command("pretrain_cls", "--config", tmp_path / f"{here}.yaml", "--output",
                    tmp_path / here, "--eval-only", "MODEL.DEVICE", there, "SOLVER.MAX_ITER", 22,
                    )  # fmt: skip
        assert bool(gpu.launches) == (there == "cuda")
        again = Run.open(tmp_path / here).read("classification.json")["data/val"]
        assert again["images"] == errors[here]["images"] == {
            "expected": 18, "evaluated": 18, "missing": 0,
        }  # fmt: skip
        assert abs(again["top1_error"] - errors[here]["top1_error"]) < 6


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
DC5 = {
    "MODEL.NET.RES5_DILATION": 2,
    **{key: value for key, value in FPN.items() if "ROI_" in key},
}
KINDS = {
    "c4": {},
    # 128 channels in the shared map: wide enough for Winograd, which a GPU leaves alone.
    "c4_wide": {"MODEL.NET.WIDTH": 0.5},
    # Without norms a step at 0.01 makes a third of the loss of what bf16 rounds.
    "vgg": {
        "MODEL.NET.NAME": "vgg11", "MODEL.NET.FC_CHANNELS": 32, "SOLVER.BASE_LR": 1e-4,
    },
    "fpn": FPN,
    "dc5": DC5,
}  # fmt: skip
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
    """Losses of the CPU, with the keys off and on; then scored on the other device, where the
    detections are those of the first but for what rounding decides."""
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
        folder = tmp_path / f"{here}_on"
        before = detections(folder)
        with pretend() as gpu:
            command("train_det", "--config", tmp_path / f"{here}_on.yaml", "--eval-only",
                    "--output", folder, "MODEL.DEVICE", there)  # fmt: skip
        assert bool(gpu.launches) == (there == "cuda")
        after = detections(folder)
        assert len(after) >= 10 and abs(len(after) - len(before)) <= len(before) / 10
        near = [any(is_same(one, other) for other in before) for one in after]
        assert sum(near) >= 0.9 * len(near)


def detections(folder):
    """What a run's one test set has as results."""
    run = Run.open(folder)
    (name,) = run.result_sets()
    return json.loads((run.results(name) / layout.COCO_RESULTS).read_text(encoding="utf-8"))


def is_same(one, other):
    """Within 0.1 pixels and 1e-3 in the score."""
    apart = max(abs(a - b) for a, b in zip(one["bbox"], other["bbox"], strict=True))
    names = ("image_id", "category_id")
    same = all(one[name] == other[name] for name in names)
    return same and apart < 0.1 and abs(one["score"] - other["score"]) < 1e-3


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
        # What left a layer in bfloat16 has its eight bits; in float32 it would have more.
        assert torch.equal(level.bfloat16().float(), level), name


# -- counts --------------------------------------------------------------------------------------


def resolved(folder, changes):
    """A detector's config for two classes, from a file as users write it."""
    path = folder / "resolved.yaml"
    text = trainings.detector({**trainings.FROM_SCRATCH, "MODEL.ROI_HEADS.NUM_CLASSES": 2}, changes)
    path.write_text(text, encoding="utf-8")
    config = resolve(path)
    fill_from_weights_and_net(config, None)
    return config.cfg


def counted(model, *, training):
    """Launches and waits of a step of two images, or of one image, after a first."""
    images = [batch_of_one(seed, (96, 128))[0] for seed in range(2 if training else 1)]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 1e-4) if training else None

    def step():
        with torch.set_grad_enabled(training):
            output = model(images)
        if optimizer is not None:
            optimizer.zero_grad()
            sum(output.values()).backward()
            optimizer.step()

    with EventStorage(0):  # Detectron2's losses write to it
        step()
        gpu = Place.gpu
        gpu.forget()
        torch.manual_seed(1)
        step()
    return sum(gpu.launches.values()), sum(gpu.waits.values())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("net", ["R-50-C4", "R-50-FPN", "R-50-DC5"])
def test_counts_of_detectors_are_no_more_than_stocks(net, training):
    """Oracle: Detectron2's own model. With the keys off ours is that, launch by launch; a group of
    regions would cost the fast keys some 20 launches and 2 waits of the host, each of them."""
    few = ["MODEL.RPN.POST_NMS_TOPK_TRAIN", "40", "MODEL.RPN.POST_NMS_TOPK_TEST", "40"]
    with pretend():
        stock, ours = (m.train(training) for m in pair(net, few, device="cuda", width=0.125))
        expected, off = (counted(model, training=training) for model in (stock, ours))
        if training:
            speed_up(ours, Precision("cuda"))
        on = counted(ours if training else fast(ours), training=training)
    print(json.dumps({"net": net, "training": training, "stock": expected, "fast": on}))
    assert off == expected
    assert on[0] < expected[0] and on[1] <= expected[1]


@pytest.mark.parametrize("keys", [{}, EVERY_KEY], ids=["off", "every_key"])
def test_counts_of_a_classifiers_step_one_wait(tmp_path, monkeypatch, keys):
    """Images and labels go from pinned memory while the host works on; the losses are read at once.
    The ceiling on launches is a tenth above what was seen (249, and 589 in two passes)."""
    monkeypatch.chdir(tmp_path)
    tiny.class_folders(tmp_path / "data")
    text = trainings.classifier({"SOLVER.MAX_ITER": 3, **GPU, **keys, "PRETRAIN.BN_IMAGES": 0})
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    waits, launches = [], []
    run_step = Loop.run_step

    def counting(loop):
        Place.gpu.forget()
        run_step(loop)
        waits.append(dict(Place.gpu.waits))
        launches.append(sum(Place.gpu.launches.values()))

    monkeypatch.setattr(Loop, "run_step", counting)
    with pretend():
        command("pretrain_cls", "--config", "c.yaml", "--output", "r")
    assert [sum(of.values()) for of in waits[1:]] == [1, 1], waits[1:]
    assert launches[-1] < (650 if keys else 275), launches


def test_counts_of_the_loop_one_wait_a_step(tmp_path, monkeypatch):
    """All losses, the gradient's norm and the metrics are read at once, and nothing is sent but
    the images."""
    monkeypatch.chdir(tmp_path)
    run = loops.make_run(tmp_path / "r")
    with pretend() as gpu:
        loop = loops.make_loop()
        loop.model.to("cuda")

        def losses(x):
            y = loop.model(x.pin_memory().to("cuda", non_blocking=True))
            return {"loss_a": y.square().mean(), "loss_b": y.abs().mean()}

        loop.losses = losses
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

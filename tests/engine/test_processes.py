"""Two processes of torchrun on one machine give what one gives, up to the order of sums."""

import argparse
import json
import multiprocessing
import os
import pickle
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.utils import comm

from resdet import nets, weights
from resdet.cli.training import training_command
from resdet.engine import parallel, processes
from resdet.errors import ConfigError, DataError, ResdetError
from resdet.run.folder import Run
from tests.support import children, tiny, trainings

# Without norms and dropout nothing depends on how a batch is cut.
VGG = {"width": 0.0625, "pools": 2, "pooled_size": 4, "fc_channels": 16, "dropout": 0.0}
PRETRAIN = trainings.classifier({
    "MODEL.NET": {"NAME": "vgg11", **{key.upper(): value for key, value in VGG.items()}},
    "SOLVER.MAX_ITER": 6,
})  # fmt: skip
DETECT = trainings.detector(trainings.FROM_SCRATCH, {"SOLVER.MAX_ITER": 3})


def both(command: str, config: str, place: Path) -> list[Run]:
    (place / "c.yaml").write_text(config, encoding="utf-8")
    runs = []
    for number in (1, 2):
        done = children.run_cli(
            command, "--config", "c.yaml", "--output", f"by{number}", cwd=place, processes=number
        )
        assert done.returncode == 0, done.stderr[-3000:]
        # Said once, however many processes there are.
        assert done.stdout.count(f"by{number}") == 1
        runs.append(Run.open(place / f"by{number}"))
    return runs


@pytest.mark.numeric
def test_pretraining_by_two_equals_one_up_to_rounding(tmp_path: Path) -> None:
    """F42: same images in the same steps, gradients averaged, every image scored once."""
    tiny.class_folders(tmp_path / "data")
    one, two = both("pretrain_cls", PRETRAIN, tmp_path)
    (a, _), (b, _) = (weights.load(run.path / "model.safetensors") for run in (one, two))
    torch.manual_seed(3)
    start = nets.build("vgg11", 3, **VGG).state_dict()
    moved, apart = ([(x[k] - a[k]).norm() for k in a] for x in (start, b))
    # A ReLU that rounding flips moves a weight by some 1e-4, a lost half of the batch by as much
    # as the training did: the bound lies between them, whatever the order of sums.
    assert torch.stack(moved).norm() > 0.01
    assert torch.stack(apart).norm() < 0.01 * torch.stack(moved).norm()
    images = two.read("classification.json")["data/val"]["images"]
    assert images == {"expected": 18, "evaluated": 18, "missing": 0}


def test_detection_by_two_visits_every_image_once(tmp_path: Path) -> None:
    """F41: an odd number of test images; live norms differ by process, so no number is compared."""
    tiny.voc_tree(tmp_path / "voc")
    _, two = both("train_det", DETECT, tmp_path)
    (name,) = two.result_sets()
    images = json.loads((two.results(name) / "images.json").read_text(encoding="utf-8"))
    assert images["expected"] == images["evaluated"] == ["000003", "000004", "000005"]
    assert [row["iteration"] for row in two.metrics()] == [2]


def test_what_a_child_refuses_is_a_page_with_its_exit_code(tmp_path: Path) -> None:
    """`launch` brings errors of children back as text; 2 must not become a bug of ours."""
    reported = tmp_path / "reported.json"

    def refuse(args: object) -> int:
        raise ConfigError("A is 1, expected 2.")

    with pytest.raises(ConfigError):
        processes._in_child(refuse, None, reported)
    with pytest.raises(ResdetError, match="A is 1, expected 2") as error:
        processes.raise_reported(reported)
    assert error.value.exit_code == 2
    processes.raise_reported(tmp_path / "none.json")


def test_nothing_holds_the_group_when_it_is_destroyed(monkeypatch):
    """Detectron2 caches it; held until the interpreter ends, it aborted some processes at exit."""
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **_: None)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda *_: "gloo")
    cached = []
    monkeypatch.setattr(
        torch.distributed,
        "destroy_process_group",
        lambda: cached.append(comm._get_global_gloo_group.cache_info().currsize),
    )

    def main(args):
        comm._get_global_gloo_group()
        return comm._get_global_gloo_group.cache_info().currsize

    assert processes.run_in_processes(main, argparse.Namespace(), "auto") == 1
    assert cached == [0]


@pytest.mark.parametrize(
    ("device", "gpus", "rank", "expected"),
    [
        ("cpu", 2, 1, ("gloo", None)),
        ("auto", 2, 1, ("nccl", 1)),
        ("cuda", 2, 0, ("nccl", 0)),
        ("auto", 0, 1, ("gloo", None)),
        ("cuda", 1, 1, "process 1 of this machine finds 1 GPUs: start at most as many"),
        ("cuda:0", 2, 1, "MODEL.DEVICE is cuda:0, one GPU for 2 processes. Set MODEL.DEVICE cuda"),
    ],
)
def test_each_process_of_torchrun_takes_its_own_gpu(monkeypatch, device, gpus, rank, expected):
    """By MODEL.DEVICE, not by what the machine has: on CPUs gloo, also where there are GPUs."""
    for name, value in {"RANK": "0", "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    chosen = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: chosen.update(gpu=number))
    monkeypatch.setattr(
        torch.distributed,
        "init_process_group",
        lambda backend, timeout: chosen.update(backend=backend, timeout=timeout),
    )
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)

    def start():
        return processes.run_in_processes(lambda args: 0, argparse.Namespace(), device)

    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            start()
    else:
        assert start() == 0
        assert (chosen["backend"], chosen.get("gpu")) == expected
        # torch's 10 minutes for NCCL end a training whose first process scores a large set.
        assert chosen["timeout"].total_seconds() == 30 * 60


def test_a_launcher_that_does_not_tell_which_gpu_is_a_page(monkeypatch):
    """SLURM's srun sets RANK where a user maps it, and no LOCAL_RANK."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"LOCAL_RANK is not: .*srun: LOCAL_RANK=\$SLURM_LOCALID"):
        processes.run_in_processes(lambda args: 0, argparse.Namespace(), "cuda")


@pytest.mark.parametrize(
    ("device", "options", "expected"),
    [
        ("cpu", {}, "MODEL.DEVICE is cpu. Set MODEL.DEVICE cuda, or start processes on CPUs"),
        ("cuda:1", {}, "MODEL.DEVICE is cuda:1. Set MODEL.DEVICE cuda"),
        ("cuda", {"num_machines": 2, "dist_url": "auto"}, "--dist-url auto is an address on each"),
        ("auto", {"num_machines": 2}, "--dist-url tcp://127.0.0.1:9 is an address on each"),
    ],
)
def test_num_gpus_starts_on_gpus_alone(monkeypatch, device, options, expected):
    """Detectron2's launch takes NCCL and a GPU for each process, whatever MODEL.DEVICE is."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(processes, "launch", lambda *_, **__: pytest.fail("started"))
    given = {"num_gpus": 2, "num_machines": 1, "machine_rank": 0, "dist_url": "tcp://127.0.0.1:9"}
    args = argparse.Namespace(**{**given, **options})
    with pytest.raises(ConfigError, match=expected):
        processes.run_in_processes(lambda args: 0, args, device)


def test_the_mean_of_equal_buffers_is_theirs_to_the_bit(monkeypatch):
    """By hand: three processes with the same frozen statistics, and other live ones; thirds of a
    float32's sum miss by a bit."""
    model = torch.nn.BatchNorm1d(1000)
    generator = torch.Generator().manual_seed(0)
    mean = torch.rand(1000, generator=generator)
    model.running_mean.copy_(mean)
    sums = (mean + mean + mean) / 3
    assert not torch.equal(sums, mean)
    exchanges = []

    def all_reduce(tensor):
        exchanges.append(tensor.dtype)
        tensor.mul_(3)
        tensor[1000:] += 3  # the others' variances are 2.5

    monkeypatch.setattr(parallel.comm, "get_world_size", lambda: 3)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    parallel.average_buffers(model)
    assert exchanges == [torch.double]
    assert torch.equal(model.running_mean, mean)
    assert model.running_var.unique().tolist() == [2.0]


@pytest.mark.parametrize("local", [0, 1])
def test_the_first_of_a_machine_reads_before_the_others(monkeypatch, local: int) -> None:
    """By the order of events: the work, then the exchange, or the other way round."""
    events: list[str] = []
    monkeypatch.setenv("LOCAL_RANK", str(local))
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "all_gather", lambda e: events.append("exchange") or [None, None])
    assert processes.one_first(lambda: events.append("work") or "set") == "set"
    assert events == (["work", "exchange"] if local == 0 else ["exchange", "work"])


@pytest.mark.parametrize("local", [0, 1])
def test_what_the_first_is_refused_all_are(monkeypatch, local: int) -> None:
    """Else the others would wait for it, or read what it refused."""
    met = DataError("no such folder")
    monkeypatch.setenv("LOCAL_RANK", str(local))
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "all_gather", lambda error: [met, None])

    def refuse() -> None:
        assert local == 0, "the other reads nothing"
        raise met

    with pytest.raises(DataError, match="no such folder"):
        processes.one_first(refuse)
    monkeypatch.setattr(comm, "get_world_size", lambda: 1)
    assert processes.one_first(lambda: 3) == 3


@pytest.mark.parametrize("rank", [0, 1])
def test_what_the_main_process_alone_does_all_know(monkeypatch, rank: int) -> None:
    """Its answer, or its refusal: in each process, after one exchange."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda *group: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    answers: list[tuple[str | None, DataError | None]] = [("the main one's", None), (None, None)]
    monkeypatch.setattr(comm, "all_gather", lambda mine: [answers[0], mine])

    def work() -> str:
        assert rank == 0, "the other does nothing"
        return "the main one's"

    assert processes.main_alone(work) == "the main one's"
    answers[0] = (None, DataError("damaged"))
    with pytest.raises(DataError, match="damaged"):
        processes.main_alone(work)


@pytest.mark.parametrize("rank", [0, 1])
def test_without_a_local_rank_the_first_of_all_reads_first(monkeypatch, rank: int) -> None:
    """srun on CPUs sets RANK and WORLD_SIZE alone: Detectron2 knows no group of this machine."""
    events: list[str] = []
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda *group: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "all_gather", lambda e: events.append("exchange") or [None, None])
    assert processes.one_first(lambda: events.append("work") or "set") == "set"
    assert events == (["work", "exchange"] if rank == 0 else ["exchange", "work"])


def test_errors_survive_the_exchange() -> None:
    """Between processes they go as pickles."""
    again = pickle.loads(pickle.dumps(DataError("a page\nof two lines")))
    assert isinstance(again, DataError) and str(again) == "a page\nof two lines"


def meet(rank: int, port: int, dies: bool, found) -> None:
    """A process of torchrun: connects, adds its number to the others', and ends or is killed."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "TORCHELASTIC_USE_AGENT_STORE": "True",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    parallel.connect("gloo", timedelta(seconds=30))
    number = torch.tensor([rank + 1.0])
    torch.distributed.all_reduce(number)
    found.put(number.item())
    found.close()
    found.join_thread()
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(sys.platform != "linux", reason="forks processes that hold torch")
def test_processes_that_torchrun_restarts_meet_each_other_not_the_dead(monkeypatch) -> None:
    """--max-restarts: the store of torchrun outlives them, with the addresses of the killed."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    context = multiprocessing.get_context("fork")
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    # One that was killed after it had asked, and one that had been answered.
    store.set("resdet/asks/1", "resdet/dead")
    store.set("resdet/dead", "resdet/dead0")
    found = context.Queue()
    for dies in (True, True, False):
        both = [
            context.Process(target=meet, args=(rank, store.port, dies, found), daemon=True)
            for rank in (0, 1)
        ]
        for process in both:
            process.start()
        assert [found.get(timeout=60), found.get(timeout=60)] == [3.0, 3.0]
        for process in both:
            process.join()
            assert process.exitcode == (-signal.SIGKILL if dies else 0)


def test_several_processes_wait_for_a_disk_no_longer_than_their_exchanges(monkeypatch) -> None:
    """F38: the others give up after Detectron2's half hour, five minutes of which are for writing.

    One process has nobody that waits for it.
    """
    processes.refuse_long_disk_wait(7200.0)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    processes.refuse_long_disk_wait(1500.0)
    with pytest.raises(ConfigError, match=r"is 1501 s, and there are 2 .* 30 minutes.* most 1500;"):
        processes.refuse_long_disk_wait(1501.0)
    with pytest.raises(ConfigError, match="ENGINE.DISK_WAIT is 7200 s"):
        training_command.read_config(None, ["ENGINE.DISK_WAIT", "7200.0", "SEED", "1"])


def test_a_process_that_does_not_come_is_named() -> None:
    store = torch.distributed.HashStore()
    with pytest.raises(RuntimeError, match=r"processes \[1, 2\] did not come within 0:00:00"):
        parallel.attempt_of(store, 0, 3, timedelta(0))

"""How many data workers there are, and how they behave."""

import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.config import get_cfg
from resdet.engine import data_workers
from resdet.engine.evaluation import Evaluation
from tests.support.loops import make_loop, make_run, train


def cfg_of(**keys):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cuda"
    cfg.SOLVER.IMS_PER_BATCH = 8
    cfg.ENGINE.WORKERS = "auto"
    for key, value in keys.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


@pytest.fixture
def cores(monkeypatch):
    def have(number):
        monkeypatch.setattr(data_workers, "usable_cores", lambda: number)

    return have


def test_off_is_detectron2s_key():
    cfg = cfg_of(ENGINE__WORKERS="off", DATALOADER__NUM_WORKERS=7)
    assert data_workers.num_workers(cfg, images=1, in_memory=True) == 7


@pytest.mark.parametrize(
    ("number", "images", "in_memory", "expected"),
    [
        pytest.param(1, 1000, False, 0, id="one core"),
        pytest.param(2, 1000, False, 1, id="one for the net"),
        pytest.param(8, 1000, False, 7, id="the rest"),
        pytest.param(64, 1000, False, 16, id="at most 16"),
        pytest.param(8, 20, False, 3, id="three batches"),
        pytest.param(8, 1000, True, 0, id="in memory"),
    ],
)
def test_auto_takes_the_cores_that_a_gpu_leaves(cores, number, images, in_memory, expected):
    cores(number)
    assert data_workers.num_workers(cfg_of(), images=images, in_memory=in_memory) == expected


def test_auto_on_a_cpu_takes_what_torchs_threads_leave(cores, monkeypatch):
    """A net that uses every core keeps them; of two processes each has half."""
    cores(8)
    cfg = cfg_of(MODEL__DEVICE="cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert data_workers.num_workers(cfg, images=1000) == 0
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert data_workers.num_workers(cfg, images=1000) == 5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert data_workers.num_workers(cfg, images=1000) == 1


def test_the_quota_of_a_container_counts(tmp_path, monkeypatch):
    """cgroup 2: 150 ms of every 100 ms are one and a half cores; "max" is no limit."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    for text, expected in (("150000 100000\n", 1), ("max 100000\n", 8), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(text, encoding="utf-8")
        monkeypatch.setattr(data_workers, "_QUOTA", tmp_path / "cpu.max")
        assert data_workers.usable_cores() == expected
    monkeypatch.setattr(data_workers, "_QUOTA", tmp_path / "none")
    assert data_workers.usable_cores() == 8


class _Threads(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.get_num_threads()


def test_a_worker_has_one_thread_and_reads_ahead():
    """16 images per worker, however small the batches."""
    loader = data_workers.Loader(_Threads(), 1, 2, batch_size=2)
    assert loader.prefetch_factor == 8
    assert data_workers.Loader(_Threads(), 4, 256).prefetch_factor == 2
    assert next(iter(loader)).tolist() == [1, 1]


def test_signals_reach_the_caller_again_once_workers_run():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for batch in data_workers.Loader(_Threads(), 1, 1):
        assert batch.tolist() == [1]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_opencv_gets_one_thread_where_it_is_loaded(monkeypatch):
    asked = []
    monkeypatch.setitem(
        data_workers.sys.modules, "cv2", SimpleNamespace(setNumThreads=asked.append)
    )
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(data_workers, "_CAN_WAIT", False)
    data_workers.start_worker(0)
    assert asked == [1, 1]


class _Stuck(torch.utils.data.Dataset):
    """Gives the first image at once and never the second."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index:
            time.sleep(3600)
        return torch.zeros(1)


def test_a_silent_worker_is_an_error_after_a_while(monkeypatch):
    """F66: ENGINE.WORKER_TIMEOUT; torch itself waits for ever."""
    monkeypatch.setattr(data_workers.Loader, "silent_seconds", 120.0)
    batches = iter(data_workers.Loader(_Stuck(), 1, 1, batch_size=1))
    assert next(batches).tolist() == [[0.0]]
    assert batches._timeout == 120.0
    batches._timeout = 1.0  # not 120 s of a test
    with pytest.raises(RuntimeError, match="DataLoader timed out after 1"):
        next(batches)
    (worker,) = batches._workers
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(60)
    assert not worker.is_alive()


class _NotHandedOver(torch.utils.data.Dataset):
    """Gives what cannot be handed over, or fails in a thread that hands over."""

    def __init__(self, fails: str):
        self.fails = fails

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if self.fails == "thread":
            data_workers.sys.excepthook(OSError, OSError("Too many open files"), None)
        return lambda: index  # no function can be pickled


@pytest.mark.parametrize("fails", ["batch", "thread"])
def test_a_worker_that_cannot_hand_over_ends_and_is_noticed(fails):
    """As without shared memory or file handles; torch's own would be waited for without end."""
    batches = iter(data_workers.Loader(_NotHandedOver(fails), 1, 1, collate_fn=lambda items: items))
    with pytest.raises(RuntimeError, match="DataLoader worker .* exited unexpectedly"):
        next(batches)


class Numbers(torch.utils.data.Dataset):
    """Sample n is a batch's input drawn from n."""

    def __len__(self):
        return 1000

    def __getitem__(self, number):
        return torch.randn(4, generator=torch.Generator().manual_seed(number))


def test_workers_are_gone_while_a_net_is_scored_and_the_order_stays(tmp_path):
    """To the bit: with and without an evaluation after steps 3 and 6, which end the workers."""
    finals, workers = [], []
    for period in (0, 3):
        loop = make_loop()

        def batches(start):
            order = (range(6 * n, 6 * n + 6) for n in range(start, 100))
            return iter(data_workers.Loader(Numbers(), 2, 6, batch_sampler=order))

        def evaluate():
            workers.append(len(multiprocessing.active_children()))
            return {"set/AP": 1.0}

        loop.batches = batches
        run = make_run(tmp_path / str(period))
        train(loop, run, 0, 7, Evaluation(run, period, evaluate))
        workers.append(len(multiprocessing.active_children()))
        finals.append(loop.state_dict()["model"])
    assert workers == [0, 0, 0, 0]
    assert all(torch.equal(finals[0][k], finals[1][k]) for k in finals[0])

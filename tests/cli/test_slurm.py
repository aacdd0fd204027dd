"""The SLURM script of docs/cluster.md, run as it stands there, with a stand-in for SLURM.

`srun` starts one task per machine, each in a session of its own on this machine, passes SIGUSR1 on
to every process of it, as SLURM does, and ends with the largest exit code; `scontrol` names the
machines and notes what is queued again.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.run.folder import Run
from tests.engine.test_stops import wait_for
from tests.support import children, tiny, trainings

# No path of an interpreter: it may have blanks, which no kernel takes there.
SRUN = """#!/usr/bin/env python
import os, signal, subprocess, sys
tasks = [
    subprocess.Popen(sys.argv[1:], start_new_session=True)
    for _ in range(int(os.environ["SLURM_NNODES"]))
]
def pass_on(number, frame):
    for task in tasks:
        for pid in family(task.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
def family(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(word) for word in file.read().split()]
    return [pid, *(p for child in children for p in family(child))]
signal.signal(signal.SIGUSR1, pass_on)
sys.exit(max(abs(task.wait()) for task in tasks))
"""
SCONTROL = """#!/usr/bin/env bash
case "$1" in
    show) echo 127.0.0.1 ;;
    requeue) echo "$2" >> queue.txt ;;
    *) exit 1 ;;
esac
"""
CONFIG = {
    "SOLVER.MAX_ITER": 60,
    "SOLVER.CHECKPOINT_PERIOD": 1000,
    "DATALOADER.NUM_WORKERS": 1,
    "MODEL.NET.STEM": "imagenet",
    "PRETRAIN.CROP": 64,
    "PRETRAIN.TEST_SIDE": 64,
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A folder with the script, the small training and, in bin/, SLURM."""
    page = (children.ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    [script] = re.findall(r"```bash\n(#!/usr/bin/env bash\n#SBATCH.*?)```", page, re.DOTALL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changes = {
        "processes=8 ": "processes=1 ",
        "train_det --config coco_r101": "pretrain_cls --config c.yaml",
        "$SLURM_SUBMIT_DIR/coco_r101": "$SLURM_SUBMIT_DIR/r",
        ":29500": f":{port}",
    }
    for old, new in changes.items():
        assert script.count(old) == 1
        script = script.replace(old, new)
    (tmp_path / "train.sbatch").write_text(script, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / "bin" / name).write_text(text, encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    tiny.class_folders(tmp_path / "data")
    (tmp_path / "c.yaml").write_text(trainings.classifier(CONFIG), encoding="utf-8")
    return tmp_path


def start(job: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PATH": f"{job / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(children.ROOT),
        "RESDET_CACHE": str(job / "cache"),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "two",
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_SUBMIT_DIR": str(job),
    }
    with open(job / "output.txt", "ab") as output:
        return subprocess.Popen(
            ["bash", "train.sbatch"], cwd=job, env=environment, stdout=output, stderr=output
        )


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the stand-in needs Linux's /proc")
def test_a_job_that_runs_out_of_time_is_queued_again_and_goes_on(job: Path) -> None:
    """Two machines: after the notice the state is saved and the job queued; the second start of the
    same script ends the training, and queues nothing."""
    first = start(job)
    try:
        wait_for(lambda: "training from step" in _output(job), first)
        first.send_signal(signal.SIGUSR1)
        code = first.wait(timeout=120)
    finally:
        first.kill()
    assert code == 0, _output(job)[-3000:]
    assert (job / "queue.txt").read_text(encoding="utf-8") == "7\n"
    assert "stopped by SIGUSR1 after step" in _output(job)
    run = Run.open(job / "r")
    [kept] = run.checkpoints.glob("*.pth")
    assert run.state == "interrupted" and 0 < int(kept.stem.rpartition("_")[2]) < 60

    second = start(job)
    try:
        assert second.wait(timeout=180) == 0, _output(job)[-3000:]
    finally:
        second.kill()
    assert Run.open(job / "r").state == "finished"
    assert f"resumed from {kept}" in _output(job)
    assert (job / "queue.txt").read_text(encoding="utf-8") == "7\n"


def _output(job: Path) -> str:
    return (job / "output.txt").read_text(encoding="utf-8", errors="replace")

"""Disks, memory, handles, numbers, data and checkpoints that go wrong under a training.

Each function makes one run with one random generator and gives what is wrong with it, or "".

Not for: processes that are ended (`ends`).
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from benchmarks.kills.ends import NOT_KILLED, TWO, Row, finish, last_words
from benchmarks.kills.jobs import (
    BUG,
    STEPS,
    Reference,
    Trainer,
    first_difference,
    make_place,
    train,
)
from benchmarks.kills.starts import ROOT, Attempt, send
from resdet.engine import checkpoint
from resdet.engine.loop import Loop
from resdet.errors import RunError

WORKERS = ("DATALOADER.NUM_WORKERS", "2")
DAMAGES_A_RUN = 25
NEW_MOUNTS = 0x00020000  # CLONE_NEWNS


def _page(attempt: Attempt, codes: tuple[int, ...]) -> str:
    """What is wrong with how it ended: another code, a traceback of ours, a lock that stays."""
    code, text = attempt.end(), attempt.text()
    if code not in codes or BUG in text or _our_tracebacks(text):
        return f"ended with {code}: {last_words(attempt)}"
    lock = attempt.folder / "lock.json"
    own = f'"pid": {attempt.process.pid},'
    return "left lock.json" if lock.exists() and own in lock.read_text(encoding="utf-8") else ""


def _our_tracebacks(text: str) -> list[str]:
    """Those through a file of resdet; threads of Python's that lost a worker print theirs alone."""
    every = re.findall(r"Traceback \(most recent call last\):\n(?:[ \t].*\n)+", text)
    return [trace for trace in every if f'File "{ROOT / "resdet"}{os.sep}' in trace]


# -- the machine -----------------------------------------------------------------------------------


def full_disk(place: Path, trainer: Trainer, reference: Reference, chance: random.Random) -> str:
    """A disk of its own (tmpfs) that something else fills: before the start, or at any moment.

    What stays free decides what cannot be written: nothing, or some files and not the larger ones.
    """
    make_place(place, trainer)
    disk = place / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", disk], check=True)
    try:
        free = chance.choice([0, 0, 4096, 50_000, 400_000, 900_000, 2_000_000])
        if chance.random() < 0.15:
            _fill(disk, free)
            attempt = train(place, trainer, output="disk/r")
        else:
            attempt = train(place, trainer, output="disk/r")
            attempt.wait_for(attempt.is_started)
            time.sleep(chance.uniform(0, reference.whole))
            if attempt.process.poll() is not None:
                return NOT_KILLED
            _fill(disk, free)
        if wrong := _page(attempt, (0, 2, 3)):
            return wrong
        (disk / "ballast").unlink()
        return finish(place, trainer, reference, [], output="disk/r")
    finally:
        subprocess.run(["umount", disk], check=False)


def _fill(disk: Path, free: int) -> None:
    with open(disk / "ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            file.truncate(max(0, file.tell() - free))


def small_shared_memory(
    place: Path, trainer: Trainer, reference: Reference, chance: random.Random
) -> str:
    """/dev/shm of a container, with two loader workers: refused, or it goes through."""
    make_place(place, trainer)
    size = chance.choice(["8k", "32k", "128k", "512k", "1m", "8m"])

    def first() -> None:
        if ctypes.CDLL(None).unshare(NEW_MOUNTS):
            raise OSError("no rights for mounts of one's own")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        options = f"size={size}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", "/dev/shm"], check=True)

    attempt = train(place, trainer, options=WORKERS, first=first)
    return _page(attempt, (0, 2, 3)) or finish(place, trainer, reference, [])


def worker_killed(
    place: Path, trainer: Trainer, reference: Reference, chance: random.Random
) -> str:
    """kill -9 of one of two loader workers."""
    make_place(place, trainer)
    attempt = train(place, trainer, options=WORKERS)
    attempt.wait_for(lambda: len(attempt.loader_workers()) >= 2, pause=0.02)
    time.sleep(chance.uniform(0, reference.training))
    workers = attempt.loader_workers()
    if not workers:
        return NOT_KILLED
    send(chance.choice(workers), signal.SIGKILL)
    return _page(attempt, (0, 3)) or finish(place, trainer, reference, [])


def few_handles(place: Path, trainer: Trainer, reference: Reference, chance: random.Random) -> str:
    """From some moment on the process may open no, or hardly any, more files."""
    make_place(place, trainer)
    attempt = train(place, trainer, options=WORKERS)
    attempt.wait_for(attempt.is_started)
    time.sleep(chance.uniform(0, reference.training))
    pid = attempt.process.pid
    if attempt.process.poll() is not None:
        return NOT_KILLED
    most = len(os.listdir(f"/proc/{pid}/fd")) + chance.choice([0, 0, 1, 2, 4])
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    return _page(attempt, (0, 3)) or finish(place, trainer, reference, [])


# -- numbers and data ------------------------------------------------------------------------------


def not_finite_on_one(
    place: Path, trainer: Trainer, reference: Reference, chance: random.Random
) -> str:
    """A loss becomes NaN in one of two processes: both stop, the step is not taken."""
    make_place(place, trainer)
    step, rank = chance.randrange(STEPS), chance.choice("01")

    def first() -> None:
        if os.environ["RANK"] != rank:
            return
        run_step = Loop.run_step

        def spoiled(loop: Loop) -> None:
            losses = loop.losses
            if loop.iter == step:
                loop.losses = lambda batch: {k: v * float("nan") for k, v in losses(batch).items()}
            run_step(loop)

        Loop.run_step = spoiled  # type: ignore[assignment, method-assign]

    attempt = train(place, trainer, launch=TWO, first=first)
    attempt.end()
    page = attempt.text()
    if f"became nan at step {step} " not in page or BUG in page:
        return f"no page for step {step} of process {rank}: {last_words(attempt)}"
    if not (place / "r" / f"checkpoints/step_{step:07d}.pth").exists():
        return f"no checkpoint of step {step}"
    return finish(place, trainer, reference, TWO)


def data_changed(place: Path, trainer: Trainer, reference: Reference, chance: random.Random) -> str:
    """Labels permuted, images gone, pixels replaced, class names changed; then put back."""
    make_place(place, trainer)
    attempt = train(place, trainer)
    attempt.wait_for(lambda: any((place / "r" / "checkpoints").glob("*.pth")))
    if attempt.process.poll() is not None:
        return NOT_KILLED
    attempt.kill_all()
    data = place / ("data" if trainer.command == "pretrain_cls" else "voc")
    shutil.copytree(data, place / "copy")
    change = chance.choice([_labels_permuted, _images_gone, _pixels_replaced, _class_renamed])
    change(data, chance)
    kept = _contents(place / "r")
    attempt = train(place, trainer)
    wrong = _page(attempt, (2,))
    if not wrong and _contents(place / "r") != kept:
        wrong = "checkpoints or run.json were changed"
    if wrong:
        return f"{change.__name__}: {wrong}"
    shutil.rmtree(data)
    (place / "copy").rename(data)
    return finish(place, trainer, reference, [])


def _contents(run: Path) -> dict[str, bytes]:
    files = [p for p in (run / "checkpoints").iterdir() if not p.name.endswith(".tmp")]
    return {p.name: p.read_bytes() for p in files}


def _labels_permuted(data: Path, chance: random.Random) -> None:
    if (data / "train").exists():
        one, other = chance.sample(sorted((data / "train").iterdir()), 2)
        one.rename(data / "x"), other.rename(one), (data / "x").rename(other)
        return
    for path in (data / "Annotations").iterdir():
        swap = {"ape": "bee", "bee": "ape"}
        text = path.read_text(encoding="utf-8")
        name = text.partition("<name>")[2].partition("<")[0]
        path.write_text(text.replace(f">{name}<", f">{swap[name]}<"), encoding="utf-8")


def _images_gone(data: Path, chance: random.Random) -> None:
    if (data / "train").exists():
        images = sorted((data / "train").rglob("*.png"))
        for path in chance.sample(images, len(images) // 2):
            path.unlink()
        return
    names = data / "ImageSets" / "Main" / "train.txt"
    lines = names.read_text(encoding="utf-8").splitlines()
    names.write_text("\n".join(lines[: len(lines) // 2]) + "\n", encoding="utf-8")


def _pixels_replaced(data: Path, chance: random.Random) -> None:
    folder = data / ("train" if (data / "train").exists() else "JPEGImages")
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with Image.open(path) as image:
            size = image.size
        Image.new("RGB", size, (chance.randrange(256), 9, 9)).save(path)


def _class_renamed(data: Path, chance: random.Random) -> None:
    for split in ("train", "val"):
        if (data / split).exists():
            (data / split / "blue").rename(data / split / "cyan")
    for path in data.glob("Annotations/*.xml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(">ape<", ">cat<"), encoding="utf-8")


# -- checkpoints -----------------------------------------------------------------------------------


def checkpoint_damaged(
    place: Path, trainer: Trainer, reference: Reference, chance: random.Random
) -> str:
    """Bits flipped, parts cut, replaced, swapped: the state of one of the two, never another."""
    made = sorted((reference.folder / "checkpoints").glob("*.pth"))
    older, newer = (torch.load(path, map_location="cpu", weights_only=True) for path in made)
    raw = made[1].read_bytes()
    for number in range(DAMAGES_A_RUN):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        shutil.copy(made[0], place)
        damage = chance.choice(DAMAGES)
        (place / made[1].name).write_bytes(damage(raw, chance))
        try:
            newest = checkpoint.newest(place)
            assert newest is not None, "none is left"
            state = checkpoint.load(newest)
        except (RunError, Exception) as error:
            return f"{damage.__name__} {number}: {type(error).__name__} {error}"
        whole = older if newest.name == made[0].name else newer
        if (text := first_difference(state, whole)) is not None:
            return f"{damage.__name__} {number}: another state, {text}"
    return ""


def _flipped(raw: bytes, chance: random.Random) -> bytes:
    data = bytearray(raw)
    for _ in range(chance.choice([1, 1, 2, 20])):
        data[_place(raw, chance)] ^= 1 << chance.randrange(8)
    return bytes(data)


def _cut(raw: bytes, chance: random.Random) -> bytes:
    return raw[: _place(raw, chance)]


def _zeroed(raw: bytes, chance: random.Random) -> bytes:
    start, length = _place(raw, chance), chance.choice([1, 512, 4096])
    return raw[:start] + bytes(min(length, len(raw) - start)) + raw[start + length :]


def _swapped(raw: bytes, chance: random.Random) -> bytes:
    data, size = bytearray(raw), 512
    one, other = (chance.randrange(len(raw) // size) * size for _ in range(2))
    data[one : one + size], data[other : other + size] = (
        raw[other : other + size], raw[one : one + size]
    )  # fmt: skip
    return bytes(data)


def _replaced(raw: bytes, chance: random.Random) -> bytes:
    return chance.choice([b"", b"{}", b"PK\x03\x04", chance.randbytes(len(raw)), raw[::-1]])


def _without_a_part(raw: bytes, chance: random.Random) -> bytes:
    start = _place(raw, chance)
    return raw[:start] + raw[start + chance.choice([1, 64, 4096]) :]


def _place(raw: bytes, chance: random.Random) -> int:
    """Anywhere, but often in the headers and the directory, where little decides much."""
    edge = chance.choice([2_000, 60_000, len(raw)])
    return chance.choice([chance.randrange(edge), len(raw) - 1 - chance.randrange(edge)])


DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [
    _flipped, _flipped, _cut, _zeroed, _swapped, _replaced, _without_a_part,
]  # fmt: skip


ROWS: dict[str, tuple[Row, bool, float]] = {
    "full disk, at any moment": (full_disk, False, 1.0),
    "/dev/shm of 8 KB to 8 MB, 2 loader workers": (small_shared_memory, False, 0.5),
    "loader worker killed": (worker_killed, False, 0.5),
    "no more file handles": (few_handles, False, 0.5),
    "NaN in one of two processes": (not_finite_on_one, True, 0.3),
    "data changed before the resume": (data_changed, False, 0.5),
    f"checkpoint damaged, {DAMAGES_A_RUN} times a run": (checkpoint_damaged, False, 1.0),
}

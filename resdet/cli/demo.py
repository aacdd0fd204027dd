"""`resdet demo`: the whole story on the embedded data, in minutes, and where it stopped it goes on.

Two small nets of one family each (VGG, ResNet) are pretrained on digits, handed over as backbones
of one Faster R-CNN, and trained again from scratch as twins; a report sets the four side by side.
Every step is one of the commands that users type, in a process of its own; steps run side by
side, one thread each, as many as there are cores (on two cores 1.3 to 1.5 times as much gets
done as with two threads in turn).

Not for: anything that the commands could not do one by one.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from resdet.cli.output_paths import output_folder
from resdet.config import presets
from resdet.errors import CheckFailed, ConfigError, Interrupted, ResdetError
from resdet.run import layout
from resdet.run.folder import Run, read_json, write_json

logger = logging.getLogger("resdet.cli.demo")

CONFIGS = presets.root() / "demo"
BASE = CONFIGS.parent / "base"
TITLES = {"vgg": "VGG", "resnet": "ResNet"}
# Below this the hand-over shows little: the detector's AP follows the classifier (docs/demo.md).
EXPECTED_TOP1_ERROR = 30.0
# The metric whose gap between the nets stays over seeds and processors (RESULTS.md).
RANKED_BY = ("--by", "coco")
POLL_SECONDS = 0.5
LINE_SECONDS = 15.0


@dataclass
class Step:
    """One command with its run folder; starts when the steps it needs are done.

    Attributes:
        weight: share of the whole time, for the ETA: seconds of one core with bf16 instructions.
    """

    name: str
    title: str
    command: list[str]
    folder: Path
    weight: float
    needs: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    log: IO[bytes] | None = None
    began: float = 0.0
    seconds: float = field(default=0.0)

    def is_done(self) -> bool:
        return (self.folder / layout.RUN).exists() and Run.open(self.folder).state == "finished"

    def progress(self) -> float:
        """Share of the training steps done, from metrics.json; 1 when finished."""
        if self.is_done():
            return 1.0
        if not (self.folder / layout.RUN).exists():
            return 0.0
        run = Run.open(self.folder)
        rows = run.metrics()
        total = int(run.info.get("max_iter", 0)) or 1
        return min(0.95, (rows[-1]["iteration"] + 1) / total) if rows else 0.0


def steps(root: Path, seeds: int = 1) -> list[Step]:
    """Two pretrainings and four detectors for each seed; the longest first among those that wait.

    The first seed is that of the presets; a further one trains everything again with SEED 2, 3, …,
    classifiers included, in folders of its own (`vgg_pretrained_seed2`).
    """
    plan = [step for seed in range(1, seeds + 1) for step in _steps_of(root, seed)]
    order = ("pretrain_resnet", "pretrain_vgg", "resnet_pretrained", "resnet_scratch")
    return sorted(plan, key=lambda s: order.index(s.name) if s.name in order else len(order))


def _steps_of(root: Path, seed: int) -> list[Step]:
    ending = "" if seed == 1 else f"_seed{seed}"
    title = "" if seed == 1 else f", seed {seed}"
    keys = [] if seed == 1 else ["SEED", str(seed)]
    plan = []
    for net, pretrain_weight, detect_weight in (("resnet", 158.0, 110.0), ("vgg", 112.0, 62.0)):
        classifier = root / f"pretrain_{net}{ending}"
        plan.append(
            Step(
                classifier.name,
                f"{TITLES[net]} as a classifier{title}",
                ["pretrain_cls", "--config", str(CONFIGS / f"pretrain_{net}.yaml"), *keys],
                classifier,
                pretrain_weight,
            )
        )
        detector = ["train_det", "--config", str(CONFIGS / f"{net}.yaml"), *keys]
        weights = ["MODEL.WEIGHTS", str(classifier / layout.CLASSIFIER)]
        plan.append(
            Step(
                f"{net}_pretrained{ending}",
                f"detector on {TITLES[net]}, pretrained{title}",
                [*detector, *weights],
                root / f"{net}_pretrained{ending}",
                detect_weight,
                needs=(classifier.name,),
            )
        )
        plan.append(
            Step(
                f"{net}_scratch{ending}",
                f"detector on {TITLES[net]}, from scratch{title}",
                detector,
                root / f"{net}_scratch{ending}",
                detect_weight,
            )
        )
    return plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        default="runs/demo",
        type=output_folder,
        help="folder of all runs (default: runs/demo)",
    )
    parser.add_argument(
        "--jobs", type=int, default=0, help="steps side by side (default: one per core, at most 4)"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="train everything N times, each time with another seed, so that the report knows the "
        "noise of seeds; may be raised later (default: 1)",
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help=argparse.SUPPRESS
    )


def run(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    root = Path(args.output)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if args.seeds < 1:
        raise ConfigError(f"--seeds is {args.seeds}, expected 1 or more.")
    jobs = args.jobs or min(cores, 4)
    began = time.monotonic()
    _refuse_other_settings(root, args.opts)
    _make_data()
    plan = steps(root, args.seeds)
    threads = max(1, cores // jobs)
    for step in plan:
        # Keys after the command are for tests and the curious; the same for all detectors.
        step.command += [*args.opts] if step.command[0] == "train_det" else []
    _run_all(plan, jobs, threads)
    _check_classifiers(plan)
    report = root / "report"
    detectors = [s.folder for s in plan if s.command[0] == "train_det"]
    order = ["vgg_scratch", "vgg_pretrained", "resnet_scratch", "resnet_pretrained"]
    detectors.sort(key=lambda p: order.index(p.name.split("_seed")[0]))
    code = subprocess.call(
        [
            sys.executable,
            "-m",
            "resdet",
            "compare",
            *map(str, detectors),
            *RANKED_BY,
            "--output",
            str(report),
        ]
    )
    if code:
        raise CheckFailed(f"the comparison ended with exit code {code}; see the lines above.")
    logger.info("the demo took %s", _minutes(time.monotonic() - began))
    return 0


def _refuse_other_settings(root: Path, opts: list[str]) -> None:
    """What lies in `root` must come from these configs and keys: one story, one setting.

    Raises:
        ConfigError: it does not.
    """
    texts = [p.read_bytes() for p in sorted((*CONFIGS.glob("*.yaml"), *BASE.glob("*.yaml")))]
    settings = {"configs": hashlib.sha256(b"\0".join(texts)).hexdigest(), "keys": opts}
    path = root / "settings.json"
    if path.exists() and read_json(path) != settings:
        raise ConfigError(
            f"{root} holds a demo with other settings (configs/demo, or keys after the command). "
            f"Move it away, or name another folder: --output {root}2."
        )
    write_json(path, settings)


def _make_data() -> None:
    from resdet.data import digits

    began = time.monotonic()
    root = digits.make()
    if time.monotonic() - began > 1:
        logger.info("data: %s, made in %s", root, _minutes(time.monotonic() - began))


def _run_all(plan: list[Step], jobs: int, threads: int) -> None:
    """Runs what is not done yet; a failed step stops the others, with their state saved.

    Raises:
        ResdetError: a step failed; shows the end of its log. Interrupted: the user stopped.
    """
    rest = [s for s in plan if not s.is_done()]
    for step in plan:
        if step not in rest:
            logger.info("done before: %s", step.title)
    running: list[Step] = []
    last_line = began = time.monotonic()
    share_at_start = _share(plan)
    try:
        while rest or running:
            done = {s.name for s in plan if s not in rest and s not in running}
            for step in [s for s in rest if set(s.needs) <= done][: jobs - len(running)]:
                rest.remove(step)
                running.append(step)
                _start(step, threads)
            time.sleep(POLL_SECONDS)
            for step in [s for s in running if s.process and s.process.poll() is not None]:
                running.remove(step)
                _finish(step)
            if time.monotonic() - last_line >= LINE_SECONDS:
                last_line = time.monotonic()
                _log_progress(plan, running, last_line - began, share_at_start)
    except BaseException as error:
        _stop(running)
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("stopped; the same command goes on from here") from None
        raise


def _start(step: Step, threads: int) -> None:
    resume = ["--resume"] if _can_resume(step.folder) else []
    name, config_flag, config, *opts = step.command
    command = [sys.executable, "-m", "resdet", name, config_flag, config]
    command += ["--output", str(step.folder), *resume, *opts]
    step.folder.mkdir(parents=True, exist_ok=True)
    step.log = open(step.folder / "output.txt", "ab")  # noqa: SIM115 lives as long as the process
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    step.began = time.monotonic()
    # A session of its own: Ctrl-C reaches the demo, which passes it on once.
    step.process = subprocess.Popen(
        command, stdout=step.log, stderr=step.log, env=environment, start_new_session=True
    )
    logger.info("%s: %s", "going on" if resume else "started", step.title)


def _can_resume(folder: Path) -> bool:
    return (folder / layout.RUN).exists() and any(
        (folder / layout.CHECKPOINTS).glob(layout.CHECKPOINT_FILES)
    )


def _finish(step: Step) -> None:
    assert step.process is not None and step.log is not None
    step.log.close()
    step.seconds = time.monotonic() - step.began
    if step.process.returncode:
        text = (step.folder / "output.txt").read_text(encoding="utf-8", errors="replace")
        tail = "\n".join(text.strip().splitlines()[-15:])
        error = ResdetError(
            f"{step.title} ended with exit code {step.process.returncode}:\n{tail}\n"
            f"The whole log: {step.folder / 'output.txt'}. The same command goes on from here."
        )
        error.exit_code = step.process.returncode if step.process.returncode > 0 else 1
        raise error
    logger.info("done: %s, %s. %s", step.title, _minutes(step.seconds), _result(step))


def _result(step: Step) -> str:
    run = Run.open(step.folder)
    if step.command[0] == "pretrain_cls":
        return "".join(
            f"Top-1 error {s['top1_error']:.1f} % on {s['images']['evaluated']} {name} images"
            for name, s in run.read(layout.CLASSIFICATION, {}).items()
            if name.endswith("test")
        )
    for name in run.result_sets():
        scores = read_json(run.results(name) / layout.SCORES["voc"])
        return (
            f"AP50 {100 * scores[scores['primary'].removeprefix('VOC ')]['mean_ap']:.1f} on {name}"
        )
    return ""


def _share(plan: list[Step]) -> float:
    return sum(s.weight * s.progress() for s in plan) / sum(s.weight for s in plan)


def _log_progress(
    plan: list[Step], running: list[Step], elapsed: float, share_at_start: float
) -> None:
    share = _share(plan)
    gained = share - share_at_start
    eta = f", about {_minutes(elapsed / gained * (1 - share))} to go" if gained > 0.02 else ""
    now = ", ".join(f"{s.name} {100 * s.progress():.0f} %" for s in running)
    logger.info("%3.0f %%%s (%s)", 100 * share, eta, now)


def _stop(running: list[Step]) -> None:
    """Asks every step to save its state and waits for it."""
    for step in running:
        if step.process and step.process.poll() is None:
            step.process.send_signal(signal.SIGTERM)
    for step in running:
        if step.process:
            try:
                step.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                step.process.kill()


def _check_classifiers(plan: list[Step]) -> None:
    for step in plan:
        if step.command[0] != "pretrain_cls":
            continue
        for name, scores in Run.open(step.folder).read(layout.CLASSIFICATION, {}).items():
            if scores["top1_error"] > EXPECTED_TOP1_ERROR:
                logger.warning(
                    "%s has a top-1 error of %.1f %% on %s, above %.0f %%: it left its first "
                    "plateau late, and its detector will be weak. Another SEED usually fixes it.",
                    step.title,
                    scores["top1_error"],
                    name,
                    EXPECTED_TOP1_ERROR,
                )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"

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
import subprocess
import sys
import time
from pathlib import Path

from resdet.cli.output_paths import output_folder
from resdet.cli.steps import Step, in_words, run_all, usable_cores
from resdet.config import presets
from resdet.errors import CheckFailed, ConfigError
from resdet.run import layout
from resdet.run.folder import Run, read_json, utc_now, write_json
from resdet.run.lock import held

logger = logging.getLogger("resdet.cli.demo")

CONFIGS = presets.root() / "demo"
BASE = CONFIGS.parent / "base"
TITLES = {"vgg": "VGG", "resnet": "ResNet"}
# Below this the hand-over shows little: the detector's AP follows the classifier (docs/demo.md).
EXPECTED_TOP1_ERROR = 30.0
# The metric whose gap between the nets stays over seeds and processors (RESULTS.md).
RANKED_BY = ("--by", "coco")


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
    if args.seeds < 1:
        raise ConfigError(f"--seeds is {args.seeds}, expected 1 or more.")
    root.mkdir(parents=True, exist_ok=True)
    with held(root / layout.LOCK, utc_now()):
        return _tell(root, args)


def _tell(root: Path, args: argparse.Namespace) -> int:
    cores = usable_cores()
    jobs = args.jobs or min(cores, 4)
    began = time.monotonic()
    _refuse_other_settings(root, args.opts)
    _make_data()
    plan = steps(root, args.seeds)
    threads = max(1, cores // jobs)
    for step in plan:
        # Keys after the command are for tests and the curious; the same for all detectors.
        step.command += [*args.opts] if step.command[0] == "train_det" else []
    run_all(plan, jobs, threads, _result)
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
    logger.info("the demo took %s", in_words(time.monotonic() - began))
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
        logger.info("data: %s, made in %s", root, in_words(time.monotonic() - began))


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

"""`resdet evaluate cls`: classifiers under a test protocol, alone, together and against each other.

Not for: scoring images (`class_members`), or counting errors (`resdet.evaluation.classification`).
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resdet.cli.arguments import processes
from resdet.cli.output_paths import output_folder
from resdet.errors import ConfigError
from resdet.evaluation.classification.classifier_errors import ClassifierErrors
from resdet.evaluation.classification.classifier_result import (
    ClassifierResult,
    evaluated,
    rates,
)
from resdet.evaluation.classification.score_files import SUFFIX, save_scores, title_in
from resdet.printable import show, show_json
from resdet.run import layout
from resdet.text_table import ruled

PROTOCOLS = ("centre", "10-crop", "dense")
AVERAGES = ("probabilities", "logits")
RESIZES = ("bilinear", "bicubic")
BATCH_SIZE = 32
# The table of a set with more classes shows the worst.
SHOWN_CLASSES = 20


def add_arguments(metrics: Any) -> None:
    """`cls` among the metrics; docs/commands.md promises it."""
    parser = metrics.add_parser(
        "cls", help="classifiers under a test protocol, ensembles, paired tests", allow_abbrev=False
    )
    add = parser.add_argument
    add("members", nargs="+", type=Path, metavar="FILE|RUN|SCORES.npz",
        help="any classifier's weight file, a run folder of pretrain_cls, or scores made before; "
        "several are set against each other and averaged")  # fmt: skip
    add("--data", metavar="SET", help="name of a set, a folder of class folders, "
        "wds:PATTERN, hf:NAME:SPLIT, or images:FOLDER of images without classes; not needed where "
        "all are SCORES.npz")  # fmt: skip
    add("--protocol", choices=PROTOCOLS, default="centre",
        help="centre crop; ten crops; the net over whole images (centre)")  # fmt: skip
    add("--sizes", type=int, nargs="+", metavar="PIXELS",
        help="dense: shorter sides (224 256 384 480 640, in proportion for nets of another size "
        "than 224)")  # fmt: skip
    add("--side", type=int, metavar="PIXELS",
        help="centre, 10-crop: shorter side that is cropped (the card's; 256 for 224)")  # fmt: skip
    add("--pad", type=int, metavar="PIXELS",
        help="10-crop: black pixels around the image (0; where the side is the crop, as on CIFAR, "
        "an eighth of it)")  # fmt: skip
    add("--average", choices=AVERAGES,
        help="10-crop: over the crops (probabilities); dense: over positions (logits)")  # fmt: skip
    add("--resize", choices=RESIZES, help="filter (that of timm's record, else bilinear)")
    add("--no-flip", action="store_true", help="dense: without the mirror image")
    add("--classes", type=Path, metavar="FILE",
        help="a line per output, in order, for files that do not name their classes")  # fmt: skip
    add("--part", metavar="PART", help="the net among several in one weight file")
    add("--output", type=output_folder, metavar="DIR",
        help="for scores and pages (RUN/cls; runs/cls_NAME of a weight file)")  # fmt: skip
    add("--again", action="store_true", help="score again what is there already")
    add("--show", type=int, default=60, metavar="N",
        help="wrong images on the page, the surest first (60)")  # fmt: skip
    add("--device", default="auto", help="cpu, cuda, or a GPU where there is one (auto)")
    add("--batch-size", type=int, default=BATCH_SIZE, metavar="N",
        help="images at once; of 10-crop and dense a tenth (32)")  # fmt: skip
    add("--workers", type=int, metavar="N", help="processes that read images (by device and cores)")
    add("--json", action="store_true", help="one JSON object on standard output")
    processes(parser)


def run(args: argparse.Namespace) -> int:
    """Scores what has no scores yet, prints, writes the pages; returns 0."""
    for name, value, least in (
        ("batch-size", args.batch_size, 1), ("show", args.show, 0),
        ("workers", args.workers or 0, 0),
    ):  # fmt: skip
        if value < least:
            raise ConfigError(f"--{name} is {value}. Give {least} or more.")
    if all(is_score_file(path) for path in args.members):
        _refuse_scoring_options(args)
        return report(args, list(args.members), _output(args, args.members[0].parent))
    if not args.data:
        raise ConfigError("--data is missing: the set that the classifiers are scored on.")
    from resdet.engine.processes import run_in_processes  # with torch

    return run_in_processes(main, args, args.device)


def main(args: argparse.Namespace) -> int:
    """What each process does."""
    from detectron2.utils import comm

    from resdet.cli.evaluate import class_members
    from resdet.engine.metric_writers import start_log

    start_log()
    titles = iter(titles_of(args.members))
    given = [(title, path) for title, path in zip(titles, args.members, strict=True)]
    members = [class_members.member_of(t, p) for t, p in given if not is_score_file(p)]
    made = iter(class_members.score_members(members, args))
    if not comm.is_main_process():
        return 0
    paths = [path if is_score_file(path) else next(made) for path in args.members]
    return report(args, paths, _output(args, members[0].folder))


def is_score_file(path: Path) -> bool:
    """Whether it is a file of scores, by the names of the arrays in it."""
    if path.suffix != SUFFIX or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {"header.npy", "log_probabilities.npy"} <= set(archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def titles_of(paths: Sequence[Path]) -> list[str]:
    """A short name for each: of a folder its name, of a file its stem, of scores what gave them.

    Where one repeats, the protocol of the scores is added, or a number.
    """
    titles: list[str] = []
    for path in paths:
        name = path.resolve().name if path.is_dir() else path.stem
        if is_score_file(path):
            title, protocol = title_in(path)
            name = title or name
            if name in titles and protocol:
                name = f"{name}, {protocol}"
        elif path.name == layout.CLASSIFIER:
            name = path.resolve().parent.name
        repeats = sum(t == name or t.startswith(f"{name} (") for t in titles)
        titles.append(f"{name} ({repeats + 1})" if repeats else name)
    return titles


def _refuse_scoring_options(args: argparse.Namespace) -> None:
    """Raises ConfigError for options of scoring where nothing is scored."""
    given = {"--protocol": args.protocol != "centre", "--sizes": args.sizes, "--side": args.side,
             "--pad": args.pad, "--resize": args.resize,
             "--average": args.average, "--no-flip": args.no_flip,
             "--again": args.again, "--classes": args.classes, "--part": args.part,
             "--device": args.device != "auto", "--batch-size": args.batch_size != BATCH_SIZE,
             "--workers": args.workers is not None}  # fmt: skip
    stated = [name for name, value in given.items() if value]
    if stated:
        raise ConfigError(
            f"{', '.join(stated)}: all that was given are files of scores, which have their "
            "protocol. Leave it out, or give the weight files."
        )


def _output(args: argparse.Namespace, own: Path) -> Path:
    if args.output:
        return Path(args.output)
    if len(args.members) == 1:
        return own
    return Path("runs") / f"cls_{titles_of(args.members)[0]}+{len(args.members) - 1}"


# -- what is shown ------------------------------------------------------------------------------


def report(args: argparse.Namespace, paths: Sequence[Path], output: Path) -> int:
    """Errors of each file of scores, of all together, and of each pair; returns 0."""
    result = evaluated(titles_of(args.members), paths)
    if len(paths) > 1:
        result = replace(result, path=_kept(result, output))
    folder = output / result.name
    values = result.to_json()
    if result.last.errors is not None:
        from resdet.cli.evaluate.class_pages import write_pages

        write_pages(folder, result, args)
    if args.json:
        show_json(values)
        return 0
    show("\n".join(tables(result)))
    show(f"scores: {result.path}")
    if result.last.errors is not None:
        show(f"page:   {folder / 'report.html'}")
    else:
        show(
            "The classes of these images are not known, so there is no error. For ImageNet's "
            f"server: resdet submit ilsvrc-cls {result.path}"
        )
    return 0


def _kept(result: ClassifierResult, output: Path) -> Path:
    """Writes the scores of an ensemble, for a larger one or a submission."""
    path = output / "scores" / f"{result.name}{SUFFIX}"
    save_scores(path, result.last.scores)
    return path


def tables(result: ClassifierResult) -> list[str]:
    """Errors in percent with their standard error, pairs, classes, for people."""
    first = result.singles[0].scores
    lines = [f"{first.data_set}: {len(first):,} images, {len(first.classes):,} classes"]
    if result.last.errors is None:
        return lines
    rows = [one.cells() for one in result.rows()]
    lines += ["", *ruled(("classifier", "top-1 error", "top-5 error", "protocol"), rows,
                         left=(0, 3))]  # fmt: skip
    if result.tests:
        head = (
            "top-1 error of A - B",
            "difference",
            "95 % interval",
            "wrong: A, B alone",
            "p",
            "p, Holm",
        )
        lines += ["", *ruled(head, [test.cells() for test in result.tests])]
        lines.append("p: McNemar's exact test, two-sided, of each pair on its own; Holm: corrected "
                     "for their number.")  # fmt: skip
    lines += ["", *_class_table(result.last.errors)]
    return [*lines, ""]


def _class_table(errors: ClassifierErrors) -> list[str]:
    classes = errors.per_class()
    there = [c for c in classes if c.top1 is not None]
    title = ""
    if len(there) > SHOWN_CLASSES:
        there = sorted(there, key=lambda c: -c.top1.value if c.top1 else 0.0)[:SHOWN_CLASSES]
        title = f"the {SHOWN_CLASSES} worst of {len(classes):,} classes (all: the page, --json)"
    rows = [
        [c.name, f"{c.images:,}", *rates(errors, c),
         f"{c.taken_for[0]} ({c.taken_for[1]:,})" if c.taken_for else "-"]
        for c in there
    ]  # fmt: skip
    head = ("class", "images", "top-1 error", "top-5 error", "most often taken for")
    return [*([title] if title else []), *ruled(head, rows, left=(0, 4))]

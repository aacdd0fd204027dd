"""`resdet submit check`, `coco`, `voc`, `ilsvrc-cls`, `-det`, `-loc`, `ledger`: files for servers.

Exit codes: 0 when clean; 1 when something was found; 2 when there is nothing to work on.

Not for: making or checking anything (`coco_package`, `voc_package`, `ilsvrc_package`,
`ilsvrc_boxes`, `package_check`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet.cli.arguments import accept
from resdet.cli.evaluate.detections import percent
from resdet.cli.output_paths import output_folder_path
from resdet.errors import ConfigError
from resdet.evaluation.inputs.detections import TASKS
from resdet.evaluation.inputs.findings import REFUSE, Finding, accepted_counts
from resdet.printable import counted, show, show_json
from resdet.run.folder import Run, utc_now
from resdet.submission import (
    coco_package,
    ilsvrc_boxes,
    ilsvrc_package,
    ledger,
    servers,
    voc_package,
)
from resdet.submission.ilsvrc_package import check_cls_file
from resdet.submission.package_check import Checked, check_file
from resdet.submission.servers import TestSet
from resdet.submission.source import choose_set
from resdet.text_table import ruled

ILSVRC_TEST_IMAGES, DET_TEST_IMAGES = 100_000, 51_294
SERVERS = ("coco-bbox", "voc", "ilsvrc-cls", "ilsvrc-det", "ilsvrc-loc")
NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `submit`; docs/commands.md promises them."""
    actions = parser.add_subparsers(
        dest="action",
        required=True,
        metavar="{check,coco,voc,ilsvrc-cls,ilsvrc-det,ilsvrc-loc,ledger}",
    )
    _add_check(actions)
    _add_coco_and_voc(actions)
    _add_ilsvrc(actions)
    made = actions.add_parser("ledger", help="the packages made here", allow_abbrev=False)
    made.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _add_check(actions: Any) -> None:
    check = actions.add_parser("check", help="is this file or zip clean?", allow_abbrev=False)
    add = check.add_argument
    add("file", type=Path, metavar="FILE",
        help="results in COCO's format, or a zip of them; ImageNet's text file")  # fmt: skip
    about = check.add_mutually_exclusive_group(required=True)
    about.add_argument("--gt", type=Path, metavar="INSTANCES.json",
        help="the set: instances, or image_info without annotations")  # fmt: skip
    about.add_argument("--ilsvrc-cls", type=int, nargs="?", const=ILSVRC_TEST_IMAGES,
        metavar="IMAGES",
        help="it is a file for ImageNet's server, of so many images (100000)")  # fmt: skip
    about.add_argument("--ilsvrc-det", type=int, nargs="?", const=DET_TEST_IMAGES,
        metavar="IMAGES", help="it is a file of DET, of so many images (51294)")  # fmt: skip
    about.add_argument("--ilsvrc-loc", type=int, nargs="?", const=ILSVRC_TEST_IMAGES,
        metavar="IMAGES", help="it is a file of LOC, of so many images (100000)")  # fmt: skip
    add("--task", choices=TASKS, default="bbox", help="boxes (bbox) or masks")
    add("--json", action="store_true", help="one JSON object on standard output")
    accept(check)


def _add_coco_and_voc(actions: Any) -> None:
    for_coco = actions.add_parser("coco", help="a zip for COCO's server", allow_abbrev=False)
    add = for_coco.add_argument
    add("run", type=Path, metavar="RUN", help="run folder with results on a set of COCO's")
    add("--algorithm", required=True, metavar="NAME", help="letters, digits, hyphens")
    add("--set", metavar="DATASET", help="such as coco_2017_test-dev; needed where there are more")
    add("--task", choices=TASKS,
        help="boxes (bbox) or masks; default: masks where the run has them")  # fmt: skip
    add("--decimals", type=int, default=1, metavar="N", help="of a pixel, for boxes (1)")
    add("--output", type=output_folder_path, metavar="DIR",
        help="default: RUN/submissions/coco-<task>")  # fmt: skip

    for_voc = actions.add_parser("voc", help="a tar.gz for VOC's server", allow_abbrev=False)
    add = for_voc.add_argument
    add("run", type=Path, metavar="RUN", help="run folder with results on a set of VOC's")
    add("--set", metavar="DATASET", help="such as voc_2012_test; needed where there are more")
    add("--output", type=output_folder_path, metavar="DIR", help="default: RUN/submissions/voc")


def _add_ilsvrc(actions: Any) -> None:
    for_ilsvrc = actions.add_parser(
        "ilsvrc-cls", help="a text file for ImageNet's server", allow_abbrev=False
    )
    add = for_ilsvrc.add_argument
    add("scores", type=Path, metavar="SCORES.npz", help="made by evaluate cls, of a net or several")
    add("--output", type=output_folder_path, metavar="DIR",
        help="default: submissions/ilsvrc-cls beside the folder of the scores")  # fmt: skip

    for_det = actions.add_parser(
        "ilsvrc-det", help="DET's text file for ImageNet's server", allow_abbrev=False
    )
    add = for_det.add_argument
    add("run", type=Path, metavar="RUN", help="run folder with results on a set of DET's")
    add("--set", metavar="DATASET", help="such as ilsvrc_det_test; needed where there are more")
    add("--output", type=output_folder_path, metavar="DIR",
        help="default: RUN/submissions/ilsvrc-det")  # fmt: skip
    for_loc = actions.add_parser(
        "ilsvrc-loc", help="LOC's text file for ImageNet's server", allow_abbrev=False
    )
    add = for_loc.add_argument
    add("run", type=Path, metavar="RUN", help="run folder of train_loc")
    add("--file", metavar="NAME",
        help="a result file in localization/SET; needed where there are more")  # fmt: skip
    add("--set", metavar="DATASET", help="such as ilsvrc_loc_test; needed where there are more")
    add("--output", type=output_folder_path, metavar="DIR",
        help="default: RUN/submissions/ilsvrc-loc")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Does it, prints, gives the exit code; errors are raised for the caller's page."""
    actions = {"check": _check, "coco": _coco, "voc": _voc, "ilsvrc-cls": _ilsvrc,
               "ilsvrc-det": _ilsvrc_boxes, "ilsvrc-loc": _ilsvrc_boxes,
               "ledger": _ledger}  # fmt: skip
    return actions[args.action](args)


def _check(args: argparse.Namespace) -> int:
    if args.gt is None:
        return _check_ilsvrc(args)
    checked = check_file(args.file, args.gt, task=args.task, accepted=accepted_counts(args.accept))
    return _print(checked, check_page(checked), args)


def _check_ilsvrc(args: argparse.Namespace) -> int:
    """One of ImageNet's text files."""
    ways = {
        "--ilsvrc-cls": (args.ilsvrc_cls, check_cls_file, "labels"),
        "--ilsvrc-det": (args.ilsvrc_det, ilsvrc_boxes.check_det_file, "detections"),
        "--ilsvrc-loc": (args.ilsvrc_loc, ilsvrc_boxes.check_loc_file, "guesses"),
    }
    ((option, images, check, what),) = (
        (name, number, check, what)
        for name, (number, check, what) in ways.items()
        if number is not None
    )
    if args.accept or args.task != "bbox":
        raise ConfigError(f"--accept and --task are for COCO's results, not for {option}.")
    if images < 1:
        raise ConfigError(f"{option} is {images}: give the number of images.")
    checked = check(args.file, images)
    return _print(checked, check_page(checked, what), args)


def _print(checked: Checked, page: str, args: argparse.Namespace) -> int:
    if args.json:
        # Its key "detections" counts the labels of a file for ImageNet's server.
        show_json(checked.to_json())
    else:
        show(page)
    return 0 if checked.ok else 1


def check_page(checked: Checked, what: str = "detections") -> str:
    """The findings, for people: first those that evaluation would refuse."""
    images = checked.images
    seen = "an unknown number" if images["evaluated"] is None else f"{images['evaluated']:,}"
    number = "no list of" if checked.detections is None else f"{checked.detections:,}"
    head = (
        f"{checked.title}: {number} {what} on {seen} of {counted(images['expected'] or 0, 'image')}"
    )
    verdict = (
        "not clean:" if not checked.ok else "clean; legal, but:" if checked.findings else "clean"
    )
    lines = [head, verdict]
    for item in sorted(checked.findings, key=lambda f: f.severity != REFUSE):
        what, *rest = item.lines()
        lines += [f"- [{item.rule}] {what}", *rest]
    return "\n".join(filter(None, [*lines, checked.how_to_accept()]))


# -- packages -----------------------------------------------------------------------------------


def _coco(args: argparse.Namespace) -> int:
    run = Run.open(args.run)
    servers.check_algorithm(args.algorithm)
    data_set = choose_set(run, args.set, _is_cocos, servers.known_to_coco())
    made = coco_package.package(
        run,
        data_set,
        algorithm=args.algorithm,
        task=args.task or coco_package.task_of(run, data_set),
        decimals=args.decimals,
        output=args.output,
    )
    lines = [*_head(made.path, made.sha256, made.detections, made.images), *_contents(made)]
    lines += ["", *_score_lines(made)]
    lines += ["", *_server_lines(made.server, made.test_set, made.images)]
    _warn(made.warnings)
    entry = _entry(made.server, made.test_set, made, run, algorithm=made.algorithm)
    _note(entry, lines, made.server, made.test_set)
    return 0


def _is_cocos(data_set: str) -> bool:
    try:
        servers.coco_test_set(data_set)
    except ConfigError:
        return False
    return True


def _contents(made: coco_package.CocoPackage) -> list[str]:
    cut = "no image had more than 100 detections"
    if made.cut_images:
        cut = (
            f"{made.cut_images:,} images had more than 100 detections: the best 100 of each stay, "
            f"{made.cut_detections:,} are left out"
        )
    if made.task == "segm":
        return [f"  {cut}", "  masks as they are"]
    unit = f"{10.0**-made.decimals:.{made.decimals}f}"
    lines = [f"  {cut}", f"  boxes to {unit} px, scores to {coco_package.SCORE_DIGITS} digits"]
    if made.widened:
        lines.append(f"  {made.widened:,} boxes thinner than that were widened to it")
    return lines


def _score_lines(made: coco_package.CocoPackage) -> list[str]:
    """AP before and after, in percent; what the cut and the rounding cost."""
    if not made.scores:
        return [f"Not scored: {made.data_set} has no annotations here."]
    rows = [
        [what, *(_hundredths(result.numbers[name]) for name in NUMBERS)]
        for what, result in made.scores
    ]
    first, last = (made.scores[i][1].numbers["AP"] for i in (0, -1))
    change = "undefined" if first is None or last is None else f"{100 * (last - first):+.3f} points"
    return [
        *ruled(("", *NUMBERS), rows),
        f"Change of AP by what the package leaves out: {change}.",
        f"Engine: {made.scores[-1][1].engine}.",
    ]


def _hundredths(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _voc(args: argparse.Namespace) -> int:
    run = Run.open(args.run)
    made = voc_package.package(
        run,
        choose_set(
            run,
            args.set,
            lambda name: voc_package.can_be_packed(run, name),
            "VOC's are voc_2012_test, …",
        ),
        output=args.output,
    )
    empty = [name for name, number in made.per_class.items() if number == 0]
    lines = _head(made.path, made.sha256, made.detections, made.images)
    lines.append(
        f"  {len(made.per_class)} class files, {len(empty)} of them empty"
        + (f": {', '.join(empty)}" if empty else "")
    )
    lines += ["", f"Not scored: {made.data_set} has no annotations here."]
    if made.score is not None:
        lines[-1] = (
            f"AP50 (VOC, {made.score.ap_rule}, overlap > {made.score.iou:g}) of the package, read "
            f"back: {percent(made.score.mean_ap)} % (mean of {len(made.score.scored)} classes)."
        )
    test_set = servers.voc_test_set(made.year) or TestSet(f"VOC{made.year}", made.images, "unknown")
    lines += ["", *_server_lines("voc", test_set, made.images)]
    if not made.has_vocs_classes:
        lines.append("The classes are not VOC's twenty: this is a rehearsal, no server takes it.")
    _warn(made.warnings)
    _note(_entry("voc", test_set, made, run), lines, "voc", test_set)
    return 0


def _ilsvrc(args: argparse.Namespace) -> int:
    made = ilsvrc_package.package(args.scores, output=args.output)
    test_set = made.test_set
    lines = [
        str(made.path),
        f"  {size_text(made.path.stat().st_size)}, sha256 {made.sha256}",
        f"  {made.images:,} lines of at most five ids, in the order of the file names; read again "
        "and checked: nothing refused",
        "",
        f"Not scored: the classes of {made.data_set} are not known here.",
    ]
    if made.errors is not None:
        first, fifth = (100 * wrong / made.images for wrong in made.errors)
        lines[-1] = f"Of the file, read back: top-1 error {first:.2f} %, top-5 error {fifth:.2f} %."
    if test_set is None:
        test_set = TestSet(made.data_set, made.images, "not known")
        lines += ["", "No image is named as ImageNet's test or validation images: a rehearsal."]
    lines += ["", *_server_lines("ilsvrc-cls", test_set, made.images)]
    _warn(made.warnings)
    entry = _entry("ilsvrc-cls", test_set, made, None)
    _note(entry, lines, "ilsvrc-cls", test_set)
    return 0


def _ilsvrc_boxes(args: argparse.Namespace) -> int:
    """DET's or LOC's file of a run."""
    run = Run.open(args.run)
    if args.action == "ilsvrc-det":
        known = "DET's are ilsvrc_det_test, …"
        name = choose_set(run, args.set, lambda n: ilsvrc_boxes.can_be_packed(run, n), known)
        made = ilsvrc_boxes.package_det(run, name, output=args.output)
    else:
        made = ilsvrc_boxes.package_loc(run, args.file, data_set=args.set, output=args.output)
    lines = _head(made.path, made.sha256, made.detections, made.images)
    lines += ["", made.score or f"Not scored: {made.data_set} has no annotations here."]
    test_set = made.test_set or TestSet(made.data_set, made.images, "not known")
    if made.test_set is None:
        lines += ["", "These are not all images of the challenge's test or val: a rehearsal."]
    lines += ["", *_server_lines(args.action, test_set, made.images)]
    _warn(made.warnings)
    _note(_entry(args.action, test_set, made, run), lines, args.action, test_set)
    return 0


def _head(path: Path, sha256: str, detections: int, images: int) -> list[str]:
    return [
        str(path),
        f"  {size_text(path.stat().st_size)}, sha256 {sha256}",
        f"  {detections:,} detections on {images:,} images; opened again and checked as a "
        "stranger's file: nothing refused",
    ]


def size_text(size: int) -> str:
    """Bytes for people.

    >>> size_text(900), size_text(1_530_000)
    ('900 bytes', '1.5 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _server_lines(server: str, test_set: TestSet, images: int) -> list[str]:
    lines = [servers.state_of(server), f"Limit for {test_set.name}: {test_set.limit}."]
    if images != test_set.images:
        lines.append(
            f"{test_set.name} has {test_set.images:,} images, this package is of {images:,}: a "
            "rehearsal."
        )
    return lines


def _warn(warnings: Sequence[Finding]) -> None:
    for item in warnings:
        show("Warning: " + "\n".join(item.lines()), error=True)


def _entry(
    server: str,
    test_set: TestSet,
    made: coco_package.CocoPackage
    | voc_package.VocPackage
    | ilsvrc_package.ClsPackage
    | ilsvrc_boxes.BoxPackage,
    run: Run | None,
    *,
    algorithm: str | None = None,
) -> dict[str, Any]:
    """What the ledger keeps of a package."""
    return {
        "time": utc_now(),
        "sha256": made.sha256,
        "server": server,
        "set": test_set.name,
        "data_set": made.data_set,
        "algorithm": algorithm,
        "path": str(made.path.absolute()),
        "bytes": made.path.stat().st_size,
        "images": made.images,
        "detections": getattr(made, "detections", None),
        "run": run.info["id"] if run else None,
    }


def _note(entry: dict[str, Any], lines: list[str], server: str, test_set: TestSet) -> None:
    """Prints what was made, and puts it into the ledger; a ledger that fails costs no package."""
    try:
        path = ledger.note(entry)
    except OSError as error:
        show(f"Warning: the ledger could not be written: {error}.", error=True)
    else:
        entries = ledger.read(path)
        today = ledger.count(entries, server, test_set, entry["time"][:10])
        ever = ledger.count(entries, server, test_set)
        lines.append(
            f"Different packages of {test_set.name} made here: {today} today (UTC), {ever} in all "
            f"({path})."
        )
    show("\n".join([*lines, "Nothing was uploaded."]))


def _ledger(args: argparse.Namespace) -> int:
    path, entries = ledger.ledger_path(), ledger.read()
    if args.json:
        show_json({"path": str(path), "packages": entries})
        return 0
    rows = [[str(entry.get(key) or "-") for key in _COLUMNS] for entry in entries]
    lines = [f"{path}: {len(entries):,} packages", ""]
    if rows:
        lines += [*ruled(_COLUMNS, rows), ""]
    lines += [f"{servers.state_of(name)}\n" for name in SERVERS]
    lines += ["Limits when these servers take packages:", *ruled(("", "limit"), _limits())]
    show("\n".join(lines))
    return 0


_COLUMNS = ("time", "server", "set", "algorithm", "detections", "bytes", "path")


def _limits() -> list[list[str]]:
    known: dict[str, Any] = servers.facts()
    sets = [(name, about) for name, about in known["coco"].items()]
    sets += [(f"VOC{year}", about) for year, about in known["voc"].items()]
    sets += [(f"ILSVRC2012_{part}", about) for part, about in known["ilsvrc-cls"].items()]
    sets += [(f"{s} {part}", about) for s in ("ilsvrc-det", "ilsvrc-loc")
             for part, about in known[s].items()]  # fmt: skip
    return [[name, about["limit"]["text"]] for name, about in sets]

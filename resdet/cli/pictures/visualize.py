"""`resdet visualize`: what one run or two detect on chosen images, and the path of one picture.

From result files alone, without torch; proposals and --explain need the run's detector.

Not for: choosing and drawing (`resdet.report.visual`), or numbers (`compare`).
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resdet.cli.output_paths import output_folder_path
from resdet.cli.pictures.config_keys import MARK
from resdet.errors import ConfigError, RunError, first_few
from resdet.printable import show, show_json
from resdet.report.render.box_drawing import why_none_is_drawn
from resdet.report.render.pictures import SCORE_THRESHOLD
from resdet.report.runs import Column, read_columns
from resdet.report.scores import SetScores, read_scores
from resdet.report.visual import chosen_images
from resdet.report.visual.chosen_images import Choice
from resdet.report.visual.image_panels import Proposals, VisualImage, panels_of
from resdet.report.visual.visual_page import PAGE, visual_html, write_visual
from resdet.run import layout
from resdet.run.folder import Run

NUMBER = 12
# A page holds all its pictures.
MOST_IMAGES = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """docs/commands.md promises them."""
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN",
        help="one run folder of train_det, or two")  # fmt: skip
    add("--set", dest="data_set", metavar="NAME", help="a set that they were scored on")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--images", nargs="+", metavar="ID", help="images by their ids")
    which.add_argument("--worst", type=int, metavar="N",
                       help="images with the most errors of the (first) run")  # fmt: skip
    which.add_argument("--most-different", type=int, metavar="N",
                       help="images on which two runs differ most")  # fmt: skip
    which.add_argument("--random", type=int, metavar="N", help="images by chance")
    which.add_argument("--explain", metavar="IMAGE",
                       help="the path of one image through the run's detector, by its id or by "
                       "its file: proposals, refined boxes, votes, final")  # fmt: skip
    add("--seed", type=int, default=0, help="of --random (0)")
    add("--score", type=float, default=SCORE_THRESHOLD, metavar="S",
        help=f"draw boxes from this score up ({SCORE_THRESHOLD:g})")  # fmt: skip
    add("--proposals", type=int, metavar="N",
        help="draw the N best proposals; needs the model and the set's own images")  # fmt: skip
    add("--image-folder", type=Path, metavar="DIR",
        help="where the images of the set lie now, where they were moved")  # fmt: skip
    add("--output", type=output_folder_path, metavar="DIR",
        help="for the page and PNGs (RUN/visual, RUN/explain)")  # fmt: skip
    add("--overwrite", action="store_true", help="replace what --output names")
    add("--best", action="store_true", help="with --explain: the best model that the run kept")
    add("--json", action="store_true", help="one JSON object on standard output")
    add(MARK, dest="opts", nargs=argparse.REMAINDER, default=[], help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Writes the page; returns 0."""
    _refuse_contradictions(args)
    output = args.output or args.runs[0] / ("explain" if args.explain else "visual")
    if output.exists() and any(output.iterdir()) and not args.overwrite:
        raise RunError(f"{output} is not empty. Name another --output, or add --overwrite.")
    if args.explain:
        from resdet.cli.pictures.explained_image import explain  # with torch

        return explain(args, output)
    columns, scores = read_runs(args.runs, args.data_set, args.image_folder)
    choice, number = _choice(args, scores)
    images, unseen = _panels(args, columns, scores, choice, number)
    if not images:
        raise RunError(
            f"no file of the images of {scores[0].data_set} is at hand. Name the folder that they "
            "lie in: --image-folder DIR"
        )
    headline = f"{' against '.join(c.label for c in columns)} on {scores[0].data_set}"
    notes = [f"{unseen:,} images that come before some of these are left out: no file of them is "
             "at hand (--image-folder)."] if unseen else []  # fmt: skip
    notes += [
        text
        for c, s in zip(columns, scores, strict=True)
        if (
            text := why_none_is_drawn(
                c.label, s.result.columns.scores.tolist(), args.score, "--score"
            )
        )
    ]
    sources = str(scores[0].truth.get("info", {}).get("sources") or "")
    dotted = "; dotted: proposals" if args.proposals else ""
    rule = (
        f"{choice.rule} Drawn: boxes with a score of at least {args.score:g}; right means IoU of "
        f"at least 0.5 with a free object of the class{dotted}."
    )
    html = visual_html(images, headline=headline, rule=rule, notes=notes, sources=sources)
    paths = write_visual(output, images, html)
    if args.json:
        show_json(_as_json(columns, scores, images, rule, paths))
        return 0
    show("\n".join([headline, choice.rule, *notes]))
    for image in images:
        words = "; ".join(f"{p.title}: {p.words}" for p in image.panels[1:])
        show(f"  {image.image_id}{'  ' + image.measure if image.measure else ''}  {words}")
    show(f"page: {output / PAGE}\npictures: {len(paths) - 1} PNGs in {paths[1].parent}")
    return 0


def read_runs(
    folders: Sequence[Path], data_set: str | None, image_folder: Path | None
) -> tuple[list[Column], list[SetScores]]:
    """The runs and their results on one set.

    Raises:
        RunError: no run, a classifier's, no results, several sets and none named, or results on
            other images.
    """
    for folder in folders:
        _require_results(Run.open(folder))
    columns = read_columns(folders, fewest=1)
    name = _set_of([c.run for c in columns], data_set)
    scores = [read_scores(column, name) for column in columns]
    for one in scores[1:]:
        if one.truth_hash != scores[0].truth_hash:
            raise RunError(
                f"{columns[0].run.path} and {columns[1].run.path} were scored on other images or "
                f"objects under the name {name}. Score both on the same: train_det --eval-only."
            )
    if image_folder is not None:
        if not image_folder.is_dir():
            raise RunError(f"--image-folder {image_folder} is not a folder.")
        # The samples of a run are smaller copies; what was named comes first.
        scores = [replace(one, image_folder=image_folder) for one in scores]
    return columns, scores


def _require_results(run: Run) -> None:
    if run.kind not in ("detection", "results"):
        raise RunError(
            f"{run.path} is a {run.kind} run, which has no boxes. Give a folder that train_det "
            "wrote; for a classifier's errors: resdet evaluate cls."
        )
    if not run.detected_sets():
        if any(run.path.glob(f"{layout.RESULTS}/*/{layout.PROPOSALS}")):
            raise RunError(
                f"{run.path} holds an RPN alone, whose proposals have no classes. Give a run with "
                "boxes; for recall: resdet evaluate proposals."
            )
        what = (
            "it was scored on no set. Score it on one: train_det --eval-only … DATASETS.TEST SETS"
            if run.state == "finished"
            else f"the run is {run.state}. Finish it: "
            + shlex.join(["resdet", "train_det", "--output", str(run.path), "--resume"])
        )
        raise RunError(f"{run.path} has no results: {what}.")


def _set_of(runs: Sequence[Run], asked: str | None) -> str:
    """The set to look at: the one that is named, or the only one that all were scored on."""
    common = [n for n in runs[0].result_sets() if all(n in run.result_sets() for run in runs)]
    if asked is not None:
        if asked not in common:
            raise RunError(
                f"--set {asked}: not scored by {'both' if len(runs) > 1 else 'the run'}. Scored: "
                f"{', '.join(common) or 'no set with annotations'}."
            )
        return asked
    if len(common) != 1:
        what = f"several sets: {', '.join(common)}. Name one: --set NAME." if common else (
            "no set with annotations in common. Pictures of a set without them: resdet detect."
        )  # fmt: skip
        raise RunError(f"{' and '.join(str(r.path) for r in runs)} have {what}")
    return common[0]


def _refuse_contradictions(args: argparse.Namespace) -> None:
    if len(args.runs) > 2:
        raise ConfigError(f"{len(args.runs)} runs given; a page shows one, or two side by side.")
    if not 0 <= args.score <= 1:
        raise ConfigError(f"--score is {args.score}, expected 0 to 1.")
    for name in ("worst", "most_different", "random", "proposals"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}, expected 1 or more.")
    if args.most_different and len(args.runs) != 2:
        raise ConfigError("--most-different is of two runs. Give a second one, or --worst N.")
    if args.explain and len(args.runs) != 1:
        raise ConfigError("--explain is of one run. Leave the second one out.")
    if not args.explain and args.best:
        raise ConfigError("--best is of --explain: results are those of the run's last model.")
    if args.opts and not (args.explain or args.proposals):
        raise ConfigError(
            f"{args.opts[0]}: no detector runs here, results are those that the run wrote. Leave "
            "keys out, or add --explain IMAGE or --proposals N."
        )


def _choice(args: argparse.Namespace, scores: Sequence[SetScores]) -> tuple[Choice, int]:
    """The images in their order, and how many are asked for."""
    if args.images:
        return named(args.images, scores[0]), len(args.images)
    if args.random:
        choice, number = chosen_images.by_chance(scores[0], args.seed), args.random
    elif args.worst or len(scores) == 1:
        choice, number = chosen_images.worst(scores[0], args.score), args.worst or NUMBER
    else:
        choice = chosen_images.most_different(scores, args.score)
        number = args.most_different or NUMBER
    if number > MOST_IMAGES:
        raise ConfigError(f"{number} images asked for; a page holds {MOST_IMAGES} at most.")
    return choice, number


def named(words: Sequence[str], scores: SetScores) -> Choice:
    """The images of these ids, typed as text.

    Raises:
        RunError: one is not in the set.
    """
    by_text = {str(image_id): image_id for image_id in scores.evaluated}
    unknown = [word for word in words if word not in by_text]
    if unknown:
        raise RunError(
            f"{scores.data_set} has no image {', '.join(unknown[:5])}. Its ids are such as "
            f"{', '.join(list(by_text)[:4])}."
        )
    if len(words) > MOST_IMAGES:
        raise ConfigError(f"{len(words)} images named; a page holds {MOST_IMAGES} at most.")
    return Choice(tuple(by_text[word] for word in words), "Images that were named.")


def _panels(
    args: argparse.Namespace,
    columns: Sequence[Column],
    scores: Sequence[SetScores],
    choice: Choice,
    number: int,
) -> tuple[list[VisualImage], int]:
    """The images that have a file, and how many before the last one have none."""
    images: list[VisualImage] = []
    unseen: list[Any] = []
    runs = [(c.label, s) for c, s in zip(columns, scores, strict=True)]
    proposals_of_runs: Callable[[Any], Sequence[Proposals | None]] | None = None
    if args.proposals:
        from resdet.cli.pictures.explained_image import ProposalsOfRuns  # with torch

        proposals_of_runs = ProposalsOfRuns(args, [c.run.path for c in columns], scores[0])
    skipped = 0
    for image_id in choice.image_ids:
        if len(images) == number:
            break
        image = panels_of(
            runs, image_id, threshold=args.score, measure=choice.measure(image_id),
            proposals=proposals_of_runs(image_id) if proposals_of_runs else (),
        )  # fmt: skip
        if image is None:
            unseen.append(image_id)
        else:
            images.append(image)
            skipped = len(unseen)
    if args.images and unseen:
        raise RunError(
            f"no file of {first_few(unseen, indent='')} is at hand. Name the folder that the "
            "images lie in: --image-folder DIR"
        )
    return images, skipped


def _as_json(
    columns: Sequence[Column],
    scores: Sequence[SetScores],
    images: Sequence[VisualImage],
    rule: str,
    paths: Sequence[Path],
) -> dict[str, Any]:
    return {
        "data_set": scores[0].data_set,
        "rule": rule,
        "runs": [{"label": c.label, "folder": str(c.run.path)} for c in columns],
        "page": str(paths[0]),
        "images": [
            {
                "id": image.image_id,
                "measure": image.measure or None,
                "picture": str(path),
                "panels": [{"title": p.title, "drawn": p.words} for p in image.panels],
            }
            for image, path in zip(images, paths[1:], strict=True)
        ],
    }

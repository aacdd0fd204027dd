"""`resdet detect`: a run's detector on files, folders and patterns of pictures.

Not for: detecting (`resdet.detect.pictures`), or results of a data set (`train_det --eval-only`).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from resdet import bounded_files
from resdet.atomic import atomic_path
from resdet.cli.arguments import detect as add_arguments  # noqa: F401 as all commands have
from resdet.cli.pictures.drawn_detections import drawn_detections
from resdet.cli.training import training_command
from resdet.data.images.reader import ImageReader
from resdet.detect.from_run import built_detector
from resdet.detect.pictures.finished_pictures import FinishedPictures
from resdet.detect.pictures.image_files import image_files
from resdet.detect.pictures.loaded_detector import BoxesOfPicture, PictureDetector
from resdet.detect.pictures.picture_folder import detect_pictures, fingerprint_of_pictures
from resdet.detect.pictures.picture_results import (
    as_coco,
    category_ids_of,
    common_folder,
    name_below,
)
from resdet.engine import machine_limits
from resdet.engine.data_workers import lost_images_stop
from resdet.engine.metric_writers import start_log
from resdet.errors import CheckFailed, ConfigError, RunError, first_few
from resdet.file_names import file_name
from resdet.printable import one_line, show, show_json
from resdet.report.render.box_drawing import draw_boxes, short_score, why_none_is_drawn
from resdet.run.folder import write_json

DRAW_SCORE = 0.5
DRAWN_QUALITY = 90
# In pixels; smaller pictures are enlarged by a whole number.
DRAWN_SIDE = 480
# Of the list for people, where a file has all of them.
MOST_LINES = 40


def run(args: argparse.Namespace) -> int:
    """Detects, prints, writes; 1 where a picture was refused that --accept does not name."""
    accepted = _accepted(args.accept)
    _refuse_what_is_there(args)
    files = image_files(args.images, recursive=args.recursive)
    start_log()
    built = built_detector(
        args.run, args.opts, best=args.best, config_file=args.config,
        classes=_class_names(args.classes),
    )  # fmt: skip
    training_command.prepare_process(built.cfg)
    detector = PictureDetector(built)
    _refuse_limits(args, detector)
    drawing = _Drawing(args, files.paths, built.reader) if args.draw else None
    ids, score = category_ids_of(built), args.score or 0.0
    finished = None
    if args.output:
        asked = fingerprint_of_pictures(
            built, score=score, top=args.top, drawn=drawing.what if drawing else ""
        )
        finished = FinishedPictures.open(parts_of(args.output), files.paths, asked)
    with machine_limits.as_pages(args.output or Path()), lost_images_stop():
        entries = detect_pictures(
            detector, files.paths, ids, score=score, top=args.top, finished=finished,
            finish=drawing,
        )  # fmt: skip
    result = as_coco(built, ids, entries, score=score, top=args.top)
    if args.output:
        write_json(args.output, result, indent=None)
        FinishedPictures.remove(parts_of(args.output))
    if args.json:
        show_json(result)
    else:
        _print(args, result, files.sentence())
    _refuse_refused(result["refused"], len(files.paths), accepted)
    return 0


def parts_of(output: Path) -> Path:
    """Where finished pictures lie while the rest is detected on."""
    return output.with_name(output.name + ".parts")


def _class_names(path: Path | None) -> list[str]:
    """The lines of --classes, blank ones left out."""
    if path is None:
        return []
    try:
        names = [line.strip() for line in bounded_files.read_text(path).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--classes {path} cannot be read: {error}.") from None
    names = [name for name in names if name]
    if not names:
        raise ConfigError(f"--classes {path} has no name in it. Give a class a line.")
    return names


def _accepted(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"refused=\d{1,9}", text):
        raise ConfigError(f"--accept is {text}, expected refused=N, such as refused=3.")
    return int(text.partition("=")[2])


def _refuse_what_is_there(args: argparse.Namespace) -> None:
    """Raises ConfigError for contradictions, RunError for an output that would be replaced."""
    for name, value in (("--score", args.score), ("--draw-score", args.draw_score)):
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"{name} is {value}, expected 0 to 1.")
    if args.draw_score is not None and not args.draw:
        raise ConfigError("--draw-score is for drawn pictures. Add --draw DIR.")
    if args.top is not None and args.top < 1:
        raise ConfigError(f"--top is {args.top}, expected 1 or more.")
    if args.overwrite:
        return
    if args.output and args.output.exists():
        raise RunError(f"{args.output} exists. Name another --output, or add --overwrite.")
    # Those of a stop are there while their parts are.
    goes_on = args.output and parts_of(args.output).exists()
    if args.draw and args.draw.exists() and any(args.draw.iterdir()) and not goes_on:
        raise RunError(f"{args.draw} is not empty. Name another --draw, or add --overwrite.")


def _refuse_limits(args: argparse.Namespace, detector: PictureDetector) -> None:
    """Raises ConfigError for what the run's own limits leave nothing of."""
    if args.score is not None and args.score < detector.score_threshold:
        raise ConfigError(
            f"--score is {args.score}, and the run detects nothing below "
            f"{detector.score_threshold}. To have it, add at the end: "
            f"MODEL.ROI_HEADS.SCORE_THRESH_TEST {args.score}"
        )
    if args.top is not None and 0 <= detector.most < args.top:
        raise ConfigError(
            f"--top is {args.top}, and the run detects at most {detector.most} on a picture. To "
            f"have more, add at the end: TEST.DETECTIONS_PER_IMAGE {args.top}"
        )


class _Drawing:
    """Writes each finished picture with its boxes into a folder.

    Names are those of the pictures below the folder that all lie in, with .jpg; pictures of two
    folders with one name lie in folders of theirs.
    """

    def __init__(self, args: argparse.Namespace, paths: Sequence[Path], reader: ImageReader):
        self.folder: Path = args.draw
        self.score = DRAW_SCORE if args.draw_score is None else args.draw_score
        # A reader of its own: the other counts what it fixes.
        self.reader = ImageReader(reader.options)
        self.names = self._names(paths)
        sources = {path.resolve() for path in paths}
        clash = next((t for t in self.names.values() if t.resolve() in sources), None)
        if clash is not None:
            raise RunError(f"--draw would replace {clash}, one of the pictures. Name another.")

    @property
    def what(self) -> str:
        return f"{self.folder.absolute()} from {self.score}"

    def _names(self, paths: Sequence[Path]) -> dict[Path, Path]:
        names: dict[Path, Path] = {}
        taken: set[Path] = set()
        common = common_folder(paths)
        for path in paths:
            *folders, name = name_below(common, path).parts
            if path.suffix.lower() not in (".jpg", ".jpeg"):
                name += ".jpg"
            while (target := self.folder.joinpath(*map(file_name, (*folders, name)))) in taken:
                name += ".jpg"  # beside a.png there is an a.png.jpg
            names[path] = target
            taken.add(target)
        return names

    def __call__(self, path: Path, found: BoxesOfPicture) -> None:
        photo = Image.fromarray(self.reader.read(path))
        # Labels have one size: on a thumbnail they would hide what they name.
        larger = max(1, -(-DRAWN_SIDE // max(photo.size)))
        photo = photo.resize((photo.width * larger, photo.height * larger))
        shown = found.best(score=self.score)
        draw_boxes(photo, drawn_detections(shown), (larger, larger))
        target = self.names[path]
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            photo.save(temporary, "JPEG", quality=DRAWN_QUALITY)


def _print(args: argparse.Namespace, result: Mapping[str, Any], left_out: str) -> None:
    """A line for each picture, then where what lies."""
    names = {c["id"]: c["name"] for c in result["categories"]}
    of_image: dict[int, list[str]] = {image["id"]: [] for image in result["images"]}
    for found in result["annotations"]:
        text = f"{names[found['category_id']]} {short_score(found['score'])}"
        of_image[found["image_id"]].append(text)
    shown = result["images"] if not args.output else result["images"][:MOST_LINES]
    for image in shown:
        boxes = of_image[image["id"]]
        more = f", … {len(boxes) - 8} more" if len(boxes) > 8 else ""
        size = f"{image['width']}x{image['height']}"
        what = f"{', '.join(boxes[:8])}{more}" if boxes else "nothing"
        show(one_line(f"{image['file_name']}  {size}  {what}"))
    if len(result["images"]) > len(shown):
        show(f"… and {len(result['images']) - len(shown):,} more in {args.output}")
    counts, fixed = result["info"]["images"], result["info"]["fixed"]
    show(
        f"\n{counts['read']:,} of {counts['given']:,} pictures read, "
        f"{len(result['annotations']):,} boxes"
        + (f"; {', '.join(f'{what} {n}' for what, n in fixed.items())}" if fixed else "")
    )
    if counts["read"] and not result["annotations"]:
        least = max(result["info"]["score"], result["info"]["threshold"])
        show(
            f"No picture has a box with a score of {least:g} or more: is it the right detector, "
            "and was it trained to its end?"
        )
    for key, value in result["info"]["changed"].items():
        show(f"{key} is {value['here']!r} here, {value['run']!r} in the run")
    if left_out:
        show(left_out)
    if args.output:
        show(f"boxes: {args.output}")
    if args.draw:
        show(f"drawn: {args.draw}")
        least = DRAW_SCORE if args.draw_score is None else args.draw_score
        found = [box["score"] for box in result["annotations"]]
        if text := why_none_is_drawn("these pictures", found, least, "--draw-score"):
            show(text)


def _refuse_refused(refused: Sequence[Mapping[str, str]], given: int, accepted: int | None) -> None:
    """Raises CheckFailed where not exactly the accepted number of pictures was refused."""
    if len(refused) == (accepted or 0):
        return
    reasons = first_few([entry["reason"] for entry in refused])
    head = f"not read: {len(refused)} of {given} pictures"
    if accepted is not None:
        raise CheckFailed(f"{head}, --accept names {accepted}.\n{reasons}")
    others = "The boxes of the others are there. " if given > len(refused) else ""
    raise CheckFailed(
        f"{head}\n{reasons}\n{others}Options of the reader go to the "
        f"end of the command; to leave these out: --accept refused={len(refused)}"
    )

"""`resdet analyze classifiers`: several classifiers side by side, from the scores they have.

Works without torch; then nothing is counted, and the page has the reason.

Not for: making scores (`resdet evaluate cls`), or gathering (`resdet.report.classifiers`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resdet import __version__
from resdet.atomic import write_text
from resdet.cli.evaluate.classifiers import is_score_file, titles_of
from resdet.errors import DataError, UserError
from resdet.evaluation.classification.classifier_result import ScoredClassifier, evaluated
from resdet.evaluation.classification.score_files import SUFFIX, header_in
from resdet.file_names import file_name
from resdet.printable import show, show_json
from resdet.report.classifiers.response_file import responses_in
from resdet.report.classifiers.side_by_side import SideBySide, gather
from resdet.report.classifiers.side_by_side_page import (
    PAIR_HEAD,
    error_head,
    error_rows,
    to_html,
    write_markdown,
)
from resdet.run import layout
from resdet.run.folder import write_json
from resdet.text_table import ruled

FILES = ("report.html", "report.md", "report.json")


def run(args: argparse.Namespace) -> int:
    """Gathers, prints, writes the page; returns 0."""
    if len(args.members) < 2:
        raise UserError("one classifier given; side by side stand two or more.")
    paths = scores_of(args.members, args.set, args.protocol)
    titles = titles_of(paths)
    result = evaluated(titles, paths)
    if result.last.errors is None:
        raise DataError(
            f"{result.last.scores.data_set}: the classes of the images are not known, so there is "
            "no error to compare. Score a labelled set."
        )
    responses = responses_in(args.responses) if args.responses else None
    counts, notes = _counted(result.singles)
    folders = [m if (m / layout.RUN).is_file() else None for m in args.members]
    page = gather(result, counts=counts, folders=folders, responses=responses, notes=notes)
    name = file_name(f"classifiers_{titles[0]}+{len(titles) - 1}")
    folder = Path(args.output) if args.output else Path("reports") / name
    values = page.to_json()
    write_json(folder / FILES[2], values)
    write_markdown(page, folder)
    write_text(folder / FILES[0], to_html(page, paths, __version__))
    if args.json:
        show_json(values)
        return 0
    show("\n".join(tables(page)))
    show(f"page: {folder / FILES[0]}")
    return 0


def scores_of(members: Sequence[Path], data_set: str | None, protocol: str | None) -> list[Path]:
    """The file of scores of each member: as given, or the one of a folder that fits all.

    Raises:
        DataError: a folder has none, or several and it is not stated which.
    """
    offered = [_offered(member, data_set, protocol) for member in members]
    common = set.intersection(*(set(files) for files in offered))
    if len(common) == 1:
        (key,) = common
        return [files[key] for files in offered]
    lines = [
        f"{member}: " + "; ".join(f"{name}, {tag}" for name, _, tag in sorted(files))
        for member, files in zip(members, offered, strict=True)
    ]
    if not common:
        # Files that were given may differ in protocol, which is stated in the table.
        if all(len(files) == 1 for files in offered):
            return [next(iter(files.values())) for files in offered]
        what = "The folders have no scores of one set and protocol in common"
    else:
        what = "The folders have scores of several sets or protocols in common"
    raise DataError(
        f"{what}:\n" + "\n".join(lines) + "\nChoose with --set and --protocol, give files of "
        "scores, or score again: resdet evaluate cls."
    )


Key = tuple[str, str, str]


def _offered(member: Path, data_set: str | None, protocol: str | None) -> dict[Key, Path]:
    """Files of scores by set, its hash and the protocol's tag."""
    if not member.is_dir():
        if not member.exists():
            raise DataError(f"{member} does not exist. Give a run folder or a file of scores.")
        if not is_score_file(member):
            raise DataError(
                f"{member} is no file of scores. Score it first: resdet evaluate cls {member} "
                "--data SET, then give the folder that it names, or the .npz in it."
            )
        return {_key(member): member}
    folders = [member / layout.CLASSIFIER_SCORES / "scores", member / "scores"]
    files = sorted(file for folder in folders for file in folder.glob(f"*{SUFFIX}"))
    found: dict[Key, Path] = {}
    for file in files:
        key = _key(file)
        if (data_set is None or key[0] == data_set) and (
            protocol is None or key[2] == protocol or key[2].startswith(f"{protocol}-")
        ):
            found.setdefault(key, file)
    if not found:
        wanted = ", ".join(w for w in (data_set, protocol) if w)
        raise DataError(
            f"{member} has no scores{f' of {wanted}' if wanted else ''} (in "
            f"{folders[0]}). Make them: resdet evaluate cls {member} --data SET."
        )
    return found


def _key(path: Path) -> Key:
    header = header_in(path)
    tag = header["protocol"].get("tag") or "ensemble"
    return str(header.get("data_set")), str(header.get("data_hash")), str(tag)


def _counted(
    singles: Sequence[ScoredClassifier],
) -> tuple[list[Mapping[str, Any] | None], list[str]]:
    """The counts of each net at its own size, and why some have none."""
    try:
        import torch

        from resdet import nets
    except ModuleNotFoundError as error:
        return [None] * len(singles), [f"Nothing is counted: {error.name} is not installed here."]
    counts: list[Mapping[str, Any] | None] = []
    notes = []
    for one in singles:
        net = one.scores.net
        size = (net.get("input") or {}).get("size")
        try:
            with torch.device("meta"):
                built = nets.build(
                    str(net["name"]), len(one.scores.classes), **(net.get("net_options") or {})
                )
            values = nets.count_layers(built, int(str(size))).to_json()
            counts.append({k: v for k, v in values.items() if k != "layers"})
        except (KeyError, TypeError, ValueError, ImportError, NotImplementedError) as error:
            counts.append(None)
            notes.append(f"{one.title} is not counted: {error}.")
    return counts, notes


def tables(page: SideBySide) -> list[str]:
    """Errors and pairs, for people; the rest is on the page."""
    lines = [f"{page.headline}.", page.standfirst, ""]
    lines += ruled(error_head(page), error_rows(page), left=(0, 1, 6))
    lines += ["", *ruled(PAIR_HEAD, [test.cells() for test in page.result.tests])]
    if page.settings:
        names = ", ".join(row.name for row in page.settings[:8])
        lines += ["", f"{len(page.settings)} settings differ: {names}"
                      f"{', …' if len(page.settings) > 8 else ''}"]  # fmt: skip
    lines += [f"Note: {note}" for note in page.notes]
    return [*lines, ""]

"""Writes the last part of docs/protocol.md: each preset against the paper, key by key.

    python tools/make_protocol_page.py            writes that part of the page
    python tools/make_protocol_page.py --check    writes nothing, exit code 1 where it differs

The values are those that presets resolve to; the paper's, and who states them, are in
resdet/evaluation/published/protocols.yaml. What stands above the mark is written by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from preset_record import DATA_SETS, NETS, RECIPES, Recipe
from preset_text import CONFIGS
from written_page import add_check, write_or_check

from resdet.config import check_reference_batch, resolve
from resdet.detect.architecture import derived_keys
from resdet.detect.architecture.backbone import build_net
from resdet.detect.plan import departures
from resdet.evaluation.published.departures import Departure
from resdet.evaluation.published.published_protocols import of_every_run

PAGE = Path(__file__).resolve().parents[1] / "docs" / "protocol.md"
MARK = "<!-- From here on written by tools/make_protocol_page.py -->\n"
HEAD = """
## Each preset against the paper

What the papers state, or their code has, and what a preset has instead, each key with its source.
*He* is He et al. 2015, *Ren* Ren et al. 2015 (Faster R-CNN), *code* py-faster-rcnn. A star makes it
another experiment: `compare` shows no published number beside it. Presets of a row: data sets and
nets, "all" for each preset of the table. `train_det --explain` prints the same of any config.
"""
HELD_AGAINST = """
Held against table 7's baseline, whose data these are: `compare` shows no number beside a run that
starts from a detector. The paper's baseline+++ has the improvements of table 9, too.
""".lstrip()


def page_part() -> str:
    """The text below the mark."""
    lines = [HEAD]
    for recipe in RECIPES:
        lines += _of_recipe(recipe)
    lines += ["### In every preset", "", "| what | paper | here | source |",
              "| --- | --- | --- | --- |"]  # fmt: skip
    lines += [_row(d.what, d.paper, d.here, d.source) for d in of_every_run()]
    lines += ["", *_of_classifiers()]
    return "\n".join(lines) + "\n"


def _of_recipe(recipe: Recipe) -> Iterator[str]:
    """A table of one folder of presets."""
    folder = f"configs/{recipe.folder}/" if recipe.folder else "configs/"
    presets = [(data, net) for data in recipe.data for net in recipe.nets]
    rows: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for data, net in presets:
        for departure in _departures(recipe, data, net):
            rows.setdefault(_cells(departure), []).append((data, net))
    yield f"### `{folder}*.yaml`: {recipe.recipe}\n"
    if "plus" in recipe.over:
        yield HELD_AGAINST
    if not rows:
        yield "Nothing but what is in every preset.\n"
        return
    yield "| what | key | paper | here | source | presets |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for cells, which in sorted(rows.items(), key=lambda row: not row[0][0].startswith("*")):
        yield _row(*cells, _in_words(which, presets))
    yield ""


def _departures(recipe: Recipe, data: str, net: str) -> list[Departure]:
    # Some weights, as a preset is meant to be used: what starts at random is frozen nowhere.
    config = resolve(
        CONFIGS / recipe.folder / f"{recipe.stem(data, net)}.yaml", ["MODEL.WEIGHTS", "FILE"]
    )
    check_reference_batch(config)
    cfg = config.cfg
    with torch.device("meta"):
        built = build_net(cfg)
        keys = derived_keys.of_net(built, cfg.MODEL.BACKBONE.NAME, cfg.MODEL.ROI_HEADS.NAME)
        config.fill(keys, "the net")
        config.fill(derived_keys.of_recipe(cfg, built), "the net")
    return departures(cfg)[1]


def _cells(departure: Departure) -> tuple[str, ...]:
    star = "* " if departure.decides else ""
    key = f"`{departure.key}`" if departure.key else ""
    return f"{star}{departure.what}", key, departure.paper, departure.run, departure.source


def _in_words(which: Sequence[tuple[str, str]], every: Sequence[tuple[str, str]]) -> str:
    """ "all", or data sets, with nets where not all of theirs are meant."""
    if set(which) == set(every):
        return "all"
    parts = []
    for data in DATA_SETS:
        nets = [net for d, net in which if d == data]
        theirs = [net for d, net in every if d == data]
        if nets and nets == theirs:
            parts.append(data)
        elif nets:
            names = ", ".join(net for net in NETS if net in nets)
            parts.append(f"{data} ({names})")
    return ", ".join(parts)


def _of_classifiers() -> Iterator[str]:
    """The headers of configs/pretrain, which `make_presets.py` writes from the record."""
    yield "### `configs/pretrain/*.yaml`: classifiers"
    yield ""
    yield "| preset | published | differs |"
    yield "| --- | --- | --- |"
    for path in sorted((CONFIGS / "pretrain").glob("*.yaml")):
        if not path.name.startswith("base"):
            header = _header(path.read_text(encoding="utf-8"))
            differs = header.get("Differs", "in nothing that the paper states")
            yield _row(f"`{path.stem}`", header["Source"], differs)


def _header(text: str) -> dict[str, str]:
    """Name to text of the comment lines at the top, continued lines joined."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := re.fullmatch(r"# (\w+) {2,}(\S.*)", line):
            name = match[1]
            found[name] = match[2]
        elif name and (more := re.fullmatch(r"# {10}(\S.*)", line)):
            found[name] += f" {more[1]}"
    return found


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def main(argv: Sequence[str]) -> int:
    """Writes or checks the page; returns the exit code."""
    parser = argparse.ArgumentParser(description="Writes the last part of docs/protocol.md.")
    add_check(parser)
    check = parser.parse_args(argv).check
    by_hand = PAGE.read_text(encoding="utf-8").partition(MARK)[0].rstrip("\n") + "\n\n"
    return write_or_check(PAGE, by_hand + MARK + page_part(), check=check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

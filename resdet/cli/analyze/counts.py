"""`resdet analyze counts`: parameters and multiply-adds per stage, as table 1 of He et al. 2015.

Not for: counting (`resdet.nets`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resdet import nets
from resdet.atomic import write_text
from resdet.cli.analyze.net_sources import NetSource, source_of
from resdet.errors import ConfigError
from resdet.evaluation.published.published_tables import published
from resdet.nets.layer_counts import NetCounts
from resdet.printable import show, show_json
from resdet.report.classifiers.count_picture import count_picture
from resdet.report.render.charts import standalone
from resdet.run.folder import write_json
from resdet.text_table import ruled

RULE = (
    "Parameters: every learnable value; running statistics of norms are none. Multiply-adds: "
    "products of convolutions, linear layers and attention alone (He et al. 2015, table 1)."
)


@dataclass(frozen=True)
class CountedNet:
    """A net with its counts; `title` is another one for each."""

    title: str
    source: NetSource
    counts: NetCounts

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "net": self.source.name,
            "net_options": self.source.options,
            "num_classes": self.source.num_classes,
            "paper_multiply_adds": self.paper,
            **self.counts.to_json(),
        }

    @property
    def paper(self) -> float | None:
        """What He et al. 2015 print for the net at 224 x 224, or None."""
        if self.counts.size != (224, 224) or self.source.num_classes != 1000:
            return None
        if set(self.source.options) - {"shortcut", "stride_in_1x1"}:
            return None
        numbers = published(net=self.source.name, metric="multiply-adds")
        return numbers[0].value * 1e9 if numbers else None


def run(args: argparse.Namespace) -> int:
    """Counts, prints, writes where --output is given; returns 0."""
    size = _size(args.size)
    counted: list[CountedNet] = []
    for typed in args.nets:
        source = source_of(typed, classes=args.classes, part=args.part)
        counted.append(CountedNet(_title(typed, counted), source, _counts(source, size)))
    values = {"rule": RULE, "nets": [one.to_json() for one in counted]}
    if args.output:
        folder = Path(args.output)
        write_json(folder / "counts.json", values)
        write_text(folder / "counts.svg", standalone(picture(counted)))
    if args.json:
        show_json(values)
        return 0
    show("\n".join(tables(counted, with_layers=args.layers)))
    if args.output:
        show(f"files: {Path(args.output) / 'counts.json'}, counts.svg")
    return 0


def _size(stated: Sequence[int] | None) -> tuple[int, int] | None:
    if stated is None:
        return None
    if len(stated) > 2 or min(stated) < 1:
        raise ConfigError(
            f"--size is {' '.join(map(str, stated))}: give one side, or height and width, in "
            "pixels."
        )
    return stated[0], stated[-1]


def _counts(source: NetSource, size: tuple[int, int] | None) -> NetCounts:
    height, width = size or (source.side, source.side)
    try:
        return nets.count_layers(source.net, height, width)
    except ValueError as error:
        raise ConfigError(
            f"{source.source}: {str(error).rstrip('.')}. State another --size."
        ) from None


def _title(typed: str, others: Sequence[CountedNet]) -> str:
    path = Path(typed)
    name = (path.resolve().name if path.is_dir() else path.stem) if path.exists() else typed
    repeats = sum(one.title == name or one.title.startswith(f"{name} (") for one in others)
    return f"{name} ({repeats + 1})" if repeats else name


def tables(counted: Sequence[CountedNet], *, with_layers: bool) -> list[str]:
    """All nets in one table, then each one's stages, for people."""
    rows = []
    for one in counted:
        p = one.counts.parameters
        paper = "-" if one.paper is None else f"{one.paper / 1e9:.1f}e9"
        cells = [p.weights, p.norm_affine, p.biases, *([p.other] if _has_other(counted) else []),
                 p.total, one.counts.multiply_adds]  # fmt: skip
        rows.append([one.title, *(f"{n:,}" for n in cells), paper, _by(one.counts.size)])
    head = ["net", "weights", "norms", "biases", *(["other"] if _has_other(counted) else []),
            "parameters", "multiply-adds", "paper", "image"]  # fmt: skip
    lines = [*ruled(head, rows), RULE]
    for one in counted:
        lines += ["", f"{one.title}: {_described(one.source)}", "", *_stages(one.counts)]
        if with_layers:
            lines += ["", *_layers(one.counts)]
    return lines


def _has_other(counted: Sequence[CountedNet]) -> bool:
    return any(one.counts.parameters.other for one in counted)


def _described(source: NetSource) -> str:
    options = [f"{k} {v}" for k, v in source.options.items()]
    return ", ".join([source.name, *options, f"{source.num_classes:,} classes"])


def _stages(counts: NetCounts) -> list[str]:
    rows = [
        [s.name, _shape(s.output), f"{s.parameters.total:,}", f"{s.multiply_adds:,}", s.row()]
        for s in counts.stages
    ]
    total = ["all", "", f"{counts.parameters.total:,}", f"{counts.multiply_adds:,}", ""]
    return ruled(("stage", "output", "parameters", "multiply-adds", "layers"), [*rows, total],
                 left=(0, 1, 4))  # fmt: skip


def _layers(counts: NetCounts) -> list[str]:
    rows = [
        [x.name or "(the net itself)", x.words or x.kind, _shape(x.output),
         f"{x.parameters.total:,}", f"{x.multiply_adds:,}"]
        for x in counts.layers
    ]  # fmt: skip
    return ruled(("layer", "what", "output", "parameters", "multiply-adds"), rows, left=(0, 1, 2))


def _shape(shape: Sequence[int]) -> str:
    """ "56x56, 64" of a map, as the paper has it; other shapes as they are."""
    if len(shape) == 3:
        return f"{shape[1]}x{shape[2]}, {shape[0]}"
    return "x".join(map(str, shape))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def picture(counted: Sequence[CountedNet]) -> str:
    """Multiply-adds of each stage, a bar per net."""
    stages = [{s.name: s.multiply_adds for s in one.counts.stages} for one in counted]
    return count_picture([one.title for one in counted], stages)

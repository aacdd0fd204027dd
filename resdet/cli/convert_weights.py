"""`resdet convert_weights inspect`, `convert`, `card`, `export`, `push`: what a file is, where it
can go.

Exit codes: 0 when done, and for `inspect` when the file loads; 1 when it does not; 2 when there is
nothing to work on.

Not for: reading images; who calls `run` hands over how .
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from typing import Any

from resdet.cli.arguments import convert_weights as add_arguments  # noqa: F401 as all commands have
from resdet.cli.export_onnx import run_export
from resdet.errors import UserError, WeightsError
from resdet.printable import show, show_json
from resdet.run.folder import write_json
from resdet.weights import native_names
from resdet.weights.addresses import hub_folder
from resdet.weights.addresses.fetch import local_path
from resdet.weights.cards import COLOR_ORDERS, Card, Input, path_beside
from resdet.weights.conversion import Conversion, convert
from resdet.weights.doctor import diagnosis, image_probe
from resdet.weights.doctor.first_layer import clashes
from resdet.weights.origins.habits import INPUT, STRIDE, needs_stride_rule, norm_of, unknown_of
from resdet.weights.origins.origin import IMAGENET_RGB
from resdet.weights.resolve import WeightFile


def run(args: argparse.Namespace) -> int:
    """Does one action; gives the exit code."""
    if args.action == "inspect":
        return _inspect(args)
    actions = {"convert": _convert, "card": _card, "export": run_export, "push": _push}
    return actions[args.action](args)


# -- inspect -----------------------------------------------------------------------------------


def _inspect(args: argparse.Namespace) -> int:
    file = WeightFile(args.file, args.part)
    report = diagnosis.inspect_file(file)
    verdict, not_probed = None, ""
    if args.images is not None:
        try:
            verdict = _probed(args, file)
        except UserError as error:
            # The report stands without it.
            not_probed = str(error)
    if args.json:
        output = report.to_json()
        if not_probed:
            output["probe"] = {"problem": not_probed}
        if verdict is not None:
            output["probe"] = verdict.to_json()
            if verdict.best is not None:
                output["color_order"] = verdict.best.color_order
                output["stride_rule"] = verdict.best.stride_rule or output["stride_rule"]
        show_json(output)
    else:
        show("\n".join(_page(report)))
        if verdict is not None:
            show("\n".join(_probe_page(verdict)))
        if not_probed:
            show(f"\nimages: {not_probed}")
    return 0 if report.loadable and not not_probed else 1


def _probed(args: argparse.Namespace, file: WeightFile) -> image_probe.Verdict:
    # Here: everything else works with torch, numpy and safetensors alone.
    from resdet.pretrain.labelled_images import read_images

    if card := file.card_inside:
        net, options, tensors = card.net, card.net_options, file.contents.tensors
        size, is_open = card.input.size, False
    else:
        identified, habits = file.identification, file.habits
        net, options, tensors = identified.net, habits.options, identified.tensors
        is_open = STRIDE in unknown_of(habits)
        size = 32 if net.startswith("cifar_") else 224
        if identified.missing:
            raise WeightsError(
                f"{args.file} lacks {len(identified.missing)} tensors of {net}: it classifies "
                "nothing, so images cannot tell its conventions. Leave --images out."
            )
    if "linear.bias" not in tensors:
        raise WeightsError(
            f"{args.file} has no last layer under our names, so images cannot tell its "
            "conventions. In Python: "
            "resdet.weights.doctor.image_probe.probe(build, images, labels)."
        )
    images, labels = read_images(args.images, size, len(tensors["linear.bias"]), args.classes)
    ways = 2 * len(image_probe.RANGES)
    show(f"{len(images)} images, {ways} ways to read them …", error=True)
    return image_probe.probe_tensors(net, options, tensors, images, labels, stride_is_open=is_open)


def _page(report: diagnosis.Diagnosis) -> list[str]:
    if report.container is None:
        return [f"{'problem':12} {problem}" for problem in report.problems]
    rows = [
        ("file", report.path),
        ("origin", f"{report.origin or 'unknown'}{'' if report.verified else ' (by its names)'}"
         if report.origin else "unknown"),
        ("net", _net(report)),
        ("container", " / ".join((report.container, *report.wrappers))),
        ("tensors", f"{report.tensors:,} ({report.parameters:,} parameters)"),
        ("input", _input(report)),
        ("first layer", report.color.why),
        ("", report.scale.why),
        ("stride", report.stride_rule or "not known"),
        ("norms", report.norms.sentence() if report.norms else "not looked at"),
        *(("note", note) for note in report.notes),
        ("loads into", _fits(report)),
        *(("problem", problem) for problem in report.problems),
    ]  # fmt: skip
    lines = [f"{name:12} {text}" for name, text in rows]
    return [*lines, "", "loads" if report.loadable else "does not load as it is"]


def _net(report: diagnosis.Diagnosis) -> str:
    if report.architecture is None:
        return "unknown"
    kind = f", inside a Detectron2 {report.detector} detector" if report.detector else ""
    return f"{report.architecture}{kind}"


def _input(report: diagnosis.Diagnosis) -> str:
    if report.input is None:
        return "not known"
    mean, std = (", ".join(f"{v:g}" for v in x) for x in (report.input.mean, report.input.std))
    how = (
        "its card" if report.origin == "resdet" else "on record" if report.verified else "by habit"
    )
    return f"{report.input.color_order}, (0 to 255 - [{mean}]) / [{std}], {how}"


def _fits(report: diagnosis.Diagnosis) -> str:
    return (
        ", ".join(f"{f.net} {f.arrived} of {f.expected}" for f in report.fits) or "no net of resdet"
    )


def _probe_page(verdict: image_probe.Verdict) -> list[str]:
    lines = ["", f"top-1 on {verdict.images} labelled images"]
    lines += [
        f"  {100 * t.num_right / verdict.images:5.1f} %  {t.name()}" for t in verdict.trials[:6]
    ]
    return [*lines, f"made for: {verdict.sentence()}"]


# -- convert -----------------------------------------------------------------------------------


def _convert(args: argparse.Namespace) -> int:
    done = convert(args.file, args.to, args.output, color_order=args.color, part=args.part)
    if args.json:
        show_json(done.to_json())
    else:
        show("\n".join(_conversion_page(done)))
    return 0


def _conversion_page(done: Conversion) -> list[str]:
    lines = [f"{done.path}: {done.card.net} for {done.to}, {done.tensors} tensors"]
    if done.missing:
        lines.append(f"  not whole: {done.missing} tensors of {done.card.net} were missing already")
    if done.left_out:
        lines.append(f"  left out, not kept there: {len(done.left_out)} ({done.left_out[0]}, …)")
    lines += [f"  {note}" for note in done.notes]
    lines += ["logits on two fixed inputs, float64", *(f"  {p.sentence()}" for p in done.parities)]
    if done.keys:
        lines += ["set in a Detectron2 config:", *(f"  {key}" for key in done.keys)]
    return lines


# -- push --------------------------------------------------------------------------------------


def _push(args: argparse.Namespace) -> int:
    file = WeightFile(args.file, args.part)
    made = hub_folder.write(file, args.address, args.output, license_id=args.license)
    if args.upload:
        made = hub_folder.upload(made, private=args.private)
    if args.json:
        show_json(made.to_json())
        return 0
    show(f"{made.folder}: {made.card.net} for {made.address}")
    if made.url:
        show(f"uploaded: {made.url}")
    else:
        words = ["hf", "upload", made.address.removeprefix("hf://"), str(made.folder)]
        show(f"nothing was uploaded. Look at it, then: {shlex.join(words)}")
    return 0


# -- card --------------------------------------------------------------------------------------


def _card(args: argparse.Namespace) -> int:
    args.file = local_path(args.file)
    file = WeightFile(args.file, args.part, net_given=True)
    if file.has_card_inside:
        raise WeightsError(f"{args.file} has its card inside; a second one would contradict it.")
    beside = path_beside(args.file)
    if beside.exists():
        raise WeightsError(
            f"{beside} is there: what was stated once is kept. Delete it to state something else."
        )
    if args.size is not None and args.size < 1:
        raise WeightsError(f"--size is {args.size}, expected pixels, 1 or more.")
    if args.net:
        return _card_of_named(args, file)
    identified, habits = file.identification, file.habits
    options = dict(habits.options)
    stated = _stated_input(args, habits.input)
    if args.stride and not needs_stride_rule(identified.net):
        raise WeightsError(f"--stride: a {identified.net} has no choice of stride. Leave it out.")
    if args.stride:
        options["stride_in_1x1"] = args.stride == "1x1"
    lacking = [INPUT] if stated is None else []
    if needs_stride_rule(identified.net) and "stride_in_1x1" not in options:
        lacking.append(STRIDE)
    if lacking and sys.stdin.isatty():
        stated, options = _ask(lacking, stated, options)
    elif lacking:
        raise WeightsError(
            f"{args.file} does not tell {' and '.join(lacking)}: "
            f"{'give --color, --mean and --std' if INPUT in lacking else ''}"
            f"{'; ' if len(lacking) > 1 else ''}{'give --stride' if STRIDE in lacking else ''}."
        )
    if stated is None:
        raise WeightsError(f"{args.file}: no input was stated.")
    confirmed = bool(args.color or args.mean or args.std or lacking)
    if not confirmed and (odd := clashes(stated, identified.tensors)):
        raise WeightsError(
            f"{args.file}: {'; '.join(odd)}. State which holds: give --color, --mean and --std."
        )
    card = Card(
        net=identified.net,
        net_options=options,
        input=stated,
        norm=norm_of(identified),
        origin=habits.origin,
        verified=confirmed or habits.verified,
        part=args.part or "",
        tensors_sha256=file.digest,
    )
    return _keep_card(args, card)


def _card_of_named(args: argparse.Namespace, file: WeightFile) -> int:
    """For --net: timm's record of it, changed by the flags."""
    recorded = native_names.card_for(file.path, file.contents, args.net)
    stated = _stated_input(args, recorded.input if recorded else None)
    if stated is None:
        raise WeightsError(
            f"{args.net} is a net of your own: give --color, --mean and --std of its input."
        )
    recorded = recorded or Card(args.net, stated, origin="a net of the user's own")
    verified = recorded.verified or bool(args.color or args.mean or args.std)
    return _keep_card(
        args,
        dataclasses.replace(
            recorded,
            input=stated,
            verified=verified,
            part=args.part or "",
            tensors_sha256=file.digest,
        ),
    )


def _keep_card(args: argparse.Namespace, card: Card) -> int:
    path = path_beside(args.file)
    write_json(path, card.to_dict())
    if args.json:
        show_json({"card": str(path), **card.to_dict()})
    else:
        mean, std = (" ".join(f"{v:g}" for v in x) for x in (card.input.mean, card.input.std))
        show(f"{path}: {card.net} {card.net_options or ''}")
        show(f"  {card.input.color_order}, mean {mean}, std {std}, {card.input.size} pixels")
    return 0


def _stated_input(args: argparse.Namespace, habit: Input | None) -> Input | None:
    """The origin's habit, changed by the flags; None while something is open."""
    size = args.size or (habit.size if habit else 224)
    if not (args.color or args.mean or args.std):
        return dataclasses.replace(habit, size=size) if habit else None
    order = args.color or (habit.color_order if habit else None)
    if order is None:
        return None
    # A habit in the other order is turned with it.
    usual = habit or IMAGENET_RGB
    turn = slice(None) if order == usual.color_order else slice(None, None, -1)
    mean = args.mean or (usual.mean[turn] if habit else None)
    std = args.std or (usual.std[turn] if habit else None)
    if mean is None or std is None:
        return None
    try:
        return Input(order, tuple(mean), tuple(std), size)
    except ValueError as error:
        raise WeightsError(f"--mean, --std: {error}.") from None


def _ask(
    lacking: list[str], stated: Input | None, options: dict[str, Any]
) -> tuple[Input, dict[str, Any]]:
    """On a terminal, what the flags left open."""
    if INPUT in lacking or stated is None:
        order = _asked("Colour order of its training images", COLOR_ORDERS)
        mean = _numbers("Mean per channel in that order, of 0 to 255", IMAGENET_RGB.mean)
        std = _numbers("Standard deviation per channel, of 0 to 255", IMAGENET_RGB.std)
        stated = Input(order, mean, std)
    if STRIDE in lacking:
        rule = _asked("Stride of its bottlenecks", ("1x1", "3x3"))
        options = {**options, "stride_in_1x1": rule == "1x1"}
    return stated, options


def _asked(question: str, choices: tuple[str, ...]) -> str:
    while True:
        answer = input(f"{question} ({' or '.join(choices)}): ").strip()
        if answer in choices:
            return answer


def _numbers(question: str, example: tuple[float, ...]) -> tuple[float, ...]:
    while True:
        answer = input(f"{question} (such as {' '.join(map(str, example))}): ")
        try:
            values = tuple(float(word) for word in answer.replace(",", " ").split())
        except ValueError:
            continue
        if len(values) == 3:
            return values

"""ONNX files: made through torch.export, rid of the maker's paths, kept only if a check passes.

Graphs are opset 18 with float32 tensors in one file. A file is written under a temporary name,
read back by onnx's checker and by onnxruntime, compared by the caller, and only then
renamed: what lies under the final name has passed.

Not for: which graph (`resdet.weights.onnx.net_export`, `resdet.detect.onnx.detector_export`).
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from resdet import __version__
from resdet.errors import UserError, WeightsError
from resdet.printable import json_text
from resdet.run.folder import atomic_path
from resdet.weights.cards import CARD_KEY, Card, Input

OPSET = 18
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# A protobuf message ends at 2 GiB; what is not weights takes the rest.
LARGEST_BYTES = 2**31 - 2**25


def require_packages() -> None:
    """Raises UserError when a package that export needs is not installed (F77)."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"export needs the packages {', '.join(PACKAGES)}; not installed here: "
            f"{', '.join(missing)}. Run: pip install 'resdet[onnx]'"
        )


def convert(
    graph: nn.Module,
    image: torch.Tensor,
    *,
    outputs: Sequence[str],
    dynamic: Mapping[int, str],
    what: str,
    translations: Mapping[Any, Any] | None = None,
) -> Any:
    """The `onnx.ModelProto` of a module that takes one tensor, the input `image`.

    Args:
        graph: in evaluation mode, on the CPU, float32.
        image: an example of the input; dynamic dimensions must not be 1 in it.
        outputs: names of what the module gives, in order.
        dynamic: dimension of the input to its name; all others are fixed as in `image`.
        what: the subject of the error's sentence.
        translations: operation of torch to a function of onnxscript, beside those of torch.

    Raises:
        WeightsError: torch.export or the translation to ONNX fails; quotes the error.
    """
    size = sum(t.numel() * t.element_size() for t in graph.state_dict().values())
    if size > LARGEST_BYTES:
        raise WeightsError(
            f"{what} has {size / 2**30:.2f} GiB of weights, an ONNX file holds less than 2 GiB. "
            "Export a narrower net, or its backbone alone."
        )
    try:
        with warnings.catch_warnings():
            # What matters of the result is compared with the net itself.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                (image,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=list(outputs),
                dynamic_shapes=(dict(dynamic),) if dynamic else None,
                custom_translation_table=dict(translations or {}),
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise WeightsError(
            f"{what} cannot be written as ONNX with torch {torch.__version__}: {reason(error)}. "
            "Nothing was written."
        ) from error
    assert program is not None  # only without dynamo
    model = program.model_proto
    _remove_traces(model)
    model.producer_name, model.producer_version = "resdet", __version__
    return model


def reason(error: BaseException) -> str:
    """The innermost cause of an exporter's error, in its first line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.') if lines else 'no message'}"


def _remove_traces(model: Any) -> None:
    """Takes out the exporter's stack traces: they hold paths and lines of the maker's machine."""
    model.doc_string = ""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for nodes in _nodes_of(graph):
            for node in nodes:
                node.doc_string = ""
                del node.metadata_props[:]
        for values in ("input", "output", "value_info", "initializer"):
            for value in getattr(graph, values):
                # A function's inputs are bare names.
                if not isinstance(value, str):
                    value.doc_string = ""
                    del value.metadata_props[:]


def _nodes_of(graph: Any) -> Iterator[Any]:
    """The nodes of a graph, and those of the graphs inside its nodes (branches and loops)."""
    yield graph.node
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _nodes_of(inner)


def about(card: Card | None, **more: Any) -> dict[str, str]:
    """The metadata of the file: the card, and further entries `resdet.<name>`, all JSON."""
    entries = {CARD_KEY: card.to_json()} if card is not None else {}
    for name, value in more.items():
        entries[f"resdet.{name}"] = json_text(value)
    return entries


def input_facts(given: Input, *, normalised: bool) -> dict[str, Any]:
    """The format of the tensor `image`, for programs: layout, order, range, what is done inside."""
    return {
        "layout": "NCHW",
        "dtype": "float32",
        "color_order": given.color_order,
        "range": None if normalised else [0, 255],
        "normalised": normalised,
        "mean": list(given.mean),
        "std": list(given.std),
        "exif": given.exif,
    }


@contextmanager
def checked(path: Path | str, model: Any, entries: Mapping[str, str]) -> Iterator[Any]:
    """Writes a model and gives an onnxruntime session on it; the name is taken when all went well.

    An error raised in the block leaves no file, and an older one of that name as it was.

    Raises:
        WeightsError: the path cannot be written, or onnx or onnxruntime refuses the file.
    """
    import onnx
    import onnxruntime

    onnx.helper.set_model_props(model, dict(entries))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; its warnings are about speed
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(model.SerializeToString())
            try:
                onnx.checker.check_model(str(temporary), full_check=True)
                session = onnxruntime.InferenceSession(
                    str(temporary), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # neither package has a common base of its own
                raise WeightsError(
                    f"{path} was not kept: onnx {onnx.__version__} or onnxruntime "
                    f"{onnxruntime.__version__} refuses it: {reason(error)}."
                ) from error
            yield session
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror}. Choose another.") from None


def largest_difference(output: np.ndarray, expected: torch.Tensor) -> float:
    """max |output - expected| / max(1, max |expected|); infinite where a value is not finite.

    Raises:
        WeightsError: the shapes differ.
    """
    reference = expected.detach().numpy()
    if output.shape != reference.shape:
        raise WeightsError(
            f"onnxruntime gives the shape {output.shape}, torch {reference.shape}. "
            "This is a bug in an exporter; the file was not kept."
        )
    if not (np.isfinite(output).all() and np.isfinite(reference).all()):
        return float("inf")
    if reference.size == 0:
        return 0.0
    scale = max(1.0, float(np.abs(reference).max()))
    return float(np.abs(output.astype(np.float64) - reference).max()) / scale

"""An RPN alone on a test set: its file of proposals, and their recall from the file.

    results/<set>/proposals.safetensors, recall.json, ground_truth.json.gz, images.json, samples/

Not for: detections (`detect.testing.inference`), or the numbers themselves
(`resdet.evaluation`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.utils import comm
from torch import nn

from resdet import profile
from resdet.data.images.reader import ImageReader
from resdet.data.records import DetectionSet
from resdet.detect.alternating.proposal_making import ProposalParts, make_proposals
from resdet.detect.alternating.proposal_room import proposal_bytes
from resdet.detect.loading import Mapper
from resdet.detect.testing.inference import write_set
from resdet.detect.testing.partial_results import Policy, fingerprint_of, weights_digest
from resdet.engine.data_workers import num_workers
from resdet.evaluation.inputs.ground_truth import read_ground_truth
from resdet.evaluation.proposals.recall import ProposalRecall, recall_of
from resdet.formats.proposal_file import ProposalFile
from resdet.run import layout
from resdet.run.folder import write_json


def propose_and_score(
    cfg: Any,
    model: nn.Module,
    data: DetectionSet,
    reader: ImageReader,
    folder: Path,
    *,
    policy: Policy | None = None,
    num_samples: int = 0,
) -> ProposalRecall | None:
    """Writes a result folder; its recall, None for a set without annotations.

    But for the first process it is always None.

    Raises:
        Interrupted, TrainingStopped, RunError, CheckFailed: as `make_proposals`.
    """
    digest = weights_digest(model)
    mark = {**fingerprint_of(cfg, digest, data), "of": "proposals"}
    # Within a training it may be a temporary one, of which each process has its own.
    folder = comm.all_gather(folder)[0]
    # Within a training nothing is gone on from.
    policy = policy or Policy(resuming=False, refuses_others=False)
    parts = ProposalParts.open(folder / layout.PARTS, data, digest, mark, policy)
    path = folder / layout.PROPOSALS
    seconds = make_proposals(
        model, data, Mapper.of(cfg, reader, is_train=False), path, parts,
        most_bytes=proposal_bytes(cfg, model, len(data), as_in_training=False),
        num_workers=num_workers(cfg, images=len(data)), batch_size=cfg.TEST.IMS_PER_BATCH,
    )  # fmt: skip
    if not comm.is_main_process():
        return None
    visited = [record["image_id"] for record in data.records]
    with profile.section("writing results"):
        write_set(folder, data, visited, seconds, num_samples=num_samples, reader=reader)
    if not data.annotated:
        return None
    with profile.section("evaluation"):
        truth = read_ground_truth(folder / layout.GROUND_TRUTH)
        recall = recall_of(truth, ProposalFile(path))
    write_json(folder / layout.RECALL, recall.to_json())
    return recall

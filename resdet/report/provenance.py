"""What a reader needs to trust or to repeat a run, as rows of text.

Not for: what is compared (`comparability`); this is the record.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from resdet.report.comparison import backbone_gains
from resdet.report.runs import Column
from resdet.run import layout


def provenance(column: Column) -> dict[str, Any]:
    """What a reader needs to trust or repeat a run; rows without a value are left out."""
    info = column.run.info
    transfer = column.run.read(layout.TRANSFER, {}) or {}
    counts = {
        name.replace("_", " "): len(value) if isinstance(value, list | dict) else value
        for name, value in transfer.items()
        if isinstance(value, list | dict | int)
    }
    if column.foreign:
        rows = [("file", info.get("file")), ("SHA-256", info.get("file_sha256"))]
        rows += [("ground truth", info.get("ground_truth")), ("read", info.get("finished"))]
        shown = [(k, str(v)) for k, v in rows if v]
        return {"column": column, "rows": shown, "config": "", "card": "{}"}
    rows = [
        ("folder", str(column.run.path)),
        ("run", info.get("id")),
        ("state", info.get("state")),
        ("begun", info.get("created")),
        ("command", shlex.join(map(str, info.get("command") or []))),
        ("weights from", _source(info)),
        ("seed", column.seed),
        ("host and device", ", ".join(str(info[k]) for k in ("host", "device") if info.get(k))),
        ("training time", backbone_gains.duration(column.seconds) if column.seconds else ""),
        ("tensors", ", ".join(f"{name} {count:,}" for name, count in counts.items())),
        ("versions", ", ".join(f"{k} {v}" for k, v in (info.get("versions") or {}).items())),
    ]
    return {
        "column": column,
        "rows": [(k, str(v)) for k, v in rows if v not in (None, "")],
        "config": column.run.config_text,
        "card": json.dumps(_short_card(column.card), indent=1, ensure_ascii=False),
    }


def _source(info: dict[str, Any]) -> str:
    """Of weights that came by an address: it, the file's hash and licence; of what is scored, as
    far as it came so, else of what the training began with."""
    source = info.get("scored_source") or info.get("weights_source") or {}
    revision = source.get("revision", "")
    parts = (
        source.get("address", ""),
        revision and f"revision {revision}",
        source.get("sha256") and f"SHA-256 {source['sha256']}",
        source.get("license") and f"licence {source['license']}",
    )
    return ", ".join(part for part in parts if part)


def _short_card(card: dict[str, Any]) -> dict[str, Any]:
    """The card without the classifier's whole config, which the weight file holds."""
    return {key: value for key, value in card.items() if key != "config"}

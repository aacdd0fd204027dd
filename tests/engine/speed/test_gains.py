"""The lines about speed: what is on, what was measured of it, what would gain; no other number."""

import re

import pytest

from resdet.engine.speed import gains
from resdet.engine.speed.gains import BF16_CPU, KEYS, Gain

BOTH = frozenset({"bfloat16", "channels_last"})
ROWS = (
    Gain(BF16_CPU, "net A", BOTH, 2.0, "day"),
    Gain(BF16_CPU, "net A", frozenset(KEYS), 1.5, "day"),
    Gain(BF16_CPU, "net B", BOTH, 1.25, "day"),
    Gain(BF16_CPU, "net B", frozenset(KEYS), 1.75, "day"),
)


@pytest.fixture
def bf16_cpu(monkeypatch):
    monkeypatch.setattr(gains, "has_bf16", lambda device: True)


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (
            (),
            [
                "speed: all keys off",
                "speed: with ENGINE.BF16 auto ENGINE.CHANNELS_LAST auto too it would be 2.00 "
                "(net A, day)",
                "speed: with ENGINE.BF16 auto ENGINE.CHANNELS_LAST auto ENGINE.FUSED_OPTIMIZER "
                "auto ENGINE.KEEP_MEMORY auto ENGINE.COMPILE on too it would be 1.75 (net B, day)",
            ],
        ),
        (
            BOTH,
            [
                "speed: bfloat16, channels_last. Times as fast as with all keys off: 2.00 (net A, "
                "day); 1.25 (net B, day)",
                "speed: with ENGINE.FUSED_OPTIMIZER auto ENGINE.KEEP_MEMORY auto ENGINE.COMPILE on "
                "too it would be 1.75 (net B, day)",
            ],
        ),
        (
            KEYS,
            [
                "speed: bfloat16, channels_last, fused SGD, memory kept, compiled. Times as fast "
                "as with all keys off: 1.50 (net A, day); 1.75 (net B, day)"
            ],
        ),
    ],
    ids=["all off", "two on", "all on"],
)
def test_lines_say_what_is_on_and_what_more_was_measured_to_gain(bf16_cpu, on, expected):
    assert gains.lines("cpu", on, ROWS) == expected


def test_what_was_not_measured_has_no_number(bf16_cpu, monkeypatch):
    """A combination that no row has; a GPU; a CPU without bf16 instructions."""
    line = gains.lines("cpu", ["fused SGD"])[0]
    assert line.endswith("What these gain on a CPU with bf16 instructions was not measured")
    assert gains.lines("cuda:0", ["bfloat16"]) == [
        "speed: bfloat16. What keys gain on a GPU was not measured; benchmarks/ does it"
    ]
    monkeypatch.setattr(gains, "has_bf16", lambda device: False)
    assert not any(re.search(r"\d\.\d", line) for line in gains.lines("cpu", KEYS))


def test_every_measured_row_names_keys_that_exist_and_a_script_that_exists():
    from pathlib import Path

    pytest.importorskip("detectron2")
    from resdet.config import get_cfg

    engine = get_cfg().ENGINE
    for words in KEYS.values():
        key, value = words.split()
        assert key.startswith("ENGINE.") and getattr(engine, key.removeprefix("ENGINE.")) == "off"
        assert value in ("on", "auto")
    root = Path(gains.__file__).parents[3]
    assert len(gains.MEASURED) > 0
    for gain in gains.MEASURED:
        assert gain.on <= set(KEYS) and gain.times > 0
        script = gain.net.rsplit(", ", 1)[1]
        assert (root / f"{script.replace('.', '/')}.py").exists()


def test_what_is_said_is_what_the_benchmarks_found():
    """Each row's number and date stand in benchmarks/results.json, rounded to two digits."""
    import json
    from pathlib import Path

    rows_of_keys = {
        BOTH: "ours, BF16 and CHANNELS_LAST",
        frozenset(KEYS) - {"compiled"}: "ours",
        frozenset(KEYS): "ours, with ENGINE.COMPILE",
    }
    page = Path(__file__).resolve().parents[3] / "benchmarks" / "results.json"
    found = json.loads(page.read_text(encoding="utf-8"))["benchmarks"]
    for gain in gains.MEASURED:
        benchmark = found[gain.net.rsplit("benchmarks.", 1)[1]]
        seconds = {row["name"]: row["seconds"] for row in benchmark["claims"][0]["rows"]}
        times = seconds["ours, all keys off"] / seconds[rows_of_keys[gain.on]]
        threads = benchmark["machine"]["torch_threads"]
        assert (gain.times, gain.when) == (
            round(times, 2),
            f"{benchmark['date']}, {threads} threads",
        )

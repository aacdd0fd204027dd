"""The published numbers: entered twice, checked against themselves, counted against our nets.

The second entry, in `PRINTED`, was made from another transcription than paper.yaml was: of each
table the numbers as printed, row by row.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from resdet.evaluation.published import published_tables

PRINTED = {
    "table 1": "112 56 28 14 7 1 | 64 1000 | 64 128 256 512 | 64 128 256 512 | "
    "256 512 1024 2048 | 2 2 2 2 1.8 | 3 4 6 3 3.6 | 3 4 6 3 3.8 | 3 4 23 3 7.6 | 3 8 36 3 11.3",
    "table 2": "27.94 | 27.88 | 28.54 | 25.03",
    "table 3": "28.07 9.33 | 9.15 | 24.27 7.38 | 28.54 10.02 | 25.03 7.76 | 24.52 7.46 | "
    "24.19 7.40 | 22.85 6.71 | 21.75 6.05 | 21.43 5.71",
    "table 4": "8.43 | 7.89 | 24.4 7.1 | 21.59 5.71 | 21.99 5.81 | 21.84 5.71 | 21.53 5.60 | "
    "20.74 5.25 | 19.87 4.60 | 19.38 4.49",
    "table 5": "7.32 | 6.66 | 6.8 | 4.94 | 4.82 | 3.57",
    "table 6": "9.38 | 8.81 | 8.22 | 19 2.5 8.39 | 19 2.3 7.54 7.72 0.16 | 32 1.25 8.80 | "
    "20 0.27 8.75 | 32 0.46 7.51 | 44 0.66 7.17 | 56 0.85 6.97 | 110 1.7 6.43 6.61 0.16 | "
    "1202 19.4 7.93",
    "table 7": "73.2 70.4 | 76.4 73.8",
    "table 8": "41.5 21.2 | 48.4 27.2",
    "table 9": "41.5 21.2 | 48.4 27.2 | 49.9 29.9 | 51.1 30.0 53.3 32.2 | 53.8 32.5 55.7 34.9 | "
    "59.0 37.4",
    "table 10": "73.2 | 76.4 | 85.6",
    "table 11": "70.4 | 73.8 | 83.8",
    "table 12": "43.9 | 60.5 58.8 | 63.6 62.1",
    "table 13": "33.1 | 13.3 | 11.7 | 4.6 14.4 | 10.6 | 8.9",
    "table 14": "30.0 29.9 | 26.7 | 26.9 25.3 | 8.9 9.0",
}


@pytest.mark.parametrize("source", PRINTED)
def test_a_table_is_as_printed(source: str) -> None:
    """Both transcriptions have the same numbers, in the same order, in the same rows."""
    rows = [[float(v) for v in row.split()] for row in PRINTED[source].split("|")]
    found: list[list[float]] = []
    last = None
    for number in published_tables.published(source=source):
        row = (number.system, number.net, number.shortcut, number.train, number.note)
        if source in {"table 6", "table 7", "table 9", "table 12", "table 14"}:
            row = (number.system, number.net)
        elif source == "table 13":
            row = (number.system, number.protocol)
        elif source == "table 1":
            row = (number.system, number.metric.split()[0] == "output")
        if row != last:
            found.append([])
        found[-1].append(number.value)
        last = row
    assert found == rows


CLASSES = {
    ("table 10", "baseline", "vgg16"): "76.5 79.0 70.9 65.5 52.1 83.1 84.7 86.4 52.0 81.9 65.7 "
    "84.8 84.6 77.5 76.7 38.8 73.6 73.9 83.0 72.6",
    ("table 10", "baseline", "resnet101"): "79.8 80.7 76.2 68.3 55.9 85.1 85.3 89.8 56.7 87.8 "
    "69.4 88.3 88.9 80.9 78.4 41.7 78.6 79.8 85.3 72.0",
    ("table 10", "baseline+++", "resnet101"): "90.0 89.6 87.8 80.8 76.1 89.9 89.9 89.6 75.5 90.0 "
    "80.7 89.6 90.3 89.1 88.7 65.4 88.1 85.6 89.0 86.8",
    ("table 11", "baseline", "vgg16"): "84.9 79.8 74.3 53.9 49.8 77.5 75.9 88.5 45.6 77.1 55.3 "
    "86.9 81.7 80.9 79.6 40.1 72.6 60.9 81.2 61.5",
    ("table 11", "baseline", "resnet101"): "86.5 81.6 77.2 58.0 51.0 78.6 76.6 93.2 48.6 80.4 "
    "59.0 92.1 85.3 84.8 80.7 48.1 77.3 66.5 84.7 65.6",
    ("table 11", "baseline+++", "resnet101"): "92.1 88.4 84.8 75.9 71.4 86.3 87.8 94.2 66.8 89.4 "
    "69.2 93.9 91.9 90.9 89.6 67.9 88.2 76.8 90.3 80.0",
}


@pytest.mark.parametrize(("source", "system", "net"), CLASSES)
def test_classes_are_as_printed(source: str, system: str, net: str) -> None:
    """Tables 10 and 11 per class, entered twice; names in VOC's own words and order."""
    number = published_tables.the_number(source=source, system=system, net=net)
    printed = [float(v) for v in CLASSES[source, system, net].split()]
    assert list(number.per_class.values()) == printed
    assert tuple(number.per_class) == published_tables.voc_classes()
    assert published_tables.voc_classes()[0] == "aeroplane"
    assert published_tables.voc_classes()[-1] == "tvmonitor"


def test_the_tables_do_not_contradict_themselves() -> None:
    """Means of tables 10 and 11, what is printed twice, 28 %, 64 %, 8.5 points, depths."""
    assert published_tables.contradictions() == []


@pytest.mark.parametrize(
    ("expected", "value", "message"),
    [
        pytest.param({"source": "table 7", "net": "vgg16", "metric": "VOC area"}, 74.0,
                     "vgg16, VOC area, in table 7 and table 11: 74 and 70.4", id="repeat"),
        pytest.param({"source": "table 8", "net": "resnet101", "metric": "AP"}, 27.7,
                     "the relative gain of AP: 30.6604 and 28", id="gain"),
        pytest.param({"source": "table 1", "net": "resnet101", "metric": "blocks in conv4_x"}, 22.0,
                     "the layers of ResNet-101: 98 and 101", id="depth"),
        pytest.param({"source": "table 14", "system": "VGG (ILSVRC'14)",
                      "data_set": "ilsvrc_loc_test"}, 23.5,
                     "the relative reduction of table 14: 61.7021 and 64", id="reduction"),
        pytest.param({"source": "table 12", "system": "ensemble (ILSVRC'15)",
                      "data_set": "ilsvrc_det_test"}, 62.7,
                     "ILSVRC DET in table 12 and the contest", id="contest"),
    ],
)  # fmt: skip
def test_a_slip_is_found(expected: dict[str, Any], value: float, message: str) -> None:
    """One number changed: the check names it, with both values."""
    right = published_tables.the_number(**expected)
    slipped = [
        dataclasses.replace(n, value=value) if n is right else n
        for n in published_tables.all_published()
    ]
    assert any(message in line for line in published_tables.contradictions(slipped))


def test_a_slip_in_a_class_is_found() -> None:
    """A digit of one class of twenty moves the mean by more than rounding can."""
    right = published_tables.the_number(source="table 11", system="baseline", net="vgg16")
    wrong = dataclasses.replace(right, per_class={**right.per_class, "cow": 71.1})
    numbers = [wrong if n is right else n for n in published_tables.all_published()]
    assert published_tables.contradictions(numbers) == [
        "table 11, baseline vgg16: the classes have mean 70.10, the table has 70.4"
    ]


def test_every_number_states_what_it_is() -> None:
    """Source, system and metric always; data set and training set of every error and AP."""
    numbers = published_tables.all_published()
    assert len(numbers) == 240
    assert sum(len(n.per_class) for n in numbers) == 120
    assert {n.source for n in numbers} >= {f"table {i}" for i in range(1, 15)}
    for number in numbers:
        assert number.source
        assert number.system
        assert number.metric
        if number.source.startswith("table"):
            assert number.section
        if number.unit == "percent" and number.source.startswith("table"):
            assert number.data_set
            assert number.train or number.system == "GoogLeNet (ILSVRC'14)"


def test_what_is_not_certain_is_marked() -> None:
    """The DET list was read, CLS-LOC and COCO's lists are recalled or quoted."""
    status = {n.source: n.status for n in published_tables.all_published()}
    assert status["ILSVRC 2015 results, DET with provided data"] == "read"
    assert status["ILSVRC 2015 results, CLS-LOC"] == "recalled"
    assert status["COCO 2015 detection list"] == "recalled"
    assert {n.status for n in published_tables.published(source="COCO 2015 segmentation list")} == {
        "secondary", "recalled"
    }  # fmt: skip
    assert {n.status for n in published_tables.all_published() if n.source in PRINTED} == {"stated"}
    msra = published_tables.the_number(
        source="COCO 2015 detection list", system="MSRA", metric="AP"
    )
    assert "37.4" in msra.note


def test_one_number_is_one_number() -> None:
    """A search with several answers or none reports it; a wrong field lists the right ones."""
    number = published_tables.the_number(source="table 8", net="resnet101", metric="AP")
    assert (number.fraction, number.train) == (pytest.approx(0.272), ("coco_2014_train",))
    with pytest.raises(LookupError, match=r"2 published numbers have .* table 8, baseline, AP50"):
        published_tables.the_number(source="table 8", net="resnet101")
    with pytest.raises(LookupError, match="0 published numbers"):
        published_tables.the_number(source="table 15")
    with pytest.raises(TypeError, match="no field 'table'; there are value, metric, source"):
        published_tables.published(table=8)
    with pytest.raises(ValueError, match="multiply-adds of ResNet-50 is in 1e9, not in percent"):
        _ = published_tables.the_number(net="resnet50", metric="multiply-adds").fraction


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"statuss": "read"}, "'statuss' is neither a column", id="unknown-key"),
        pytest.param({"status": "sure"}, "status is 'sure'", id="unknown-status"),
        pytest.param({"rows": [{"system": "a"}]}, "t, row a has none of ap", id="no-number"),
        pytest.param({"rows": [{"system": "a", "ap": "1"}]}, "'1' is not a number", id="text"),
        pytest.param(
            {"rows": [{"system": "a", "ap": 1, "per_class": [1.0]}]}, "1 classes, not 2",
            id="classes",
        ),
    ],
)  # fmt: skip
def test_a_faulty_file_is_named(changes: dict[str, Any], message: str) -> None:
    """A key that nobody reads would be a number without its protocol."""
    block = {"source": "t", "columns": {"ap": {"metric": "AP"}}, "rows": [{"system": "a", "ap": 1}]}
    tree = {"classes": {"voc": ["cow", "dog"]}, "blocks": [block | changes]}
    with pytest.raises(ValueError, match=message):
        list(published_tables.read_blocks(tree))


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_table_1_counts_what_our_nets_count(depth: int) -> None:
    """Table 1 against the modules: blocks of each stage, multiply-adds (stride in the 1x1)."""
    pytest.importorskip("torch")
    from resdet import nets

    net = nets.build(f"resnet{depth}", stride_in_1x1=True)
    for stage in (2, 3, 4, 5):
        printed = published_tables.the_number(
            net=f"resnet{depth}", metric=f"blocks in conv{stage}_x"
        )
        assert len(getattr(net, f"res{stage}")) == printed.value
    printed = published_tables.the_number(net=f"resnet{depth}", metric="multiply-adds")
    assert nets.multiply_adds(net) / 1e9 == pytest.approx(printed.value, abs=0.1)


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110, 1202])
def test_table_6_counts_what_our_nets_count(depth: int) -> None:
    """Parameters of the CIFAR nets, rounded as printed: 0.27M to 19.4M."""
    pytest.importorskip("torch")
    from resdet import nets

    name = f"cifar_resnet{depth}"
    printed = published_tables.the_number(net=name, metric="parameters").value
    digits = 2 if depth < 100 else 1
    net = nets.build(name, num_classes=10, shortcut="A")
    assert round(nets.parameters(net) / 1e6, digits) == printed

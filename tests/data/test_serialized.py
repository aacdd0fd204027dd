"""Records and names as bytes: the same things, one at a time."""

import multiprocessing
import pickle
from pathlib import Path

import pytest

from resdet.data.serialized import Chosen, PlainList, SerializedList, TextList

RECORDS = [
    {"file_name": f"{i}.jpg", "annotations": [{"bbox": [0.0, 1.0, i, 3.0]}]} for i in range(5)
]


def test_records_come_back_and_are_copies():
    records = SerializedList(iter(RECORDS))
    assert len(records) == 5 and [*records] == RECORDS
    assert records[-1] == RECORDS[-1]
    records[0]["annotations"].clear()
    assert records[0] == RECORDS[0]
    assert [*records[1::2]] == RECORDS[1::2]
    with pytest.raises(IndexError):
        records[5]
    assert [*SerializedList([])] == []


def test_names_come_back_whatever_their_letters():
    names = ["a b.jpg", "ü/é.jpg", "", "\udcff.jpg", "x" * 300]
    listed = TextList(names)
    assert [*listed] == names and listed[-1] == names[-1] and [*listed[1:4]] == names[1:4]
    with pytest.raises(IndexError):
        listed[5]


def test_a_list_is_made_again_from_its_parts():
    for listed in (SerializedList(RECORDS), TextList(["a", "ü.jpg", ""]), TextList([])):
        again = type(listed).of(*listed.parts())
        assert [*again] == [*listed] and len(again) == len(listed)


def test_lists_go_to_workers_that_are_spawned():
    """F66: what they get is pickled, also where it came from a file."""
    for listed in (SerializedList(RECORDS), PlainList.of(*PlainList(RECORDS).parts())):
        for given in (listed, Chosen(listed, [3, 1])):
            assert [*pickle.loads(pickle.dumps(given))] == [*given]


def test_a_plain_list_makes_plain_values_alone():
    values = [{"a": (1, 2.5, None, True)}, ["ü", "\udcff"], {}]
    assert [*PlainList(values)] == values
    with pytest.raises(pickle.UnpicklingError, match="Path is no plain value"):
        PlainList([Path("x")])[0]


def test_chosen_items_are_those_of_the_list():
    chosen = Chosen(SerializedList(RECORDS), iter([4, 0, 2]))
    assert [*chosen] == [RECORDS[i] for i in (4, 0, 2)] and len(chosen) == 3
    assert chosen[-1] == RECORDS[2] and [*chosen[1:]] == [RECORDS[0], RECORDS[2]]
    with pytest.raises(IndexError):
        chosen[3]


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's smaps_rollup"
)
def test_a_worker_that_reads_all_keeps_no_copy():
    """Private memory of a forked process, before and after it has read every record: a list of
    dicts becomes its own, the bytes stay shared."""
    items = [{"id": i, "bbox": [float(i)] * 4, "name": f"{i:020d}"} for i in range(60_000)]
    context = multiprocessing.get_context("fork")

    def grown(records):
        queue = context.SimpleQueue()

        def read():
            before = private_mb()
            for record in records:
                assert record["bbox"]
            queue.put(private_mb() - before)

        process = context.Process(target=read)
        process.start()
        process.join()
        return queue.get()

    as_list, as_bytes = grown(items), grown(SerializedList(items))
    assert as_list > 4
    assert as_bytes < as_list / 3


def private_mb():
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024

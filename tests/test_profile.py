"""Spans by a clock that the test turns, worked by hand; the table and the picture of them."""

import multiprocessing
import os
import re
import signal
import threading
import xml.etree.ElementTree as ET

import pytest

from resdet import profile, profile_view
from resdet.errors import Interrupted
from resdet.profile import FIRST, Profile
from tests.support import children

SVG = "{http://www.w3.org/2000/svg}"


class Clock:
    """Seconds that pass when they are told to; eighths, so that sums are exact."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def recorded(clock):
    return profile.recording(Profile("work", clock=clock))


def training(clock, steps):
    """Steps of 4 s: 1 to wait (half of it decoding), 2 forward (NMS 0.5), 0.5 unnamed, 0.5 else."""
    with profile.section("training", "step"):
        clock.passes(0.25)
        for _ in range(steps):
            with profile.step():
                with profile.span(profile.WAIT):
                    clock.passes(0.5)
                    with profile.span(profile.DECODE):
                        clock.passes(0.5)
                with profile.span("forward"):
                    clock.passes(1.0)
                    with profile.span("RPN"):
                        clock.passes(0.5)
                        with profile.span("NMS"):
                            clock.passes(0.5)
                clock.passes(0.5)
                with profile.span("backward"):
                    clock.passes(0.5)


def test_nested_spans_have_their_sum_and_their_own_seconds(clock):
    """By hand: 4 s a step, of which 2 forward; of those 1 its own, 1 the RPN's, half of it NMS."""
    with recorded(clock) as record:
        clock.passes(2.0)
        training(clock, 5)
        clock.passes(0.125)
    report = record.report()
    assert (report.seconds, report.ready, report.other) == (22.375, 2.0, 0.125)
    (section,) = report.sections
    assert (section.seconds, section.around, section.unit) == (20.25, 0.25, "step")
    assert (section.steps.calls, section.steps.seconds, section.steps.own) == (5, 20.0, 2.5)
    assert list(section.steps.parts) == ["wait for data", "forward", "backward"]
    forward = section.steps.parts["forward"]
    assert (forward.seconds, forward.own, forward.calls) == (10.0, 5.0, 5)
    rpn = forward.parts["RPN"]
    assert (rpn.seconds, rpn.own, rpn.parts["NMS"].own) == (5.0, 2.5, 2.5)


def test_the_first_steps_are_apart_where_enough_are_left(clock):
    """Twelve steps, the first of which takes 8 s more."""
    with recorded(clock) as record, profile.section("training", "step"):
        for i in range(12):
            with profile.step(), profile.span("forward"):
                clock.passes(9.0 if i == 0 else 1.0)
    (section,) = record.report().sections
    assert (section.first.calls, section.first.seconds) == (FIRST, 11.0)
    assert (section.steps.calls, section.steps.seconds) == (9, 9.0)
    assert section.steps.parts["forward"].seconds == 9.0


def test_a_section_inside_a_step_is_taken_out_of_it(clock):
    """A measurement after a step: neither the step nor the span around it holds its 8 seconds."""
    with (
        recorded(clock) as record,
        profile.section("training", "step"),
        profile.step(),
        profile.span("log and checkpoints"),
    ):
        clock.passes(1.0)
        with profile.section("detecting", "image"):
            for _ in profile.stepwise("ab"):
                clock.passes(4.0)
        clock.passes(0.5)
    report = record.report()
    train, detect = report.sections
    assert (train.seconds, train.steps.seconds, train.around) == (1.5, 1.5, 0.0)
    assert train.steps.parts["log and checkpoints"].seconds == 1.5
    assert (detect.seconds, detect.steps.calls) == (8.0, 2)
    assert report.seconds == report.ready + train.seconds + detect.seconds + report.other == 9.5


def test_a_span_apart_stands_beside_the_one_that_it_runs_in(clock):
    """Pooling inside the tail's loop: 3 s of tail and 2 s of pooling, both parts of the heads."""
    with (
        recorded(clock) as record,
        profile.section("detecting", "image"),
        profile.step(),
        profile.span("RoI heads"),
        profile.span("RoI tail"),
    ):
        clock.passes(1.0)
        for _ in range(2):
            with profile.span("RoI pooling", apart=True):
                clock.passes(1.0)
            clock.passes(1.0)
    heads = record.report().sections[0].steps.parts["RoI heads"]
    assert {k: v.seconds for k, v in heads.parts.items()} == {"RoI tail": 3.0, "RoI pooling": 2.0}
    assert (heads.seconds, heads.own, heads.parts["RoI tail"].parts) == (5.0, 0.0, {})


def test_waiting_for_each_item_is_a_part_of_its_step(clock):
    """Two items, a second each to get and two to use; half a second to see that none is left."""

    def items():
        for i in range(2):
            clock.passes(1.0)
            yield i
        clock.passes(0.5)

    with recorded(clock) as record, profile.section("scoring", "batch"):
        for _ in profile.stepwise(items()):
            with profile.span("forward"):
                clock.passes(2.0)
    (section,) = record.report().sections
    assert (section.steps.calls, section.steps.seconds, section.around) == (2, 6.0, 0.5)
    assert section.steps.parts["wait for data"].seconds == 2.0


def test_a_loop_that_is_left_early_leaves_no_open_step(clock):
    """An error in a step, whose traceback keeps the generator alive: what was done is counted."""
    with recorded(clock) as record:
        with pytest.raises(RuntimeError, match="broken"), profile.section("scoring", "batch"):
            for _ in profile.stepwise(iter("abc")):
                with profile.span("forward"):
                    clock.passes(1.0)
                    raise RuntimeError("broken")
        with profile.section("evaluation"), profile.span("match"):
            clock.passes(2.0)
    scoring, evaluation = record.report().sections
    assert (scoring.seconds, scoring.steps.seconds, scoring.steps.calls) == (1.0, 1.0, 1)
    assert evaluation.steps.parts["match"].seconds == 2.0


def in_worker(clock):
    with profile.span(profile.DECODE):
        clock.passes(3.0)
    with profile.span("forward"), profile.section("training", "step"):
        clock.passes(1.0)


def test_work_of_workers_and_threads_is_beside_and_in_no_sum(clock):
    """3 s in a forked process and 3 s in a thread: six beside the section, none inside."""
    with recorded(clock) as record, profile.section("training", "step"):
        with profile.step(), profile.span("forward"):
            worker = multiprocessing.get_context("fork").Process(target=in_worker, args=(clock,))
            worker.start()
            worker.join()
        before = clock.now
        thread = threading.Thread(target=in_worker, args=(clock,))
        thread.start()
        thread.join()
        clock.now = before
    (section,) = record.report().sections
    assert worker.exitcode == 0
    assert (section.seconds, list(section.steps.parts)) == (0.0, ["forward"])
    beside = section.beside["decode"]
    assert (beside.seconds, beside.calls) == (6.0, 2)
    assert "not in the sum: decode, 6.00 s in 2 images" in profile_view.table(record.report())


def test_the_device_is_waited_for_before_the_clock_is_read(clock):
    """Work of 5 s that goes on by itself counts where it was begun, not where someone waits."""
    pending = []

    def settle():
        clock.passes(sum(pending))
        pending.clear()

    record = Profile("work", clock=clock, settle=settle)
    with profile.recording(record), profile.section("training", "step"), profile.step():
        with profile.span("forward"):
            pending.append(5.0)
        with profile.span("backward"):
            clock.passes(1.0)
    steps = record.report().sections[0].steps
    assert {k: v.seconds for k, v in steps.parts.items()} == {"forward": 5.0, "backward": 1.0}


def test_nothing_is_kept_without_a_recording():
    """The same empty context each time, and the very iterable that was given."""
    items = [1, 2]
    assert profile.span("a") is profile.step() is profile.section("b") is profile.OFF
    assert profile.stepwise(items) is items and profile.active() is None


def test_two_recordings_at_once_are_refused(clock):
    refusal = pytest.raises(ValueError, match="work is being recorded already")
    with recorded(clock), refusal, recorded(clock):
        pass


def test_a_signal_ends_a_recording_with_what_it_has(clock):
    """SIGTERM becomes Interrupted, exit code 143, and is the system's again afterwards."""
    record = Profile("work", clock=clock)
    with (
        pytest.raises(Interrupted) as error,
        profile.recording(record),
        profile.section("evaluation"),
        profile.span("match"),
    ):
        clock.passes(1.0)
        os.kill(os.getpid(), signal.SIGTERM)
    assert error.value.exit_code == 143
    assert record.report().sections[0].steps.parts["match"].seconds == 1.0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.fixture
def report(clock):
    with recorded(clock) as record:
        clock.passes(2.0)
        training(clock, 13)
        with profile.section("evaluation"), profile.span("match <&>"):
            clock.passes(4.0)
    return record.report(["Measured <here> & now."])


def numbers(line):
    return [float(n) for n in re.findall(r"(?<=  )[\d.]+(?= |$)", line)]


def test_every_block_of_the_table_sums_to_its_last_line(report):
    """The sum of the least indented rows of each block, in seconds, percent and ms a step."""
    blocks = profile_view.table(report).split("\n\n")
    heads = [block.splitlines()[0] for block in blocks]
    assert heads == [
        "Where the time of work went (wall clock)",
        "training: 10 steps of 4000.0 ms, without the first 3",
        "evaluation",
        "Measured <here> & now.",
    ]
    for block in blocks[:3]:
        rows = block.splitlines()[3:-2]
        sums = [numbers(row) for row in rows if not row.startswith(" ")]
        whole = numbers(block.splitlines()[-1])
        assert [sum(column) for column in zip(*sums, strict=True)] == pytest.approx(whole, abs=0.11)
        assert whole[1] == 100.0


def test_the_table_states_whose_part_a_row_is(report):
    block = profile_view.table(report).split("\n\n")[1].splitlines()[3:-2]
    assert [re.match(r" *[A-Za-z]+( [a-z]+)*", row).group() for row in block] == [
        "wait for data",
        "  decode",
        "  other",
        "forward",
        "  RPN",
        "    NMS",
        "    other",
        "  other",
        "backward",
        "other",
    ]
    assert numbers(block[5]) == [5.0, 12.5, 500.0]


def test_the_picture_is_xml_and_its_bars_are_as_long_as_their_time(report):
    """The parts of a bar lie side by side over its whole width; NMS is 12.5 % of its section."""
    root = ET.fromstring(profile_view.picture(report))
    width = profile_view.WIDTH - 32
    bars = {bar.find(f"{SVG}title").text: bar for bar in root.iter(f"{SVG}rect")}
    of_training = [bar for text, bar in bars.items() if text.endswith("ms a step")]
    tops = sorted({float(bar.get("y")) for bar in of_training})
    assert len(tops) == 3
    first = [float(b.get("width")) for b in of_training if float(b.get("y")) == tops[0]]
    assert sum(first) == pytest.approx(width, abs=0.5)
    nms = next(bar for text, bar in bars.items() if text.startswith("RPN: NMS: 5.000 s, 12.5 %"))
    assert float(nms.get("width")) == pytest.approx(0.125 * width, abs=0.1)
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert "forward 50 %" in texts and "match <&> 100 %" in texts


def test_a_report_of_nothing_has_a_table_and_a_picture(clock):
    with recorded(clock) as record:
        pass
    assert "whole          0.00  -" in profile_view.table(record.report())
    ET.fromstring(profile_view.picture(record.report()))


def test_profiling_needs_neither_torch_nor_detectron2():
    """Evaluation may import it."""
    code = "import sys, resdet.profile_view; assert not {'torch', 'numpy'} & {*sys.modules}"
    children.printed_by(code)

"""Files of scores come back whole or not at all; ensembles are means of probabilities."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from resdet.errors import DataError
from resdet.evaluation.classification.score_files import (
    ClassScores,
    ensemble,
    load_scores,
    save_scores,
    title_in,
)


def made(seed: int = 0, **changes: object) -> ClassScores:
    generator = np.random.default_rng(seed)
    values = generator.normal(scale=3, size=(4, 3))
    logs = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    scores = ClassScores(
        logs.astype(np.float32), np.array([0, 1, 2, 0]), ("a/1", "a/2", "b/ü", "c/\udcff"),
        ("a", "b", "c"), "pets", "0123456789abcdef", net={"name": "n", "title": f"net{seed}"},
        protocol={"kind": "centre"},
    )  # fmt: skip
    return dataclasses.replace(scores, **changes)  # type: ignore[arg-type]


def test_scores_come_back(tmp_path: Path) -> None:
    """Also names that are no text; the file is never pickled, and has no temporary beside it."""
    save_scores(tmp_path / "x.npz", made())
    back = load_scores(tmp_path / "x.npz")
    assert np.array_equal(back.log_probabilities, made().log_probabilities)
    assert back.log_probabilities.dtype == np.float32
    assert back.header() == made().header()
    assert back.labels.tolist() == [0, 1, 2, 0]
    assert title_in(tmp_path / "x.npz") == ("net0", "")
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    """Every byte of a small file, one after the other; what still loads is equal to the bit."""
    path = tmp_path / "x.npz"
    save_scores(path, made())
    raw = path.read_bytes()
    expected = made()
    refused = 0
    for place in range(0, len(raw), 7):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x55]) + raw[place + 1 :])
        try:
            back = load_scores(path)
        except DataError:
            refused += 1
            continue
        assert np.array_equal(back.log_probabilities, expected.log_probabilities)
        assert back.header() == expected.header()
    # The rest are dates, padding and the like in the zip's own headers.
    assert refused > 0.5 * len(raw) / 7


def test_content_without_its_hash_is_refused(tmp_path: Path) -> None:
    """The same header over other numbers, as an edit by hand would leave it."""
    path = tmp_path / "x.npz"
    save_scores(path, made())
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["log_probabilities"] = arrays["log_probabilities"][:, ::-1]
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="does not match the SHA-256"):
        load_scores(path)


def test_what_is_no_file_of_scores_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(DataError, match="does not exist"):
        load_scores(path)
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match="cannot be read as a file of scores"):
        load_scores(path)
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(DataError, match="it holds weights.npy"):
        load_scores(path)
    save_scores(path, made())
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez_compressed(path, **arrays)
    with pytest.raises(DataError, match="it is compressed"):
        load_scores(path)
    np.savez(path, **{**arrays, "labels": np.array([{}], dtype=object)})  # pickled by numpy
    with pytest.raises(DataError, match="cannot be read as a file of scores"):
        load_scores(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": np.array([0, 1, 2, 3])}, "labels go from 0 to 3, expected -1 to 2"),
        ({"labels": np.array([0, 1])}, r"labels are int64 \(2,\), expected \(4,\)"),
        ({"images": ("a", "a", "b", "c")}, "1 of 4 image names come again"),
        ({"classes": ("a", "b", "b")}, "1 of 3 classes come again"),
        ({"log_probabilities": np.full((4, 3), np.nan)}, "not all numbers of 0 or less"),
        ({"log_probabilities": np.ones((4, 3))}, "not all numbers of 0 or less"),
    ],
)
def test_what_does_not_fit_is_never_written(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        save_scores(tmp_path / "x.npz", made(**changes))
    assert list(tmp_path.iterdir()) == []


# -- ensembles ----------------------------------------------------------------------------------


def test_an_ensemble_of_one_is_the_model() -> None:
    assert np.array_equal(ensemble([made()]).log_probabilities, made().log_probabilities)


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    """Of three, by numpy in float64; an ensemble among the members counts as one."""
    members = [made(seed) for seed in range(3)]
    expected = np.mean([np.exp(m.log_probabilities.astype(np.float64)) for m in members], axis=0)
    three = ensemble(members)
    np.testing.assert_allclose(np.exp(three.log_probabilities), expected, rtol=1e-6)
    assert [m["net"]["title"] for m in three.members] == ["net0", "net1", "net2"]
    nested = ensemble([three, made(5)])
    again = (expected + np.exp(made(5).log_probabilities.astype(np.float64))) / 2
    np.testing.assert_allclose(np.exp(nested.log_probabilities), again, rtol=1e-6)
    assert len(nested.members) == 4


def test_probabilities_too_small_for_float32_keep_their_order() -> None:
    """exp(-200) and exp(-300) are both 0 in float32; their logarithms are not equal."""
    logs = np.array([[0, -200, -300]] * 4, dtype=np.float32)
    both = ensemble([made(log_probabilities=logs), made(log_probabilities=logs)])
    np.testing.assert_allclose(both.log_probabilities, logs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": ("a/1", "a/2", "b/3", "c/9")}, "only in net0: b/ü\n.*only in net0: c/"),
        ({"images": ("a/2", "a/1", "b/ü", "c/\udcff")},
         "image 0 is a/1 in one, a/2 in the other: another order"),
        ({"classes": ("a", "c", "b")}, "class 1 is b in net0, c in net1"),
        ({"data_hash": "ff" * 8}, "of other contents or labels"),
        ({"labels": np.array([0, 1, 2, 1])}, "of other contents or labels"),
    ],
)  # fmt: skip
def test_members_of_other_images_or_classes_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        ensemble([made(), made(1, **changes)])

"""What is reviewed first: margins and divergences by hand, ties by key, near duplicates once."""

import numpy as np
import pytest

from datamodules.leakage.split_leakage import GuardedVideo
from pipeline.label_tools.distinct_videos import choose_distinct
from pipeline.label_tools.review_order import answers, disagreements, margins, review_order
from pipeline.label_tools.score_files import read_score_file
from tests.pipeline.label_tools.scored_files import write_results


def test_margins_by_hand():
    scores = np.array([[0.5, 0.3, 0.2], [0.1, 0.45, 0.45], [0.0, 0.0, 1.0]])
    assert margins(scores, "single_label", 0.5) == pytest.approx([0.2, 0.0, 1.0])
    assert margins(scores, "multi_label", 0.25) == pytest.approx([0.05, 0.15, 0.25])
    assert margins(scores[:, :1], "single_label", 0.5) == pytest.approx([0.5, 0.1, 0.0])


def test_divergences_by_hand():
    first, second = np.array([[1.0, 0.0], [0.5, 0.5], [0.3, 0.7]]), np.array([[0.0, 1.0], [1.0, 0.0], [0.3, 0.7]])
    # Half of 1 * log2(1 / 0.75) + half of (0.5 * log2(0.5 / 0.75) + 0.5 * log2(0.5 / 0.25)).
    half = 0.5 * np.log2(4 / 3) + 0.5 * (0.5 * np.log2(2 / 3) + 0.5)
    assert disagreements(first, second, "single_label") == pytest.approx([1.0, half, 0.0])
    assert disagreements(second, first, "single_label") == pytest.approx([1.0, half, 0.0])
    # Each class with its two outcomes: both differ as before.
    assert disagreements(first, second, "multi_label") == pytest.approx([1.0, half, 0.0])
    assert disagreements(first[:, :1], second[:, :1], "multi_label") == pytest.approx([1.0, half, 0.0])


def test_answers():
    scores = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.3]])
    assert answers(scores, "single_label", 0.5).tolist() == [[True, False, False], [False, False, True]]
    assert answers(scores, "multi_label", 0.5).tolist() == [[True, True, False], [False, False, False]]


def test_the_order(tmp_path):
    """By margin, equal ones by key, without those that have no scores; of two results, other answers come first."""
    rows = [[0.5, 0.4, 0.1], [0.9, 0.1, 0.0], [np.nan] * 3, [0.5, 0.4, 0.1], [0.34, 0.33, 0.33]]
    one = read_score_file(write_results(tmp_path / "one", list("dcbae"), rows))
    order, figures = review_order([one], 0.5)
    assert [one.keys[number] for number in order] == ["e", "a", "d", "c"]
    assert figures[0] == pytest.approx({"margin": 0.1})
    rows = [[0.4, 0.5, 0.1], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0], [0.5, 0.4, 0.1], [1.0, 0.0, 0.0]]
    other = read_score_file(write_results(tmp_path / "other", list("dcbae"), rows))
    order, figures = review_order([one, other], 0.5)
    # e differs more than d by its divergence, and has the same answer.
    assert [one.keys[number] for number in order] == ["c", "d", "e", "a"]
    assert figures[4]["disagreement"] > figures[0]["disagreement"] > figures[3]["disagreement"] == 0
    assert figures[4]["margin"] == pytest.approx(0.01)


def test_videos_that_show_the_same_are_chosen_once():
    """Looked at in blocks, each once, until there are enough; the same for any number."""
    hashes = np.random.default_rng(0).integers(1, 2**63, (100, 16))
    looked_at = []

    def fingerprints(keys):
        looked_at.extend(keys)
        numbers = [int(key) for key in keys]
        # Video 40 + n shows what video n does; 90 has the bytes of 41, and hashes of its own.
        shown = [number - 40 if 40 <= number < 80 else number for number in numbers]
        digests = ["same" if number in (41, 90) else str(number) for number in numbers]
        rows = zip(keys, digests, shown, strict=True)
        return [GuardedVideo(key, "", (), "", digest, tuple(hashes[n].tolist()), 2.0) for key, digest, n in rows]

    order = [str(number) for number in (41, 90, 1, *range(2, 41), *range(42, 90))]
    chosen = choose_distinct(order, 10, fingerprints)
    assert list(chosen) == ["41", *map(str, range(2, 11))]
    assert chosen["41"] == ["90", "1"]
    assert looked_at == order[:32]
    every = choose_distinct(order, 100, fingerprints)
    assert list(every)[:10] == list(chosen)
    assert list(every) == ["41", *map(str, range(2, 41)), *map(str, range(80, 90))]
    assert every["2"] == ["42"]

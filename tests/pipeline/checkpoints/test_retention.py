"""Which checkpoints stay and which is the best, by numbers checked by hand; a file that is none."""

import math

import pytest

from pipeline.checkpoints.retention import find_damage, positions_to_keep, rank_by_score


@pytest.mark.parametrize(
    ("scores", "mode", "order"),
    [
        ([0.2, 0.9, 0.5], "max", [1, 2, 0]),
        ([0.2, 0.9, 0.5], "min", [0, 2, 1]),
        ([0.5, math.nan, 0.5, None], "max", [2, 0]),  # the later of two equals first
        ([0.5, math.inf, 0.5], "min", [2, 0]),
        ([None, None], "max", []),
    ],
)
def test_the_best_come_first(scores, mode, order):
    assert rank_by_score(scores, mode) == order


def test_the_newest_and_the_best_stay():
    scores = [0.2, 0.9, None, 0.8, 0.1, None, 0.3, None]
    assert positions_to_keep(scores, newest=2, best=2, mode="max") == {1, 3, 6, 7}
    assert positions_to_keep(scores, newest=1, best=1, mode="min") == {4, 7}
    assert positions_to_keep(scores, newest=3, best=0, mode="max") == {5, 6, 7}
    assert positions_to_keep([0.5], newest=3, best=3, mode="max") == {0}
    assert positions_to_keep([], newest=1, best=1, mode="max") == set()


def test_a_file_that_torch_did_not_write(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_text("weights")
    assert find_damage(path, 7) == "its table of contents cannot be read"
    assert find_damage(path, 8) == "it has 7 bytes of 8"

"""Overlap of videos with training videos that are known by keys and groups; by content: test_evaluate.py."""

import pytest

from pipeline.inference.training_overlap import overlap_with_keys, refuse_overlap


def test_keys_and_groups():
    overlap = overlap_with_keys({"a", "b"}, ["g1", "g1", ""], ["a", "x", "y", "z"], ["g1", "g1", "g2", ""])
    assert overlap.videos.tolist() == [True, False, False, False]
    assert overlap.groups.tolist() == [True, True, False, False]
    assert overlap.any.tolist() == [True, True, False, False]
    assert overlap.counts() == {"videos": 1, "content": 0, "groups": 1, "of": 4}


def test_without_an_overlap_nothing_is_refused():
    assert overlap_with_keys([], [""], ["a"], [""]).counts() is None
    refuse_overlap(None, "split='test': the checkpoint", "choose another")
    with pytest.raises(ValueError, match=r"was trained on 1 of its 4 videos, on 2 more that show the same, and 3 of"):
        refuse_overlap({"videos": 1, "content": 2, "groups": 3, "of": 4}, "split='test': the checkpoint", "choose")

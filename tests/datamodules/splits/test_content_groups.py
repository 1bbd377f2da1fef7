"""Tests of the groups of videos that belong to one split."""

import random

import numpy as np
import pytest

from datamodules.leakage.perceptual_hash import HASHES_PER_SECOND, mirror_hashes
from datamodules.leakage.split_leakage import GuardedVideo, find_near_pairs
from datamodules.splits.content_groups import group_in_path, merge_groups


def hashes_of(seed: int, count: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 2**64, count, dtype=np.uint64)


def video(key: str, hashes: np.ndarray, group: str = "", content: str = "") -> GuardedVideo:
    values = tuple(int(value) for value in hashes)
    return GuardedVideo(key, "all", (), group or key, content or f"sha-{key}", values, len(values) / HASHES_PER_SECOND)


@pytest.fixture
def videos() -> list[GuardedVideo]:
    """a and b share a group; c overlaps b; d mirrors c; e has the bytes of f; g is alone."""
    return [
        video("a", hashes_of(1), "source"),
        video("b", np.concatenate([hashes_of(2), hashes_of(3)]), "source"),
        video("c", np.concatenate([hashes_of(3), hashes_of(4)])),
        video("d", mirror_hashes(hashes_of(4))),
        video("e", hashes_of(5), content="same"),
        video("f", hashes_of(6), content="same"),
        video("g", hashes_of(7)),
    ]


def test_sources_bytes_and_content_join_groups_through_others(videos: list[GuardedVideo]) -> None:
    assert merge_groups(videos, by_content=True) == ["c", "c", "c", "c", "e", "e", "g"]
    assert merge_groups(videos, by_content=False) == ["source", "source", "c", "d", "e", "f", "g"]


def test_order_has_no_influence_on_the_groups(videos: list[GuardedVideo]) -> None:
    shuffled = random.Random(2).sample(videos, len(videos))
    groups = dict(zip((video.key for video in shuffled), merge_groups(shuffled, by_content=True), strict=True))
    assert [groups[video.key] for video in videos] == merge_groups(videos, by_content=True)


def test_videos_without_hashes_stay_alone() -> None:
    none = np.array([], np.uint64)
    assert merge_groups([video("a", none), video("b", none)], by_content=True) == ["a", "b"]


def test_a_symmetric_video_is_no_pair_with_itself() -> None:
    hashes = hashes_of(1)
    both_ways = np.concatenate([hashes, mirror_hashes(hashes)])
    assert find_near_pairs([video("a", both_ways), video("b", hashes_of(9))], within_splits=True) == []


@pytest.mark.parametrize(
    ("path", "pattern", "group"),
    [
        ("run/anna/03.mp4", "^[^/]*/([^/]*)/", "anna"),
        ("run/p07_take2.mp4", r"p\d+", "p07"),
        ("run/p07_take2.mp4", r"q\d+", None),
        ("run/copy.mp4", r"p\d", None),
        ("run/x.mp4", r"(q\d+)?", None),
    ],
)
def test_the_group_in_a_path(path: str, pattern: str, group: str | None) -> None:
    assert group_in_path(path, pattern) == group

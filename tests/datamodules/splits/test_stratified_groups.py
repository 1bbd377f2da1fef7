"""Tests of the stratified division of groups."""

import random
from collections import Counter, defaultdict

import pytest

from datamodules.splits.stratified_groups import GroupedVideo, divide_groups

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
FOLDS = {str(number): 1 / 5 for number in range(5)}


def random_videos(seed: int, several_labels: bool = False) -> list[GroupedVideo]:
    """Videos of random classes in groups of random sizes; a group may have several classes."""
    random_numbers = random.Random(seed)
    videos = []
    for group in range(random_numbers.randint(20, 120)):
        usual = f"class{random_numbers.randint(0, 6) ** 2 // 6}"  # unbalanced
        for number in range(random_numbers.choice([1, 1, 2, 3, 7])):
            classes = (usual,)
            if several_labels:
                classes = tuple(f"class{label}" for label in range(5) if random_numbers.random() < 0.3)
            videos.append(GroupedVideo(f"g{group}_{number}", f"g{group}", classes))
    return videos


def counts_by_class(videos: list[GroupedVideo], parts: dict[str, str]) -> dict[str, Counter[str]]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for video in videos:
        for name in video.classes:
            counts[name][parts[video.key]] += 1
    return counts


@pytest.mark.parametrize("several_labels", [False, True])
@pytest.mark.parametrize("shares", [SHARES, FOLDS])
@pytest.mark.parametrize("seed", range(8))
def test_no_group_is_divided_and_order_has_no_influence(
    seed: int, shares: dict[str, float], several_labels: bool
) -> None:
    videos = random_videos(seed, several_labels)
    parts = divide_groups(videos, shares, seed)
    assert parts.keys() == {video.key for video in videos}
    assert set(parts.values()) <= set(shares)
    assert all(len({parts[video.key] for video in videos if video.group == group}) == 1 for group in ("g0", "g5"))
    of_group: defaultdict[str, set[str]] = defaultdict(set)
    for video in videos:
        of_group[video.group].add(parts[video.key])
    assert all(len(of) == 1 for of in of_group.values())
    shuffled = random.Random(1).sample(videos, len(videos))
    assert divide_groups(shuffled, shares, seed) == parts


@pytest.mark.parametrize("seed", range(8))
def test_every_part_has_each_class_that_has_enough_groups(seed: int) -> None:
    videos = random_videos(seed)
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for video in videos:
        groups[video.classes[0]].add(video.group)
    counts = counts_by_class(videos, divide_groups(videos, SHARES, seed))
    for name, of_class in groups.items():
        assert set(+counts[name]) == set(["train", "test", "val"][: len(of_class)])
    counts = counts_by_class(videos, divide_groups(videos, FOLDS, seed))
    assert all(len(+counts[name]) == min(len(FOLDS), len(of_class)) for name, of_class in groups.items())


def test_classes_of_one_group_are_spread_over_folds() -> None:
    videos = [GroupedVideo(f"{name}{i}", name, (name,)) for name in "abcdef" for i in range(3)]
    assert set(Counter(divide_groups(videos, {"0": 1 / 3, "1": 1 / 3, "2": 1 / 3}).values()).values()) == {6}


@pytest.mark.parametrize("size", [10, 13, 40, 101])
def test_single_videos_are_divided_within_one_video_a_class(size: int) -> None:
    videos = [GroupedVideo(f"{name}{i}", f"{name}{i}", (name,)) for name in "abcde" for i in range(size)]
    for shares in (SHARES, FOLDS, {"train": 0.62, "test": 0.38}):
        parts = divide_groups(videos, shares)
        for counts in counts_by_class(videos, parts).values():
            assert all(abs(counts[part] - share * size) <= 1 for part, share in shares.items())
        totals = Counter(parts.values())
        assert all(abs(totals[part] - share * len(videos)) <= 2.5 for part, share in shares.items())


def test_groups_that_fit_exactly_are_divided_exactly() -> None:
    # 3 + 5 and 4 + 4: a greedy division of the largest first, without exchanges, finds it too.
    sizes = {"a": 5, "b": 4, "c": 4, "d": 3}
    videos = [GroupedVideo(f"{group}{i}", group, ("run",)) for group, size in sizes.items() for i in range(size)]
    assert set(Counter(divide_groups(videos, {"0": 0.5, "1": 0.5}).values()).values()) == {8}


def test_several_labels_keep_their_proportions() -> None:
    videos = [
        GroupedVideo(f"v{i}", f"v{i}", tuple(name for name, every in (("a", 2), ("b", 3), ("c", 10)) if i % every == 0))
        for i in range(300)
    ]
    counts = counts_by_class(videos, divide_groups(videos, SHARES))
    for name, of_class in counts.items():
        total = sum(of_class.values())
        assert all(abs(of_class[part] / total - share) < 0.04 for part, share in SHARES.items()), (name, of_class)


def test_moves_at_the_end_reduce_the_deviation() -> None:
    videos = random_videos(49, several_labels=True)  # 0.11 where groups are placed once, the largest first
    counts = counts_by_class(videos, divide_groups(videos, SHARES))
    for of_class in counts.values():
        total = sum(of_class.values())
        assert all(abs(of_class[part] / total - share) < 0.05 for part, share in SHARES.items()), counts


def test_videos_without_labels_are_divided_by_their_number() -> None:
    videos = [GroupedVideo(f"v{i}", f"v{i}", ()) for i in range(50)]
    assert Counter(divide_groups(videos, SHARES).values()) == {"train": 40, "val": 5, "test": 5}


def test_the_seed_changes_the_division_and_repeats_it() -> None:
    videos = random_videos(3)
    divisions = [divide_groups(videos, SHARES, seed) for seed in (0, 0, 1)]
    assert divisions[0] == divisions[1] != divisions[2]


def test_a_class_of_few_groups_is_trained_on_first_and_then_tested() -> None:
    videos = [GroupedVideo(f"a{i}", f"a{i}", ("a",)) for i in range(30)]
    videos += [GroupedVideo(f"b{i}", f"b{i}", ("b",)) for i in range(2)]
    videos += [GroupedVideo(f"c{i}", "c", ("c",)) for i in range(4)]
    counts = counts_by_class(videos, divide_groups(videos, SHARES))
    assert counts["b"] == {"train": 1, "test": 1}
    assert counts["c"] == {"train": 4}


@pytest.mark.parametrize("shares", [{"train": 0.5, "test": 0.5}, {"train": 0.3, "test": 0.7}])
def test_a_class_that_shares_its_only_group_is_trained_on(shares: dict[str, float]) -> None:
    videos = [GroupedVideo("a1", "g1", ("a",))]
    videos += [GroupedVideo(f"b{i}", f"g{i}", ("b",)) for i in (1, 2, 3)]
    for seed in range(8):
        counts = counts_by_class(videos, divide_groups(videos, shares, seed))
        assert counts["a"] == {"train": 1}
        assert counts["b"]["test"]

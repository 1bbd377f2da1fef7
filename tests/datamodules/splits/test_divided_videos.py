"""Tests of the division of videos and of the sentences on what could not be balanced."""

import numpy as np
import pytest

from datamodules.leakage.perceptual_hash import HASHES_PER_SECOND
from datamodules.leakage.split_leakage import GuardedVideo, find_leaks
from datamodules.splits.divided_videos import DividedVideos
from datamodules.splits.division_options import Division

SPLITS = Division("split", {"train": 0.5, "test": 0.5})


def divide(groups: dict[str, tuple[int, str]], division: Division = SPLITS) -> DividedVideos:
    """Videos of groups, each with its number of videos and their class; "" for none."""
    videos = [
        GuardedVideo(f"{group}{number}", "all", (), group, f"{group}{number}", (), 1.0)
        for group, (count, _) in groups.items()
        for number in range(count)
    ]
    return DividedVideos(
        videos, [[groups[video.group][1]] if groups[video.group][1] else [] for video in videos], division
    )


def test_an_even_division_has_nothing_to_say() -> None:
    divided = divide({f"{name}{number}": (2, name) for name in ("run", "walk") for number in range(4)})
    assert divided.describe_imbalance() == []
    assert divided.counts == {"run": {"train": 4, "test": 4}, "walk": {"train": 4, "test": 4}}
    assert divided.groups_of_class == {"run": 4, "walk": 4}


def test_a_class_of_too_few_groups_is_named() -> None:
    divided = divide({"a": (4, "run"), "b": (3, "run"), "c": (5, "jump"), "d": (1, "")})
    absent = "no video in test of 'jump' (1 group), videos without a class (1 group)"
    assert f"too few groups: {absent}" in divided.describe_imbalance()


def test_a_class_that_its_groups_keep_uneven_is_named() -> None:
    divided = divide({"a": (9, "run"), "b": (1, "run"), "c": (5, "walk"), "d": (5, "walk")})
    [sentence] = divided.describe_imbalance()
    assert sentence in {
        f"uneven, because groups are not divided: 'run' {count} of 10 in {part}, not 5.0"
        for count in (1, 9)
        for part in ("train", "test")
    }


def test_folds_are_called_so() -> None:
    divided = divide({"a": (4, "run"), "b": (4, "walk")}, Division("fold", {"0": 0.5, "1": 0.5}))
    assert {sentence.rpartition(" of ")[0] for sentence in divided.describe_imbalance()} == {
        "too few groups: no video in fold 0",
        "too few groups: no video in fold 1",
    }
    assert set(divided.as_split_file("mine").folds) == {"0", "1"}


def test_fewer_groups_than_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 splits need as many groups, and the 4 videos are of 1: give fewer splits"):
        divide({"a": (4, "run")})


def test_many_videos_that_show_the_same_are_said_to_be_one_group() -> None:
    videos = [GuardedVideo(f"v{number}", "all", (), f"v{number}", str(number // 5), (), 1.0) for number in range(10)]
    divided = DividedVideos(videos, [["run"]] * 10, SPLITS)
    assert divided.joined_groups == 10
    assert divided.describe_imbalance() == [
        "5 of 10 videos are one group, that of v0, as their frames show nearly the same; if the videos do not, divide "
        "with --content-groups false"
    ]
    apart = DividedVideos(videos, [["run"]] * 10, Division("split", SPLITS.shares, content_groups=False))
    assert (apart.joined_groups, len(set(apart.groups.values()))) == (0, 10)


def test_the_split_guard_finds_nothing_in_a_division_whatever_the_order() -> None:
    """Pairs that are barely alike: which of them a search finds depends on how many frames it compares."""
    random = np.random.default_rng(0)
    sources = random.integers(1, 2**64, (1150, 16), dtype=np.uint64)
    flipped = (random.random((1150, 16, 64)) < 0.19) @ (np.uint64(1) << np.arange(64, dtype=np.uint64))
    hashes = np.concatenate([sources, sources ^ flipped.astype(np.uint64)]).tolist()
    videos = [
        GuardedVideo(key, "all", (), key, key, tuple(of_video), 16 / HASHES_PER_SECOND)
        for key, of_video in zip(map(str, range(2300)), hashes, strict=True)
    ]
    forwards, backwards = (DividedVideos(order, [["run"]] * 2300, SPLITS) for order in (videos, videos[::-1]))
    assert 800 < forwards.joined_groups < 2300
    assert find_leaks([video._replace(split=forwards.values[video.key]) for video in videos]) == []
    assert backwards.values == forwards.values

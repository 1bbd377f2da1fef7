"""Choice of videos that show different things: near duplicates of an earlier one are left out."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from datamodules.leakage.split_leakage import GuardedVideo, find_near_pairs

_BLOCK = 32  # videos whose fingerprints are looked at together


def choose_distinct(
    order: Sequence[str], number: int, fingerprints: Callable[[Sequence[str]], Sequence[GuardedVideo]]
) -> dict[str, list[str]]:
    """The first videos that neither have the bytes of an earlier chosen one nor show the same for a while.

    What shows the same is found as by the split guard (`datamodules.leakage.split_leakage.find_near_pairs`), among all
    videos that are looked at. Fingerprints are requested block by block, until enough are chosen.

    Args:
        order: keys of the videos, the first to choose first.
        number: number of videos to choose, at least 1.
        fingerprints: function from keys to the digests and frame hashes of these videos.

    Returns:
        The chosen keys, in order, at most `number`; with each the keys of those left out because of it, of the videos
        before the last chosen one.
    """
    chosen: dict[str, list[str]] = {}
    known: list[GuardedVideo] = []
    for start in range(0, len(order), _BLOCK):
        known += fingerprints(order[start : start + _BLOCK])
        alike = _alike(known)
        for key in order[start : start + _BLOCK]:
            original = next((earlier for earlier in chosen if earlier in alike[key]), None)
            if original is None:
                chosen[key] = []
            else:
                chosen[original].append(key)
            if len(chosen) == number:
                return chosen
        known = [video for video in known if video.key in chosen]
    return chosen


def _alike(videos: Sequence[GuardedVideo]) -> defaultdict[str, set[str]]:
    """For each key those of the videos with the same bytes or content."""
    alike: defaultdict[str, set[str]] = defaultdict(set)
    digests: defaultdict[str, set[str]] = defaultdict(set)
    for video in videos:
        digests[video.content_sha256].add(video.key)
    for video in videos:
        alike[video.key] |= digests[video.content_sha256] - {video.key}
    for pair in find_near_pairs(videos, within_splits=True):
        first, second = videos[pair.first].key, videos[pair.second].key
        alike[first].add(second)
        alike[second].add(first)
    return alike

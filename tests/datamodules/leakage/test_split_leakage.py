"""The split guard: groups, bytes and content on both sides; re-encoded, mirrored, overlapping real clips."""

import csv
import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from datamodules.encoding.transcoding import EncodeProfile, encode_frames, inspect, transcode
from datamodules.leakage.perceptual_hash import HASHES_PER_SECOND, mirror_hashes
from datamodules.leakage.split_leakage import GuardedVideo, Leak, count_leaks, find_leaks, find_near_pairs
from datamodules.video.decoding import decode_frames


def moving_texture(seed: int, num_frames: int) -> list[np.ndarray]:
    """Frames of 64 x 96: a smooth random picture that moves and fades into another one."""
    generator = np.random.default_rng(seed)
    scenes = []
    for _ in range(num_frames // 12 + 2):
        coarse = generator.uniform(0, 255, (6, 8))
        scenes.append(np.kron(coarse, np.ones((16, 16)))[:64, :96])
    frames = []
    for number in range(num_frames):
        scene, fade = number // 12, number % 12 / 12
        gray = np.roll(scenes[scene] * (1 - fade) + scenes[scene + 1] * fade, number, axis=1)
        frames.append(np.repeat(gray[..., None], 3, axis=2).astype(np.uint8))
    return frames


def video(key: str, split: str = "train", hashes: np.ndarray | None = None, **more: object) -> GuardedVideo:
    values = () if hashes is None else tuple(int(value) for value in hashes)
    made = GuardedVideo(key, split, (), f"g-{key}", f"sha-{key}", values, len(values) / HASHES_PER_SECOND)
    return made._replace(**more)  # type: ignore[arg-type]


def random_hashes(seed: int, count: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 2**64, count, dtype=np.uint64)


def disturbed(hashes: np.ndarray, bits: int, seed: int = 0) -> np.ndarray:
    """The hashes with some bits flipped in each."""
    generator = np.random.default_rng(seed)
    flips = [sum(1 << int(bit) for bit in generator.choice(64, bits, replace=False)) for _ in hashes]
    return hashes ^ np.array(flips, np.uint64)


def guarded(key: str, split: str, data: bytes, group: str = "") -> GuardedVideo:
    kept = inspect(data)
    return GuardedVideo(key, split, (), group or key, key, kept.frame_hashes, kept.info.duration_s)


class TestExact:
    def test_groups_and_bytes_on_both_sides(self) -> None:
        videos = [
            video("a", "train", group="g", content_sha256="x"),
            video("b", "train", group="g"),
            video("c", "test", group="g", content_sha256="x"),
            video("d", "val"),
        ]
        assert find_leaks(videos) == [
            Leak("group", "a", "c", "train | test", "group g"),
            Leak("bytes", "a", "c", "train | test", "bytes x"),
        ]
        assert count_leaks(find_leaks(videos)) == {"group": 1, "bytes": 1}
        assert find_leaks([one._replace(split="train") for one in videos]) == []

    def test_in_folds_each_fold_counts_and_unused_ones_do_not(self) -> None:
        def folded(key: str, *splits: str) -> GuardedVideo:
            return video(key, "all", group="g", fold_splits=splits)

        assert find_leaks([folded("a", "train", "test"), folded("b", "train", "test")]) == []
        assert find_leaks([folded("a", "train", ""), folded("b", "", "test")]) == []
        (leak,) = find_leaks([folded("a", "train", "test"), folded("b", "train", "train")])
        assert leak == Leak("group", "a", "b", "test | train", "group g")

    def test_nothing_and_one(self) -> None:
        assert find_leaks([]) == []
        assert find_leaks([video("a", hashes=random_hashes(0))]) == []


class TestContent:
    def test_a_copy_with_other_bits_its_mirror_image_and_an_overlap(self) -> None:
        source = random_hashes(0)
        others = [video(f"other{seed}", "test", random_hashes(seed)) for seed in range(1, 30)]
        for copy, mirrored, matches, offset in [
            (disturbed(source, 6), False, 40, 0.0),
            (mirror_hashes(disturbed(source, 6)), True, 40, 0.0),
            (np.concatenate([disturbed(source[25:], 6), random_hashes(99, 20)]), False, 15, 3.125),
        ]:
            (pair,) = find_near_pairs([video("a", "train", source), *others, video("b", "test", copy)])
            assert (pair.first, pair.second, pair.mirrored, pair.matches) == (0, 30, mirrored, matches)
            assert abs(pair.offset_s - offset) < 0.4
        (leak,) = find_leaks([video("a", "train", source), video("b", "test", mirror_hashes(source))])
        assert (leak.kind, leak.sides) == ("content", "train | test")
        assert leak.detail.startswith("mirrored, 40 frames alike, ")

    def test_same_side_is_no_matter(self) -> None:
        source = random_hashes(0)
        assert find_near_pairs([video("a", "train", source), video("b", "train", source)]) == []

    def test_sides_that_are_not_the_largest_are_compared_too_and_unused_ones_are_not(self) -> None:
        source = random_hashes(0)
        many = [video(f"train{seed}", "train", random_hashes(seed)) for seed in range(1, 30)]
        for copy, mirrored in ((disturbed(source, 6), False), (mirror_hashes(disturbed(source, 6)), True)):
            for one, other in (("val", "test"), ("test", "val"), ("train", "val"), ("val", "train")):
                (pair,) = find_near_pairs([video("a", one, source), *many, video("b", other, copy)])
                assert (pair.first, pair.second, pair.mirrored, pair.matches) == (0, 30, mirrored, 40)
            unused = video("b", "all", copy, fold_splits=("", "train"))
            folded = video("a", "all", source, fold_splits=("train", ""))
            assert find_near_pairs([folded, unused]) == []
            assert len(find_near_pairs([folded, unused._replace(fold_splits=("test", "train"))])) == 1

    def test_few_frames_another_order_and_flat_frames_do_not_count(self) -> None:
        source = random_hashes(0)
        few = np.concatenate([source[:4], random_hashes(5, 36)])
        shuffled = np.random.default_rng(1).permutation(source)
        flat = np.zeros(40, np.uint64)
        for copy in (few, shuffled, disturbed(source, 30)):
            assert find_near_pairs([video("a", "train", source), video("b", "test", copy)]) == []
        assert find_near_pairs([video("a", "train", flat), video("b", "test", flat)]) == []

    def test_short_videos_need_all_their_frames(self) -> None:
        source = random_hashes(0, 4)
        assert len(find_near_pairs([video("a", "train", source), video("b", "test", disturbed(source, 4))])) == 1
        assert find_near_pairs([video("a", "train", source[:3]), video("b", "test", random_hashes(1, 3))]) == []

    def test_made_videos_encoded_anew_mirrored_and_cut(self) -> None:
        frames = [*moving_texture(0, 80), *moving_texture(1, 20)]
        source = guarded("a", "train", encode_frames(frames, 10.0))
        for copy in (
            transcode(encode_frames(frames, 10.0), EncodeProfile(short_side=48, crf=35)).data,
            encode_frames([np.ascontiguousarray(frame[:, ::-1]) for frame in frames], 10.0, crf=30),
            encode_frames(frames[35:75], 10.0),
        ):
            assert len(find_near_pairs([source, guarded("b", "test", copy)])) == 1
        assert find_near_pairs([source, guarded("c", "test", encode_frames(moving_texture(7, 80), 10.0))]) == []

    def test_the_work_grows_gently(self) -> None:
        videos = [video(f"v{n}", ("train", "test")[n % 2], random_hashes(n, 20)) for n in range(8_000)]
        videos.append(video("copy", "test", disturbed(random_hashes(0, 20), 4)))
        began = time.process_time()
        assert [(pair.first, pair.second) for pair in find_near_pairs(videos)] == [(0, 8_000)]
        assert time.process_time() - began < 30  # 12.8 billion pairs of frames


@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestRealClips:
    def test_recall_on_made_pairs(self, shared_dir: Path) -> None:
        folder = shared_dir / "data" / "kinetics_sample"
        clips = [*sorted((folder / "videos").rglob("*.mp4")), folder / "demo_arm_wrestling.mp4"]
        found: dict[str, list[bool]] = {}
        originals = []
        for clip in clips:
            stored = transcode(str(clip), EncodeProfile(short_side=128))
            fps = stored.info.fps
            frames = list(decode_frames(stored.data, range(stored.info.num_frames)))

            def cut(start: float, end: float, crf: int = 23, frames: list = frames, fps: float = fps) -> bytes:  # type: ignore[type-arg]
                return encode_frames(frames[round(start * fps) : round(end * fps)], fps, crf=crf)

            mirrored = encode_frames([np.ascontiguousarray(frame[:, ::-1]) for frame in frames], fps, crf=28)
            original = guarded(clip.name, "train", stored.data)
            originals.append(original)
            pairs = {
                "re-encoded, half the size, crf 33": (original, transcode(stored.data, EncodeProfile(64, crf=33)).data),
                "re-encoded, 96 pixels, 10 fps": (original, transcode(stored.data, EncodeProfile(96, 10, crf=30)).data),
                "mirrored": (original, mirrored),
                "overlap of 3.1 s": (guarded("cut", "train", cut(0, 5.1)), cut(2, 9, 30)),
                "overlap of 3 s": (guarded("cut", "train", cut(1.37, 5.5)), cut(2.5, 8.3, 30)),
                "overlap of 3.5 s": (guarded("cut", "train", cut(3.3, 9.3)), cut(0, 6.8, 28)),
            }
            for kind, (one, other) in pairs.items():
                hit = len(find_near_pairs([one, guarded("copy", "test", other)])) == 1
                found.setdefault(kind, []).append(hit)
        for kind, hits in found.items():
            print(f"{kind}: {sum(hits)} of {len(hits)}")
        hits = list(itertools.chain(*found.values()))
        print(f"recall {sum(hits)} of {len(hits)}")
        assert sum(hits) / len(hits) >= 0.95
        apart = [one._replace(split=one.key) for one in originals]
        assert find_near_pairs(apart) == []

    def test_recall_on_pairs_that_chose_no_threshold(self, shared_dir: Path) -> None:
        hits = []
        for clip in sorted((shared_dir / "data" / "surveillance_fights").glob("*/*.mp4"))[::15]:
            stored = transcode(str(clip), EncodeProfile(128))
            frames = decode_frames(stored.data, range(stored.info.num_frames))
            mirrored = encode_frames(list(np.ascontiguousarray(frames[:, :, ::-1])), stored.info.fps, crf=30)
            one = guarded("one", "train", stored.data)
            for other in (transcode(str(clip), EncodeProfile(64, crf=33)).data, mirrored):
                hits.append(len(find_near_pairs([one, guarded("other", "test", other)])))
        print(f"fights, re-encoded or mirrored: {sum(hits)} of {len(hits)}")
        assert sum(hits) / len(hits) >= 0.95
        hits = []
        generator = np.random.default_rng(1)
        for clip in sorted((shared_dir / "data" / "kinetics_sample" / "videos").rglob("*.mp4")):
            stored = transcode(str(clip), EncodeProfile(128))
            fps, frames = stored.info.fps, decode_frames(stored.data, range(stored.info.num_frames))
            for _ in range(5):
                start = generator.uniform(0, 2.5)
                end = start + generator.uniform(3.2, 4)
                last = end - 3 + generator.uniform(4, 5)  # the second cut begins 3 s before the first one ends
                cuts = [frames[round(a * fps) : round(b * fps)] for a, b in ((start, end), (end - 3, min(last, 9.9)))]
                one, other = (encode_frames(list(cut), fps, crf=crf) for cut, crf in zip(cuts, (23, 30), strict=True))
                pair = [guarded("one", "train", one), guarded("other", "test", other)]
                hits.append(len(find_near_pairs(pair)))
        print(f"overlaps of 3 s at random times: {sum(hits)} of {len(hits)}")
        assert sum(hits) / len(hits) >= 0.95

    def test_false_pairs_between_the_groups_of_surveillance_fights(self, shared_dir: Path) -> None:
        folder = shared_dir / "data" / "surveillance_fights"
        with (folder / "annotations.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))[::2]
        videos = [guarded(row["path"], row["group"], (folder / row["path"]).read_bytes(), row["group"]) for row in rows]
        pairs = find_near_pairs(videos)
        for pair in pairs:
            print(videos[pair.first].key, videos[pair.second].key, pair)
        print(f"{len(pairs)} false pairs of {len(videos)} videos in {len({row['group'] for row in rows})} groups")
        assert len(pairs) <= 5

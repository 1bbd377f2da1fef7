"""Shards bounded in videos and bytes, the guess that this rests on, and the cut that later runs keep."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.annotations.records import VideoRecord
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.manifest import ShardFile
from datamodules.encoding.transcoding import EncodeProfile, transcode
from pipeline.packing.output_folder import PackError
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from pipeline.packing.shard_bounds import divide_by_size, divide_evenly
from pipeline.packing.size_estimates import estimate_bytes, file_sizes
from tests.pipeline.gray_videos import digests, noisy_videos, reasons


def cuts(sizes: list[int], cut: list[int]) -> list[list[int]]:
    starts = [sum(cut[:i]) for i in range(len(cut))]
    return [sizes[start : start + count] for start, count in zip(starts, cut, strict=True)]


def test_cut_by_hand() -> None:
    assert divide_evenly(103, 20) == [17, 17, 17, 17, 17, 18]
    assert divide_by_size([1] * 103, 20, 18) == divide_evenly(103, 20)
    assert divide_by_size([4, 4, 4, 4, 4, 4], 6, 12) == [3, 3]
    assert divide_by_size([1, 1, 1, 9, 1, 1], 6, 10) == [3, 1, 2]  # not [3, 2, 1], whose largest has 10
    assert divide_by_size([5, 5, 50, 5, 5], 5, 10) == [2, 1, 2]  # what is too large is alone
    assert divide_by_size([50, 0, 0], 5, 10) == [1, 2]
    assert divide_by_size([0, 0, 0], 5, 10) == [3]
    assert divide_by_size([], 5, 10) == []


@given(st.lists(st.integers(0, 100), max_size=40), st.integers(1, 12), st.integers(1, 150))
def test_a_cut_keeps_its_bounds(sizes: list[int], most: int, most_bytes: int) -> None:
    shards = cuts(sizes, divide_by_size(sizes, most, most_bytes))
    assert [size for shard in shards for size in shard] == sizes
    assert all(0 < len(shard) <= most for shard in shards)
    assert all(sum(shard) <= most_bytes or len(shard) == 1 for shard in shards)
    fewest, filled, count = 0, 0, 0  # filling one after the other gives the fewest
    for size in sizes:
        if not fewest or count == most or filled + size > most_bytes:
            fewest, filled, count = fewest + 1, 0, 0
        filled, count = filled + size, count + 1
    assert len(shards) == fewest


def test_the_guess_by_hand() -> None:
    def guess(file_bytes: int, profile: EncodeProfile | None, end: float | None = None) -> int:
        return estimate_bytes(VideoRecord("a", "a", "x", "train", "g", 0.0, end), file_bytes, profile)

    small = EncodeProfile(fast_decode=False)
    assert guess(1_000_000, small) == 450_000 + 4096
    assert guess(1_000_000, small, 5.0) == 300_000 + 4096
    assert guess(100_000, small, 5.0) == 45_000 + 4096
    assert guess(1_000_000, replace(small, short_side=128)) == round(450_000 / 2**1.3) + 4096
    assert guess(1_000_000, replace(small, fps=15.0, crf=29)) == round(450_000 * 0.5**0.33 / 2) + 4096
    assert guess(1_000_000, replace(small, fps=60.0)) == 450_000 + 4096
    assert guess(1_000_000, EncodeProfile()) == 504_000 + 4096
    assert guess(1_000_000, EncodeProfile(key_frame_interval=8)) == 588_000 + 4096
    assert guess(1_000_000, None, 5.0) == 1_000_000 + 4096
    assert guess(0, EncodeProfile(), 5.0) == guess(0, None) == 0
    by_frames = VideoRecord("a", "a", "x", "train", "g", start_frame=50, end_frame=100)
    assert estimate_bytes(by_frames, 10**9, small, 200) == 2 * 60_000 + 4096
    to_the_end = VideoRecord("a", "a", "x", "train", "g", 5.0, exact_times=True)
    assert estimate_bytes(to_the_end, 10**9, small, 200) == 2_250_000 + 4096  # one of 200 segments of the file


def test_sizes_of_absent_files_count_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"123")
    names = ["a", "b", "c/d"] * 700
    assert file_sizes([str(tmp_path / name) for name in names]) == [0, 3, 0] * 700


def test_shards_are_cut_by_bytes_and_keep_their_cut(tmp_path: Path) -> None:
    """Copied, so that the guess is the file's size: six videos of 40 kB, of which one is absent at first."""
    videos, out = noisy_videos(tmp_path / "videos"), tmp_path / "out"
    late = (videos / "4.mp4").read_bytes()
    (videos / "4.mp4").unlink()
    bound = 2 * (max(path.stat().st_size for path in videos.glob("*.mp4")) + 4096)

    def run(**options: bool) -> list[ShardFile]:
        pack(PackOptions(out, [videos / "list.csv"], copy=True, shard_bytes=bound, processes=1, **options))
        return DatasetIndex.open(out).manifest.shards

    first = run()
    assert sum(shard.videos for shard in first) == 5
    assert len(first) == 3
    assert all(shard.bytes <= bound + 10240 for shard in first)  # a tar is filled up to a multiple of that
    cut = json.loads((out / ".parts" / "cut.json").read_text())
    before = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    (videos / "4.mp4").write_bytes(late)
    assert [shard.videos for shard in run(retry_quarantined=True)] == cut["train"]
    assert reasons(out) == {}
    after = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    assert sum(after[name] == before[name] for name in before) == 2  # one took the late video in
    with pytest.raises(PackError, match=f"shard_bytes {bound} there, {2**30} now"):
        pack(PackOptions(out, [videos / "list.csv"], copy=True))
    (out / ".parts" / "cut.json").write_text('{"train": [1]}')
    with pytest.raises(PackError, match=r"cut.json is damaged; remove the folder"):
        run()


def test_a_bound_that_does_not_bind_changes_nothing(originals: Path, tmp_path: Path) -> None:
    pack(PackOptions(tmp_path / "a" / "d", [originals / "list.csv"], videos_per_shard=5, processes=1))
    pack(
        PackOptions(tmp_path / "b" / "d", [originals / "list.csv"], videos_per_shard=5, shard_bytes=10**6, processes=1)
    )
    assert digests(tmp_path / "a" / "d") == digests(tmp_path / "b" / "d")


@pytest.mark.slow
@pytest.mark.parametrize("side", [256, 128])
def test_how_far_the_guess_is_off_on_real_clips(shared_dir: Path, side: int) -> None:
    """Of all clips together within a factor of 1.6, of a single one between 4 too small and 12 too large."""
    profile = EncodeProfile(short_side=side)
    data = shared_dir / "data"
    kinetics = sorted((data / "kinetics_sample" / "videos").rglob("*.mp4"))
    fights = sorted((data / "surveillance_fights").rglob("*.mp4"))[2::10]  # not those that the formula was fitted to
    stored = {file: len(transcode(str(file), profile).data) + 4096 for file in (*kinetics, *fights)}
    for files, end in ((kinetics, 10.0), (kinetics, None), (fights, None)):
        actual = [stored[file] for file in files]
        records = [VideoRecord(str(file), "", "x", "train", "g", 0.0 if end else None, end) for file in files]
        sizes = file_sizes([record.path for record in records])
        guessed = [estimate_bytes(record, size, profile) for record, size in zip(records, sizes, strict=True)]
        ratios = sorted(one / other for one, other in zip(guessed, actual, strict=True))
        together = sum(guessed) / sum(actual)
        print(f"{side}, {len(files)} clips, {end} s: {together:.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}")
        assert 1 / 1.6 < together < 1.6
        assert ratios[0] > 1 / 4
        assert ratios[-1] < 12

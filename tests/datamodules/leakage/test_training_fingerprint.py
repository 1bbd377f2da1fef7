"""What a checkpoint was trained on, recognized by bytes, by what the frames show, and by groups."""

import numpy as np
import torch

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.leakage.training_fingerprint import (
    SKETCH_SIZE,
    TrainingFingerprint,
    find_similar_sketches,
    frame_hash_sketches,
    groups_of,
)


def test_videos_packed_anew_are_recognized_and_no_others(motion_dataset, packed_anew):
    one, other = DatasetIndex.open(motion_dataset), DatasetIndex.open(packed_anew)
    seen = TrainingFingerprint.from_index(one, one.rows("train"))
    rows = other.rows("all")
    digests = [index.column("content_sha256", index.rows("all")) for index in (one, other)]
    assert not set(digests[0]) & set(digests[1])
    found = seen.find(other, rows)
    keys = np.array(other.column("key", rows))
    assert set(keys[found.content]) == set(one.column("key", one.rows("train")))
    same = seen.find(one, one.rows("all"))
    assert np.flatnonzero(same.content).tolist() == one.rows("train").tolist()


def test_they_travel_in_a_checkpoint(motion_dataset, tmp_path):
    index = DatasetIndex.open(motion_dataset)
    seen = TrainingFingerprint.from_index(index, index.rows("train"))
    torch.save(seen.state(), tmp_path / "state.pt")
    back = TrainingFingerprint.from_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for name in TrainingFingerprint._fields:
        np.testing.assert_array_equal(getattr(back, name), getattr(seen, name))
    assert sum(value.nbytes for value in seen) <= 80 * len(index.rows("train"))


def test_groups_are_known_by_name_unless_they_are_a_video_alone(motion_dataset, monkeypatch):
    index = DatasetIndex.open(motion_dataset)
    seen = TrainingFingerprint.from_index(index, index.rows("train"))
    assert len(seen.groups) == 40
    found = seen.find(index, index.rows("all"))
    assert np.flatnonzero(found.groups).tolist() == index.rows("train").tolist()
    columns = {"key": ["a", "b", "c"], "group": ["", "b", "a"]}
    monkeypatch.setattr(index, "column", lambda name, rows: columns[name])
    assert (groups_of(index, np.arange(3)) != 0).tolist() == [False, False, True]


def test_alike_means_most_frames_in_few_bits():
    generator = np.random.default_rng(0)
    known = generator.integers(1, 2**63, (500, SKETCH_SIZE), dtype=np.uint64)
    few = known[:6].copy()
    few[1] ^= np.uint64(0b11111111)  # 8 bits in every frame
    few[2] ^= np.uint64(0b111111111)  # 9
    few[3, :2] = few[3, :2] ^ np.uint64(2**40 - 1)  # two frames of eight are others
    few[4, :3] = few[4, :3] ^ np.uint64(2**40 - 1)  # three
    few[5, 3:] = 0  # only three frames show anything
    assert find_similar_sketches(few, known).tolist() == [True, True, False, True, False, False]
    flat = np.zeros((2, SKETCH_SIZE), np.uint64)
    assert not find_similar_sketches(flat, flat).any()
    assert not find_similar_sketches(few, known[:0]).any()


def test_a_search_in_blocks_finds_the_same(monkeypatch):
    generator = np.random.default_rng(1)
    known = generator.integers(1, 2**63, (300, SKETCH_SIZE), dtype=np.uint64)
    known[:, 0] &= np.uint64(0xFFFF)  # one full bucket
    asked = np.concatenate([known[::7], generator.integers(1, 2**63, (50, SKETCH_SIZE), dtype=np.uint64)])
    whole = find_similar_sketches(asked, known)
    monkeypatch.setattr("datamodules.leakage.training_fingerprint._BLOCK", 10)
    np.testing.assert_array_equal(find_similar_sketches(asked, known), whole)
    assert whole.tolist() == [True] * 43 + [False] * 50


def test_sketches_are_of_the_frames_spread_over_a_video(motion_dataset, monkeypatch):
    index = DatasetIndex.open(motion_dataset)
    rows = index.rows("val")
    for sketch, hashes in zip(frame_hash_sketches(index, rows), index.column("frame_hashes", rows), strict=True):
        assert sketch.tolist() == [
            hashes[int((place + 0.5) / SKETCH_SIZE * len(hashes))] for place in range(SKETCH_SIZE)
        ]
    made = np.arange(1, 23, dtype=np.uint64), np.array([0, 3, 3, 7, 22])
    monkeypatch.setattr(index, "frame_hashes", lambda rows: made)
    sketches = frame_hash_sketches(index, np.arange(4))
    assert not sketches[:2].any()  # three frames are too few, and none
    assert sketches[2].tolist() == [4, 4, 5, 5, 6, 6, 7, 7]
    assert sketches[3].tolist() == [8, 10, 12, 14, 16, 18, 20, 22]

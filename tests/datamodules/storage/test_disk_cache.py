"""The cache of videos: bounded, whole, and shared by processes that come, go and are killed."""

import hashlib
import multiprocessing
import os
import random
import signal
import time

import pytest

from datamodules.storage.disk_cache import ByteCache

BLOBS = [random.Random(number).randbytes(1000 + 37 * number) for number in range(40)]
NAMES = [hashlib.sha256(blob).hexdigest() for blob in BLOBS]


def held(folder):
    with ByteCache(folder, 1)._locked_size_file():  # while nobody adds or renames
        return sum(path.stat().st_size for path in folder.glob("??/*"))


def test_the_oldest_leave_and_the_used_stay(tmp_path):
    cache = ByteCache(tmp_path, 10_000)
    for number in range(8):
        cache.put(NAMES[number], BLOBS[number])
        os.utime(tmp_path / NAMES[number][:2] / NAMES[number], (number, number))
    assert cache.get(NAMES[0]) == BLOBS[0]  # used, so no longer the oldest
    for number in range(8, 12):
        cache.put(NAMES[number], BLOBS[number])
    assert cache.get(NAMES[0]) == BLOBS[0]
    assert cache.get(NAMES[1]) is None
    assert cache.get(NAMES[11]) == BLOBS[11]
    assert held(tmp_path) <= 10_000
    cache.put("f" * 64, bytes(10_001))
    assert cache.get("f" * 64) is None
    with pytest.raises(ValueError, match="cache_bytes=0"):
        ByteCache(tmp_path, 0)


def test_a_damaged_file_is_not_given(tmp_path):
    cache = ByteCache(tmp_path, 10_000)
    cache.put(NAMES[0], BLOBS[0])
    (tmp_path / NAMES[0][:2] / NAMES[0]).write_bytes(BLOBS[0][:-1])
    assert cache.get(NAMES[0]) is None
    cache.put(NAMES[0], BLOBS[0])
    assert cache.get(NAMES[0]) == BLOBS[0]


def test_a_folder_that_cannot_be_made_is_reported_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    cache = ByteCache(tmp_path / "file" / "below", 10_000)
    for number in range(3):
        cache.put(NAMES[number], BLOBS[number])
        assert cache.get(NAMES[number]) is None
    assert len(caplog.records) == 1


def use(folder, seed, seconds, results):
    cache, draw, wrong = ByteCache(folder, 30_000), random.Random(seed), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number = draw.randrange(len(BLOBS))
        data = cache.get(NAMES[number])
        wrong += data is not None and data != BLOBS[number]
        if data is None:
            cache.put(NAMES[number], BLOBS[number])
    results.put((wrong, cache._usable))


def test_many_processes_some_killed(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    lasting = [context.Process(target=use, args=(tmp_path, seed, 2.0, results)) for seed in range(3)]
    killed = [context.Process(target=use, args=(tmp_path, seed, 60.0, results)) for seed in range(10, 13)]
    for child in lasting + killed:
        child.start()
    largest = 0
    for victim in killed:
        for _ in range(20):
            largest = max(largest, held(tmp_path))
            time.sleep(0.02)
        os.kill(victim.pid, signal.SIGKILL)
    assert [results.get(timeout=30) for _ in lasting] == [(0, True)] * 3
    for child in lasting + killed:
        child.join()
    assert 0 < max(largest, held(tmp_path)) <= 30_000

"""Thousands of damaged files: an error with a reason, or frames; never a crash, a hang, a leak or gigabytes."""

from collections import Counter

import pytest

from datamodules.video.decoding import REASONS
from pipeline.processes.killable_process import KillableProcess
from tests.pipeline.packing.fuzzing import COUNT, damaged_files, make_sources, read_in_every_way

TIME_LIMIT_S = 20
PEAK_MIB = 400  # with 80 for the libraries, and room for one large frame that a damaged header asks for


def read_all(files, capsys, peak_mib=PEAK_MIB):
    """Reads every file in a process that may be killed; a crash or a hang is raised, with the number of the file."""
    counts = Counter()
    with KillableProcess() as process:
        first = None
        for number, (name, data) in enumerate(files):
            try:
                outcome = process.call(read_in_every_way, data, timeout=TIME_LIMIT_S)
            except Exception as error:
                raise AssertionError(f"file {number} ({name}): {type(error).__name__}: {error}") from error
            first = first or outcome
            for way, result in outcome.results.items():
                assert result == "frames" or result in REASONS, f"file {number} ({name}), {way}: {result}"
                counts[way, result] += 1
            assert outcome.open_files <= first.open_files + 1, f"file {number} ({name})"
            assert outcome.peak_mib < peak_mib, f"file {number} ({name}): {outcome.peak_mib} MiB"
    with capsys.disabled():
        for way in ("probe", "decode", "transcode", "inspect"):
            told = ", ".join(f"{result} {count}" for (of, result), count in counts.most_common() if of == way)
            print(f"\n{way} of {number + 1} files: {told}", end="")
        print(f"\npeak {outcome.peak_mib} MiB, {outcome.open_files} open files")
    return counts


def test_whole_files_are_read_in_every_way():
    for name, data in make_sources().items():
        assert set(read_in_every_way(data).results.values()) == {"frames"}, name
    assert COUNT == 20


def test_150_damaged_files(capsys):
    counts = read_all(damaged_files(make_sources(), 150, seed=1), capsys)
    assert counts["decode", "frames"] > 20
    assert sum(count for (way, result), count in counts.items() if way == "decode" and result != "frames") > 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_3600_damaged_files(capsys):
    counts = read_all(damaged_files(make_sources(), 3600, seed=2), capsys)
    assert sum(count for (way, _), count in counts.items() if way == "decode") == 3600
    assert all(counts[way, "frames"] > 100 for way in ("probe", "decode", "transcode", "inspect"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_damaged_real_clips(shared_dir, capsys):
    data = shared_dir / "data"
    paths = sorted((data / "surveillance_fights" / "fight").glob("*.mp4"), key=lambda path: path.stat().st_size)[:6]
    paths += sorted((data / "odd_videos").iterdir(), key=lambda path: path.stat().st_size)[:6]
    paths += [data / "kinetics_sample" / "demo_arm_wrestling.mp4"]
    read_all(damaged_files({path.name: path.read_bytes() for path in paths}, 130, seed=3), capsys, peak_mib=1000)

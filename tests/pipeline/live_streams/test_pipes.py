"""`classify --live` on pipes and files: the scores are those of `classify`, whatever the bytes are like."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.video.decoding import decode_frames
from pipeline.__main__ import main
from pipeline.classify.video_input import preprocessing_of
from pipeline.classify.video_scores import VideoScorer
from pipeline.inference.trained_checkpoint import open_checkpoint
from tests.pipeline.live_streams.streams import classify, fed_pipe, moving_video


@pytest.fixture(scope="module")
def network(motion_checkpoint: Path) -> list[str]:
    return ["--checkpoint", str(motion_checkpoint), "--top", "8"]


def probabilities(line: dict, name: str = "top") -> dict[str, float]:
    return {entry["class"]: entry["probability"] for entry in line[name]}


def scores_of_clips(checkpoint: Path, path: Path, clips: list[list[int]]) -> list[dict[str, float]]:
    """The probabilities of clips of a file, each by itself, as `classify` computes them."""
    trained = open_checkpoint(checkpoint)
    transform = preprocessing_of(trained, 1, "pyav").transform
    score = VideoScorer(trained.model)
    names, found = trained.model.class_names, []
    for numbers in clips:
        cropped, _ = transform(torch.from_numpy(decode_frames(path, numbers, "pyav")))
        found.append(dict(zip(names, score([cropped[None]])[0].tolist(), strict=True)))
    return found


def test_a_window_has_the_scores_of_the_same_clip_of_the_file(
    motion_checkpoint: Path, network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows of one clip of 16 frames at 25 a second, one every 8 frames; then a file instead of a pipe."""
    data, path = moving_video(50), tmp_path / "video.ts"
    path.write_bytes(data)
    with fed_pipe(tmp_path, data) as pipe:
        printed = classify(capsys, pipe, *network, "--wait")
    assert printed.status == 0
    assert printed.events == ["connected", "ended"]
    assert printed[0] | {"time": "", "decoder": ""} == {
        "time": "",
        "event": "connected",
        "source": str(pipe),
        "codec": "mpeg2video",
        "width": 64,
        "height": 48,
        "fps": 25.0,
        "decoder": "",
    }
    starts = [0, 8, 16, 24, 32]
    assert [(line["start"], line["end"]) for line in printed.windows] == [
        (pytest.approx(start / 25), pytest.approx((start + 16) / 25)) for start in starts
    ]
    expected = scores_of_clips(motion_checkpoint, path, [[*range(start, start + 16)] for start in starts])
    assert [probabilities(line) for line in printed.windows] == [pytest.approx(one, abs=2e-6) for one in expected]
    assert len({json.dumps(line["top"]) for line in printed.windows}) == 5
    kept = 0.5 ** (0.32 / 2)
    first, second = (probabilities(line) for line in printed.windows[:2])
    smoothed = {name: kept * first[name] + (1 - kept) * second[name] for name in first}
    assert probabilities(printed.windows[1], "smoothed") == pytest.approx(smoothed, abs=3e-6)
    assert all(line["skipped"] == line["dropped"] == 0 for line in printed.windows)
    of_file = classify(capsys, path, *network)
    assert [line | {"time": ""} for line in of_file.windows] == [line | {"time": ""} for line in printed.windows]


def test_a_window_is_classified_as_a_video_of_its_frames(
    motion_checkpoint: Path, network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By three clips; and a stream shorter than a window is a video too."""
    data, path = moving_video(40, codec="ffv1", container="matroska"), tmp_path / "video.mkv"
    path.write_bytes(data)
    clips = ["--num-clips", "3"]
    assert main(["classify", str(path), *network, *clips, "--json"]) == 0
    expected = probabilities(json.loads(capsys.readouterr().out))
    for seconds in ("1.6", "1.68"):
        [line] = classify(capsys, path, *network, *clips, "--window", seconds).windows
        assert probabilities(line) == pytest.approx(expected, abs=2e-6)
        assert line["end"] == pytest.approx(1.6)


def test_frames_at_a_rate(tmp_path: Path, motion_checkpoint: Path) -> None:
    """Windows for a network of 5 frames at 10 a second, of a video of 25 a second, are the clips of the file."""
    import threading

    from datamodules.sampling.clip_sampling import ClipShape
    from datamodules.transforms.clip_transforms import EvalTransform
    from pipeline.live_streams.live_options import LiveOptions
    from pipeline.live_streams.mailbox import Delivery, Mailbox
    from pipeline.live_streams.stream_reader import StreamReader, WindowShape
    from pipeline.live_streams.stream_source import StreamSource

    path, stopping = tmp_path / "video.ts", threading.Event()
    path.write_bytes(moving_video(40))
    clip, transform = ClipShape(5, fps=10.0), EvalTransform(32, 40)
    mailbox = Mailbox(True, stopping.is_set)
    source = StreamSource(str(path), 10, stopping.is_set)
    StreamReader(source, LiveOptions(live=True), WindowShape(clip, 5, None, 0.3), transform, mailbox, stopping).start()
    found = []
    for _ in range(6):
        item = mailbox.take(60)
        found += [item.window] if isinstance(item, Delivery) else []
    assert [window.start_s for window in found] == pytest.approx([0.0, 0.3, 0.6, 0.9])
    for start, window in zip((0, 3, 6, 9), found, strict=True):
        numbers = [int(25 * moment / 10 + 1e-6) for moment in range(start, start + 5)]  # 0 2 5 7 10 12 ...
        expected, _ = transform(torch.from_numpy(decode_frames(path, numbers, "pyav")))
        assert torch.equal(torch.stack(window.frames), expected)


def test_windows_are_skipped_and_counted(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe that is written as fast as it is read: every frame is decoded, and each is in a window or dropped."""
    with fed_pipe(tmp_path, moving_video(800, first=9000)) as pipe:
        printed = classify(capsys, pipe, *network, "--stride", "0.64")
    assert printed.status == 0
    assert "800 frames decoded" in printed.err
    skipped, dropped = (sum(line[name] for line in printed.windows) for name in ("skipped", "dropped"))
    assert 0 < skipped == 50 - len(printed.windows)
    assert dropped == 16 * skipped
    assert f"{skipped} windows skipped, {dropped} frames dropped" in printed.err
    assert printed.windows[-1]["end"] == pytest.approx(800 / 25)


def test_a_clock_that_jumps_and_damage_are_told_once(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clock goes back twice; in the middle packets are overwritten; then frames have another size."""
    damaged = bytearray(moving_video(100, first=3000))
    generator = np.random.default_rng(1)
    for place in generator.integers(3000, len(damaged) - 3000, 60):
        damaged[place : place + 8] = generator.bytes(8)
    parts = moving_video(50, first=9000), bytes(damaged), moving_video(50), moving_video(60, 96, 80)
    with fed_pipe(tmp_path, *parts) as pipe:
        printed = classify(capsys, pipe, *network, "--wait")
    assert printed.status == 0
    assert sorted(printed.events) == ["changed", "clock_jump", "connected", "damaged", "ended"]
    assert all(printed.err.count(words) == 1 for words in ("timestamps are missing", "are damaged", "96 x 80"))
    assert 20 < len(printed.windows) <= 32
    starts = [line["start"] for line in printed.windows]
    assert starts == sorted(set(starts))
    assert "timestamps replaced" in printed.err


def test_a_codec_that_changes_is_read_on(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = moving_video(100), moving_video(400, codec="libx264")
    with fed_pipe(tmp_path, *parts) as pipe:
        printed = classify(capsys, pipe, *network, "--wait")
    assert printed.status == 0
    assert printed.events[:1] + printed.events[-1:] == ["connected", "ended"]
    codecs = [line["codec"] for line in printed if line.get("event") == "connected"]
    assert codecs == ["mpeg2video", "h264"]
    assert [line for line in printed.windows if line["start"] > 4]


def index_at_the_end() -> bytes:
    return moving_video(150, 320, 240, container="mov", codec="libx264")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "cannot be read"),
        (b"no video" * 1000, "cannot be read"),
        (index_at_the_end(), "its index at the end"),
    ],
    ids=["nothing", "text", "index at the end"],
)
def test_what_is_no_stream_is_one_sentence(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, sentence: str
) -> None:
    with fed_pipe(tmp_path, data) as pipe:
        printed = classify(capsys, pipe, *network)
    assert (printed.status, printed.windows) == (2, [])
    assert sentence in printed.err.splitlines()[-1]


def test_a_video_cut_in_the_middle_ends(network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for container, codec in (("mpegts", "libx264"), ("matroska", "libx264"), ("flv", "flv1")):
        data = moving_video(80, container=container, codec=codec)
        with fed_pipe(tmp_path, data[: len(data) * 2 // 3]) as pipe:
            printed = classify(capsys, pipe, *network, "--wait")
        assert printed.status == 0
        assert printed.events[-1] == "ended"
        assert 1 <= len(printed.windows) <= 8


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "a.parquet"], "out=a.parquet: is for video files"),
        (["--timeline"], "timeline=True: is for video files"),
        (["--annotate", "a.mp4"], "annotate=a.mp4: is for video files"),
        (["--decoder", "decord"], "decoder='decord': live streams are read with pyav"),
        (["--window", "0"], "window=0.0: must be a number of seconds above 0"),
        (["--window", "0.3"], "window=0.3: is shorter than a clip of the network, 16 frames of 25 a second, 0.64 s"),
        (["--window", "1e9"], "take more than 2 GiB"),
        (["--half-life", "-1"], "half_life=-1.0: must be"),
        (["--retries", "-1"], "retries=-1: must be at least 0"),
        (["b.ts"], "live: 2 sources are given"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(moving_video(20))
    printed = (
        classify(capsys, path, *words, *network) if words != ["b.ts"] else classify(capsys, path, "b.ts", *network)
    )
    assert printed.status == 2
    assert sentence in printed.err


def test_options_of_streams_are_for_streams(network: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "a.mp4", *network, "--stride", "2"]) == 2
    assert "stride=2.0: is for live streams; give --live too" in capsys.readouterr().err
    assert main(["classify", "--live", "nowhere.ts", *network]) == 2
    assert "nowhere.ts" in capsys.readouterr().err


@pytest.mark.slow
def test_memory_does_not_grow(motion_checkpoint: Path, tmp_path: Path) -> None:
    """After 20 minutes of 25 frames a second as after 5; a process of its own, told by its lines."""
    second = moving_video(25, 32, 32)
    script = (
        "import sys; from pipeline.__main__ import main; from pipeline.classify import live_stream; "
        "rss = lambda: next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmRSS')); "
        "scorer = live_stream.WindowScorer.__call__; sizes = []; "
        "live_stream.WindowScorer.__call__ = lambda *given: (sizes.append(rss()), scorer(*given))[1]; "
        "status = main(sys.argv[1:]); print(len(sizes), sizes[len(sizes) // 4], sizes[-1], status, file=sys.stderr)"
    )
    words = ["classify", "--live", "-", "--checkpoint", str(motion_checkpoint), "--wait", "--stride", "10"]
    command = [sys.executable, "-c", script, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        for _ in range(20 * 60):
            process.stdin.write(second)
        process.stdin.close()
        *_, last = process.stderr.read().decode().splitlines()
    windows, early_kib, late_kib, status = map(int, last.split())
    assert status == 0
    assert windows >= 119
    assert late_kib - early_kib < 3000

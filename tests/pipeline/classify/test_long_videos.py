"""Long videos, large frames, variable rates, tiny frames: what `classify` makes of them, in bounded memory and time."""

import io
import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from datamodules.annotations import video_files
from datamodules.sampling.clip_sampling import ClipSampler, ClipShape
from datamodules.video.decoding import iterate_frames, probe, read_frame_times
from pipeline.__main__ import main
from pipeline.classify import video_input as looking_module
from pipeline.classify.timeline import score_seconds, segments
from pipeline.classify.video_input import Preprocessing, choose_clips, preprocessing_of
from pipeline.classify.video_scores import VideoScorer
from pipeline.inference.trained_checkpoint import open_checkpoint
from tests.pipeline.gray_videos import write_long_video

MEASURE = """
import contextlib, io, json, sys
from pipeline.__main__ import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(words) == 0, words
    # Not getrusage's: that of the process that started this one is in it.
    print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peaks_mib(commands: list[list[str]]) -> list[float]:
    """The most memory that a process has had after each of some commands."""
    words = [sys.executable, "-c", MEASURE, json.dumps(commands)]
    told = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [float(line) for line in told.split()]


@pytest.mark.slow
def test_a_long_video_takes_no_more_memory_than_a_short_one(motion_checkpoint: Path, tmp_path: Path) -> None:
    """Frames of 10 s of 720p take 0.7 GB; clips of 100 x 16 of them, as one array, 4.4 GB."""
    for name, seconds in (("short", 2), ("long", 10)):
        (tmp_path / f"{name}.mp4").write_bytes(write_long_video(seconds, 1280, 720))
    told = ["--checkpoint", str(motion_checkpoint), "--json"]
    uses = [["--num-clips", "100"], ["--timeline", "--annotate", str(tmp_path / "copy.mp4")]]
    commands = [["classify", str(tmp_path / f"{name}.mp4"), *told, *use] for use in uses for name in ("short", "long")]
    short, long, drawn, long_drawn = peaks_mib(commands)
    assert max(long - short, long_drawn - drawn) < 100


@pytest.mark.slow
def test_a_folder_of_4k_files_takes_less_than_2_gb(motion_checkpoint: Path, tmp_path: Path) -> None:
    video = write_long_video(8, 3840, 2160)
    for name in "abcd":
        (tmp_path / f"{name}.mp4").write_bytes(video)
    told = ["--checkpoint", str(motion_checkpoint), "--json"]
    clips, timeline = peaks_mib([["classify", str(tmp_path), *told], ["classify", str(tmp_path), "--timeline", *told]])
    assert max(clips, timeline) < 2000


@pytest.fixture
def seen(motion_checkpoint: Path) -> Preprocessing:
    """As the small C3D sees videos: clips of 16 neighboring frames."""
    return preprocessing_of(open_checkpoint(motion_checkpoint), 10, "pyav")


@pytest.mark.parametrize(("codec", "container"), [("mpeg4", "avi"), ("libx264", "mpegts")])
def test_the_work_of_a_timeline_grows_as_the_video(
    seen: Preprocessing, tmp_path: Path, codec: str, container: str
) -> None:
    """Four times as long: 16 times the bytes read where each piece is decoded from the start."""

    def bytes_read(length: int) -> int:
        (video := tmp_path / f"{length}.{container}").write_bytes(write_long_video(length, 64, 48, container, codec))
        before = read_of_process()
        scores, duration_s = score_seconds(seen, video, lambda clips: np.zeros((len(clips), 2), np.float32))
        assert (len(scores), duration_s) == (length, pytest.approx(length))
        return read_of_process() - before

    assert bytes_read(320) < 6 * bytes_read(80)


def read_of_process() -> int:
    """Bytes that this process has read from files so far, by its system calls."""
    return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])


def timed_video(times_s: list[float], bright_from: float, container: str = "mp4") -> bytes:
    """Frames shown at these times, dark ones and then bright ones."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time_s in times_s:
            picture = np.full((48, 64, 3), 220 if time_s >= bright_from else 20, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * time_s), Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


VARIABLE = [0.04 * number for number in range(36)] + [1.44 + 0.4 * number for number in range(36)]
CONSTANT = [0.04 * number for number in range(100)]


def brightness(clips: list[torch.Tensor]) -> np.ndarray:
    """Two classes, dark and bright: the share of bright frames of each clip."""
    shares = [float((clip.float().mean(dim=(0, 2, 3, 4)) > 120).float().mean()) for clip in clips]
    return np.array([[1 - share, share] for share in shares], np.float32)


@pytest.mark.parametrize(
    ("times", "change", "duration"), [(VARIABLE, 1.44, 15.84), (CONSTANT, 2.0, 4.0)], ids=["variable", "constant"]
)
def test_a_timeline_is_right_in_seconds(
    seen: Preprocessing, times: list[float], change: float, duration: float
) -> None:
    data = timed_video(times, change)
    seconds, duration_s = score_seconds(seen, data, brightness)
    assert duration_s == pytest.approx(duration, abs=0.05)
    first, second = segments(seconds, duration_s, ["dark", "bright"])
    assert (first["class"], second["class"]) == ("dark", "bright")
    assert abs(first["end"] - change) < 1


def test_clips_at_a_rate_are_true_in_time(seen: Preprocessing) -> None:
    """A second apart, to the 0.4 s that a frame is shown; by the average rate they would be 0.2 or 1.8 s apart."""
    at_rate = seen._replace(sampler=ClipSampler(ClipShape(4, fps=1.0), "uniform", 3))
    numbers = choose_clips(at_rate, timed_video(VARIABLE, 1.44)).frame_numbers
    assert (np.abs(np.diff(np.array(VARIABLE)[numbers]) - 1) < 0.41).all()


@pytest.mark.parametrize("times", [VARIABLE, CONSTANT, [3600.0 * number for number in range(4)]])
def test_a_copy_shows_each_frame_when_the_video_does(
    motion_checkpoint: Path, tmp_path: Path, times: list[float]
) -> None:
    path, copy = tmp_path / "video.mp4", tmp_path / "copy.mp4"
    path.write_bytes(timed_video(times, 1e9))
    words = ["classify", str(path), "--checkpoint", str(motion_checkpoint), "--annotate", str(copy)]
    assert main(words) == 0
    np.testing.assert_allclose(read_frame_times(copy), read_frame_times(path), atol=2e-3)
    np.testing.assert_allclose(read_frame_times(path), times, atol=2e-3)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 40), (65, 3)])
def test_frames_of_any_size_are_seen_and_drawn(
    motion_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], width: int, height: int
) -> None:
    """Beside a video that is none, which is one line, and one that comes last."""
    with av.open(str(tmp_path / "a.mov"), "w", format="mov") as output:
        stream = output.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        for _ in range(30):
            output.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24"))
            )
        output.mux(stream.encode(None))
    (tmp_path / "b.mp4").write_bytes(b"")
    (tmp_path / "c.mp4").write_bytes(write_long_video(1, 64, 48))
    words = ["classify", str(tmp_path), "--checkpoint", str(motion_checkpoint), "--json", "--annotate"]
    assert main([*words, str(tmp_path / "copies")]) == 2
    captured = capsys.readouterr()
    told = [json.loads(line) for line in captured.out.splitlines()]
    assert ["error" in one for one in told] == [False, True, False]
    assert "Traceback" not in captured.err
    sizes = [probe(tmp_path / "copies" / name)[2:4] for name in ("a.mp4", "c.mp4")]
    assert sizes == [(max(2, width // 2 * 2), max(2, height // 2 * 2)), (64, 48)]
    assert sum(1 for _ in iterate_frames(tmp_path / "copies" / "a.mp4")) == 30


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_a_video_in_pieces_has_the_scores_of_the_whole(
    motion_checkpoint: Path,
    seen: Preprocessing,
    monkeypatch: pytest.MonkeyPatch,
    average: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Through the command too: with room for three clips in the network, one ahead, and hardly any of a file."""
    data = write_long_video(4, 64, 48)
    model = open_checkpoint(motion_checkpoint).model.eval()
    model.view_average = average
    score = VideoScorer(model)
    clips = choose_clips(seen, data)
    expected = score([choose_clips(seen, data).decode_all()])[0]
    (tmp_path / "a.mp4").write_bytes(data)
    words = ["classify", str(tmp_path / "a.mp4"), "--checkpoint", str(motion_checkpoint), "--json", "--top", "8"]
    told = run(words, capsys)
    clip_bytes = 3 * 16 * seen.transform.crop_size**2
    for name, size in (
        ("FORWARD_BYTES", 4 * 3 * clip_bytes),
        ("_MAX_CLIP_BYTES", clip_bytes),
    ):
        monkeypatch.setattr(looking_module, name, size)
    monkeypatch.setattr(video_files, "_MAX_READ_BYTES", 1000)
    pieces = list(clips.pieces())
    assert [len(piece) for piece in pieces] == [3, 3, 3, 1]
    np.testing.assert_allclose(score.score_pieces(pieces), expected, atol=1e-6)
    assert run(words, capsys) == told


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[tuple[str, float]]:
    """Runs the command, and gives the classes with their probabilities."""
    assert main(words) == 0
    [line] = capsys.readouterr().out.splitlines()
    return [(one["class"], pytest.approx(one["probability"], abs=2e-6)) for one in json.loads(line)["top"]]


def test_one_video_shows_how_far_it_is(
    motion_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").write_bytes(write_long_video(3, 64, 48))
    assert main(["classify", str(tmp_path / "a.mp4"), "--checkpoint", str(motion_checkpoint), "--timeline"]) == 0
    assert "classify: 3 of 3 clips in" in capsys.readouterr().err

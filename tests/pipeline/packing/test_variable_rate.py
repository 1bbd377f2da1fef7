"""Videos of a variable rate and of pixels that are not square, from the file to features: packed, indexed, sampled."""

import io
import json
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.video.decoding import decode_frames, read_frame_times
from pipeline.__main__ import main
from pipeline.features.feature_files import read_features
from tests.pipeline.conftest import fit

GRAY = 9  # levels from a frame to the next
UNEVEN_MS = (0, 40, 80, 1000, 1040, 3000, 3040, 3080, 3120, 3500)  # the last one until 4000
EVEN_MS = tuple(range(0, 4000, 400))
Capture = pytest.CaptureFixture[str]


def write_video(path: Path, times_ms: Sequence[int], aspect: Fraction = Fraction(1), streams: int = 1) -> None:
    """Frame number n is gray level 20 + GRAY * n, shown from its time on, until 4 s; 64 x 48 pixels."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        for number in range(streams):
            stream = container.add_stream("libx264", rate=25, options={"crf": "4", "preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 64, 48 if number == 0 else 32, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            stream.codec_context.sample_aspect_ratio = aspect
        for stream in container.streams.video:
            packets = []
            for number, time in enumerate(times_ms):
                level = np.full((stream.height, 64, 3), 20 + GRAY * number, np.uint8)
                frame = av.VideoFrame.from_ndarray(level, format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                packets += stream.encode(frame)
            packets += stream.encode(None)
            packets[-1].duration = round((4000 - times_ms[-1]) / 1000 / packets[-1].time_base)
            container.mux(packets)
    path.write_bytes(file.getvalue())


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files and list.csv: two of a variable rate, one of them with wide pixels, and two that are even."""
    folder = tmp_path_factory.mktemp("sources")
    write_video(folder / "jumpy.mp4", UNEVEN_MS)
    write_video(folder / "slow.mp4", [0, 1000, 1100, 3000, 3700], Fraction(3, 2))
    write_video(folder / "steady.mp4", EVEN_MS)
    write_video(folder / "double.mp4", EVEN_MS, streams=2)
    lines = ["path,label,split", "jumpy.mp4,a,test", "slow.mp4,b,train", "steady.mp4,a,train", "double.mp4,b,val"]
    (folder / "list.csv").write_text("\n".join(lines))
    return folder


def packed(sources: Path, out: Path, capsys: Capture, *more: str) -> str:
    """What `pack` prints."""
    words = ["pack", "--annotations", str(sources / "list.csv"), "--out", str(out), "--processes", "1"]
    assert main([*words, *more]) == 0
    return capsys.readouterr().out


def stored(root: Path) -> dict[str, dict[str, Any]]:
    """Rows of the index by key, with the bytes of the video."""
    index = DatasetIndex.open(root)
    return {index.entry(row).key: index.entry(row)._asdict() | {"video": index.read_video(row)} for row in range(4)}


def levels(video: bytes, num_frames: int) -> list[int]:
    means = decode_frames(video, list(range(num_frames)), "pyav").mean(axis=(1, 2, 3))
    return np.round((means - 20) / GRAY).astype(int).tolist()


@pytest.mark.parametrize("copy", [False, True])
def test_every_frame_is_kept_at_its_own_time(sources: Path, tmp_path: Path, capsys: Capture, copy: bool) -> None:
    printed = packed(sources, tmp_path / "shards", capsys, *(["--copy"] if copy else []))
    assert "variable rate: 2 videos (jumpy, slow), every frame is kept at its own time\n" in printed
    assert (
        f"further video streams: 1 video (double), 1 stream, {'stored, never read' if copy else 'left out'}" in printed
    )
    kept = "kept as stored: the index has their pixel_aspect" + ("" if copy else ", --square-pixels makes them square")
    assert f"pixels that are not square: 1 video (slow), {kept}\n" in printed
    rows = stored(tmp_path / "shards")
    assert {key: row["variable_rate"] for key, row in rows.items()} == {
        "jumpy": True,
        "slow": True,
        "steady": False,
        "double": False,
    }
    assert {key: row["pixel_aspect"] for key, row in rows.items() if row["pixel_aspect"] != 1} == {"slow": 1.5}
    assert [rows["slow"][name] for name in ("width", "height")] == [64, 48]
    for key, times in (("jumpy", UNEVEN_MS), ("slow", (0, 1000, 1100, 3000, 3700)), ("steady", EVEN_MS)):
        row = rows[key]
        assert (row["num_frames"], row["duration_s"]) == (len(times), pytest.approx(4.0, abs=0.01))
        assert row["fps"] == pytest.approx(len(times) / 4, rel=0.01)
        assert np.allclose(read_frame_times(row["video"]), np.array(times) / 1000, atol=1e-3)
        assert levels(row["video"], len(times)) == list(range(len(times)))


def test_a_rate_that_is_asked_for_is_kept_and_what_it_costs_is_told(
    sources: Path, tmp_path: Path, capsys: Capture
) -> None:
    printed = packed(sources, tmp_path / "shards", capsys, "--fps", "2")
    rows = stored(tmp_path / "shards")
    assert {row["fps"] for row in rows.values()} == {2.0}
    assert not any(row["variable_rate"] for row in rows.values())
    shown = levels(rows["jumpy"]["video"], 8)  # in the middles of halves of a second: at 0.25, 0.75, 1.25, ... s
    assert shown == [2, 2, 4, 4, 4, 4, 8, 9]
    slow = levels(rows["slow"]["video"], 8)
    assert slow == [0, 0, 2, 2, 2, 2, 3, 4]
    dropped = 10 - len(set(shown)) + 5 - len(set(slow))
    repeated = 8 - len(set(shown)) + 8 - len(set(slow))
    assert (
        f"variable rate: 2 videos (jumpy, slow), resampled to 2 frames a second: {dropped} source frames not shown, "
        f"{repeated} shown more than once\n"
    ) in printed
    assert "constant rate: 2 videos (" in printed  # 10 frames of 2.5 a second are 8 of 2
    assert "resampled to 2 frames a second: 4 source frames not shown, 0 shown more than once\n" in printed


def test_square_pixels_are_made_and_recorded(sources: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "shards"
    assert "pixels that are not square: 1 video (slow), made square\n" in packed(
        sources, out, capsys, "--square-pixels"
    )
    slow = stored(out)["slow"]
    assert [slow[name] for name in ("width", "height", "pixel_aspect")] == [96, 48, 1.0]
    assert json.loads((out / "dataset.json").read_text())["encode"]["square_pixels"] is True
    words = ["pack", "--annotations", str(sources / "list.csv"), "--out", str(out), "--processes", "1"]
    assert main(words) == 2
    assert "square_pixels True there, False now" in capsys.readouterr().err
    assert main([*words[:-4], "--out", str(tmp_path / "copies"), "--copy", "--square-pixels"]) == 2
    assert "square_pixels=True: --copy stores videos as they are" in capsys.readouterr().err


def test_notes_of_an_earlier_run_are_told_again(sources: Path, tmp_path: Path, capsys: Capture) -> None:
    def notes(printed: str) -> list[str]:
        return [line for line in printed.splitlines() if line.startswith(("variable", "further", "pixels"))]

    first = notes(packed(sources, tmp_path / "shards", capsys))
    assert len(first) == 3
    (tmp_path / "shards" / "dataset.json").unlink()
    again = packed(sources, tmp_path / "shards", capsys)
    assert "3 of 3 shards from an earlier run" in again
    assert notes(again) == first


def test_tars_alone_give_the_same_index_and_verify_and_stats_know(
    sources: Path, tmp_path: Path, capsys: Capture
) -> None:
    shards = tmp_path / "shards"
    packed(sources, shards, capsys, "--short-side", "48", "32")
    assert main(["index", "--shards", str(shards), "--out", str(tmp_path / "again")]) == 0
    told = "variable rate: 2 videos, whose frames a second are an average\npixels that are not square: 1 video"
    assert told in capsys.readouterr().out
    assert pq.read_table(tmp_path / "again" / "index.parquet").equals(pq.read_table(shards / "index.parquet"))
    assert main(["verify", "--data", str(shards), "--full", "--processes", "1"]) == 0
    assert main(["stats", "--data", str(shards)]) == 0
    assert f"{told} (width through height 1.5 in 1)" in capsys.readouterr().out


def test_others_tars_say_what_their_videos_are(sources: Path, tmp_path: Path, capsys: Capture) -> None:
    import webdataset

    with webdataset.TarWriter(str(tmp_path / "a-test.tar"), encoder=False) as writer:
        for key in ("jumpy", "slow", "steady", "double"):
            writer.write({"__key__": key, "mp4": (sources / f"{key}.mp4").read_bytes(), "cls": b"a"})
    assert main(["index", "--shards", str(tmp_path), "--label-from", "cls", "--processes", "1"]) == 0
    rows = stored(tmp_path)
    assert [key for key, row in rows.items() if row["variable_rate"]] == ["jumpy", "slow"]
    assert rows["slow"]["pixel_aspect"] == 1.5


def test_training_evaluation_and_features_go_by_time(sources: Path, tmp_path: Path, capsys: Capture) -> None:
    shards = tmp_path / "shards"
    packed(sources, shards, capsys)
    checkpoint = fit(shards, tmp_path / "fit", "--data.fps=5", "--data.batch_size=1")
    quick = ["--num-workers", "0", "--accelerator", "cpu"]
    words = ["--checkpoint", str(checkpoint), "--data", str(shards), *quick]
    assert main(["features", *words, "--out", str(tmp_path / "f.parquet"), "--per", "clip", "--clip-step", "3"]) == 0
    _, table = read_features(tmp_path / "f.parquet")
    # 16 frames at 5 a second, 3 s from the first to the last: from frame 0 on, at 0 s, and not from frame 3 on, at 1 s,
    # until when the frame that is shown at 3 s ends
    assert table.column("clip_start").to_pylist() == [0.0]
    assert table.column("clip_end").to_pylist() == [pytest.approx(3.04, abs=1e-3)]
    assert main(["evaluate", *words, "--out", str(tmp_path / "e"), "--num-clips", "2"]) == 0


def test_the_page_of_clips_has_the_times_of_the_video(sources: Path, tmp_path: Path, capsys: Capture) -> None:
    packed(sources, tmp_path / "shards", capsys)
    settings = {"root": str(tmp_path / "shards"), "num_frames": 4, "fps": 1, "crop_size": 32, "num_clips": 1}
    content = {
        "model": {"class_path": "CNNLSTM", "init_args": {"channels": [4], "hidden_size": 4}},
        "data": {"class_path": "ShardedVideoDataModule", "init_args": settings},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    words = ["--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "page.html"), "--stage", "test"]
    assert main(["show", *words]) == 0
    page = (tmp_path / "page.html").read_text()
    # from 0.3 s on, see tests/datamodules/video/test_variable_rate.py: frames 2, 4, 4 and 8, and when they are shown
    assert re.findall(r"(\d+) · (\d\.\d\d) s", page) == [("2", "0.08"), ("4", "1.04"), ("4", "1.04"), ("8", "3.12")]
    assert "0.08 to 3.50 s" in page

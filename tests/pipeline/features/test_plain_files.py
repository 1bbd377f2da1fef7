"""Features of plain video files: those of `pack --copy`; resumable; what cannot be read is listed and left out."""

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.video.mp4_writer import encode_frames
from pipeline.__main__ import main
from pipeline.features.feature_files import read_features, read_provenance
from pipeline.inference.split_runner import distributed_inference
from pipeline.inference.video_file_index import open_video_files
from tests.conftest import REPOSITORY
from tests.pipeline.gray_videos import NUM_VIDEOS, make_video

CLIPS = ["--num-clips", "1", "--crop-size", "32", "--num-workers", "0", "--accelerator", "cpu"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No results of inspections of other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def export(checkpoint, out, *words):
    return main(["features", "--checkpoint", str(checkpoint), "--out", str(out), *CLIPS, *words])


def listed(out):
    with out.with_name(f"{out.name}.quarantine.csv").open(newline="") as file:
        return {line["key"]: (line["path"], line["reason"]) for line in csv.DictReader(file)}


def test_they_are_those_of_the_packed_copies(motion_checkpoint, originals, tmp_path, capsys):
    """Bit for bit: the same bytes through the same loader, in the same batches."""
    words = ["--format", "files", "--videos", str(originals), "--copy", "--processes", "1"]
    assert main(["pack", *words, "--out", str(tmp_path / "copies")]) == 0
    packed, plain = tmp_path / "packed.parquet", tmp_path / "plain.parquet"
    both = ["--per", "both", "--layer", "fc6", "pool5", "--batch-size", "1", "--num-clips", "2"]
    assert export(motion_checkpoint, packed, "--data", str(tmp_path / "copies"), *both) == 0
    assert export(motion_checkpoint, plain, "--videos", str(originals), *both) == 0
    assert f"fc6 and pool5 of 36 rows of 12 videos of {originals}" in capsys.readouterr().out
    tables = []
    for file in (packed, plain):
        table = read_features(file, "fc6")[1]
        order = np.lexsort([table.column("clip").fill_null(9).to_numpy(), np.array(table.column("key").to_pylist())])
        tables.append(table.take(order))
        for layer in ("fc6", "pool5"):
            tables[-1] = tables[-1].append_column(
                layer, [list(map(np.ndarray.tobytes, read_features(file, layer)[0][order]))]
            )
    assert tables[1].column("path").to_pylist() == [
        f"{key.replace('_', '/')}.mp4" for key in tables[1].column("key").to_pylist()
    ]
    assert tables[0].equals(tables[1].drop_columns("path"))
    rows = open_video_files([str(originals)], plain).index
    index = DatasetIndex.open(tmp_path / "copies")
    order = np.argsort(index.column("key", range(len(index))))
    assert rows.identity == index.identity
    for column in ("group", "num_frames", "fps", "width", "height", "duration_s", "content_sha256", "source", "label"):
        found = rows.column(column, np.argsort(rows.column("key", range(len(rows)))))
        assert list(found) == list(index.column(column, order)), column


def test_a_rank_of_a_job_names_its_node(tmp_path):
    missing, out = str(tmp_path / "missing"), tmp_path / "out.parquet"
    with pytest.raises(FileNotFoundError) as alone:
        open_video_files([missing], out)
    with distributed_inference({}), pytest.raises(FileNotFoundError) as launched:
        open_video_files([missing], out)
    assert str(launched.value) == (
        f"node {socket.gethostname()}: {alone.value}; give a folder that all nodes share, at the same path, or pack "
        "the videos and give --data"
    )


def test_files_and_folders_at_once(motion_checkpoint, originals, tmp_path):
    out = tmp_path / "some.parquet"
    files = [str(originals / "run"), str(originals / "walk" / "0.mp4"), str(originals / "run" / "1.mp4")]
    assert export(motion_checkpoint, out, "--videos", *files) == 0
    table = read_features(out)[1]
    assert table.column("path").to_pylist() == [f"run/{n}.mp4" for n in (1, 11, 3, 5, 7, 9)] + ["walk/0.mp4"]
    assert set(table.column("split").to_pylist()) == {"all"}


def test_bad_files_are_listed_and_do_not_end_it(motion_checkpoint, videos, tmp_path, capsys):
    whole = encode_frames(np.random.default_rng(0).integers(0, 255, (40, 32, 48, 3), np.uint8), 10.0)
    start = whole.index(b"mdat") + 3000
    broken = whole[:start] + bytes(6000) + whole[start + 6000 :]
    (videos / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "damaged.mp4").write_bytes(broken)
    (videos / "none.mp4").write_bytes(b"no video")
    (videos / "gone.mp4").symlink_to(videos / "nowhere.mp4")
    out = tmp_path / "features.parquet"
    assert export(motion_checkpoint, out, "--videos", str(videos)) == 0
    refused = listed(out)
    assert refused.keys() == {"truncated", "damaged", "none", "gone"}
    assert refused["gone"] == ("gone.mp4", "absent")
    assert refused["damaged"][1] == "damaged"
    assert "(4 are listed in" in capsys.readouterr().out
    assert len(read_features(out)[1]) == NUM_VIDEOS
    assert read_provenance(out)["quarantined"] == sorted(refused)
    assert export(motion_checkpoint, out, "--videos", str(videos)) == 0
    assert "is there already" in capsys.readouterr().out
    (videos / "damaged.mp4").write_bytes(whole)
    assert export(motion_checkpoint, out, "--videos", str(videos), "--overwrite") == 0
    assert listed(out).keys() == {"truncated", "none", "gone"}
    assert len(read_features(out)[1]) == NUM_VIDEOS + 1


def test_a_line_by_hand_leaves_a_file_out(motion_checkpoint, originals, tmp_path):
    out = tmp_path / "features.parquet"
    (tmp_path / "features.parquet.quarantine.csv").write_text("key\nrun_3\n")
    for more in ([], ["--overwrite"]):
        assert export(motion_checkpoint, out, "--videos", str(originals), *more) == 0
        assert "run_3" not in read_features(out)[1].column("key").to_pylist()
        assert listed(out)["run_3"][1] == "by hand"


def test_changed_files_are_another_export(motion_checkpoint, videos, tmp_path, capsys):
    out = tmp_path / "features.parquet"
    assert export(motion_checkpoint, out, "--videos", str(videos)) == 0
    (videos / "run" / "99.mp4").write_bytes(make_video(5))
    assert export(motion_checkpoint, out, "--videos", str(videos)) != 0
    assert "holds features with another dataset_identity" in capsys.readouterr().err
    moved = shutil.move(videos, tmp_path / "moved")
    (moved / "run" / "99.mp4").unlink()
    assert export(motion_checkpoint, out, "--videos", str(moved)) == 0
    assert "is there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either data, the folder of a packed dataset, or videos"),
        (["--data", "a", "--videos", "b"], "give either data"),
        (["--videos", "b", "--split", "train"], "split='train': plain video files have no split"),
        (["--videos", "no_such_folder"], "videos=no_such_folder: there is no such file or folder"),
    ],
)
def test_one_sentence_says_what_is_wrong(motion_checkpoint, tmp_path, capsys, words, message):
    assert export(motion_checkpoint, tmp_path / "out.parquet", *words) != 0
    assert message in capsys.readouterr().err


def test_folders_of_images_are_to_be_packed(motion_checkpoint, originals, tmp_path, capsys):
    (tmp_path / "frames" / "1").mkdir(parents=True)
    (tmp_path / "frames" / "1" / "1.png").touch()
    frames = str(tmp_path / "frames")
    for words in ([frames], [str(originals), frames]):
        assert export(motion_checkpoint, tmp_path / "out.parquet", "--videos", *words) != 0
        assert f"videos={frames}: no video in this folder, but images; pack such folders" in capsys.readouterr().err
        assert not (tmp_path / "out.parquet.quarantine.csv").exists()


def test_no_readable_file(motion_checkpoint, tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert export(motion_checkpoint, tmp_path / "out.parquet", "--videos", str(tmp_path / "a.mp4")) != 0
    assert "none of 1 files can be read, first a.mp4" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_and_continued_by_several_processes(motion_checkpoint, tmp_path):
    """Killed in the middle, with a bad file, and finished by two processes with workers: the same file."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(16):
        (videos / f"{number:02d}.mp4").write_bytes(make_video(number % 12, num_frames=20 + number))
    (videos / "none.mp4").write_bytes(b"no video")
    words = ["--checkpoint", str(motion_checkpoint), "--videos", str(videos), "--crop-size", "32", "--num-clips", "1"]
    words += ["--accelerator", "cpu", "--save-every", "1", "--batch-size", "1"]

    def command(out, *more):
        return [sys.executable, "-m", "pipeline", "features", *words, "--out", str(out), *more]

    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    assert main(["features", *words, "--out", str(whole), "--num-workers", "0"]) == 0
    run = subprocess.Popen(command(out, "--num-workers", "0"), env=environment, cwd=REPOSITORY)
    parts = Path(f"{out}.parts")
    while run.poll() is None and len(list(parts.glob("part-*.arrow"))) < 3:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not out.exists()
    done = len(list(parts.glob("part-*.arrow")))
    assert 3 <= done < 16
    result = subprocess.run(
        command(out, "--devices", "2", "--num-workers", "1"),
        env=environment,
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    assert f"{done} of 16 videos are done, from an earlier run" in result.stdout
    np.testing.assert_allclose(read_features(out)[0], read_features(whole)[0], atol=1e-6)
    assert read_features(out)[1].equals(read_features(whole)[1])
    assert listed(out) == {"none": ("none.mp4", listed(whole)["none"][1])}

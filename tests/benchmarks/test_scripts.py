"""Benchmarks run as files, from anywhere, and count as they say."""

import argparse
import csv
import importlib
import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks.conditions import above_zero, is_packed, not_negative, positive, share
from benchmarks.memory_of_recurrence import SETTINGS, draw_chart, train
from benchmarks.networks import timelines, two_streams
from benchmarks.networks.class_balance import class_sizes
from benchmarks.networks.evaluate import Way, naive, ours, prepare
from benchmarks.turns import Spent, count, ratio
from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset
from tests.conftest import REPOSITORY
from tests.moving_textures import MOTIONS, moving_video


def test_the_cluster_on_paper_names_what_saturates_first(tmp_path):
    words = ["--nodes", "1", "64", "--cores", "1", "--store", "0.005"]
    run = subprocess.run(
        [sys.executable, REPOSITORY / "benchmarks/cluster/scale.py", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line for line in run.stdout.splitlines() if line.startswith(("| 1 | 8 |", "| 64 | 512 |"))]
    one_node, many_nodes = rows[:2]
    assert one_node.startswith("| 1 | 8 | 3 | object store |")  # 5 MB/s of videos of 1.84 MB
    assert many_nodes.startswith("| 64 | 512 | 3 | object store |")


def test_ratios_are_medians_of_rounds_with_quartiles():
    slow, quick = [Spent(4, 2), Spent(9, 2), Spent(8, 2)], [Spent(2, 1), Spent(3, 1), Spent(2, 1)]
    assert ratio(slow, quick, "wall") == "3.00 (2.50 to 3.50)"
    assert ratio(slow[:1], quick[:1]) == "2.00"


def test_class_sizes_fall_geometrically():
    assert class_sizes(48, 16, 5) == [48, 24, 12, 6, 3]
    assert class_sizes(40, 1, 3) == [40, 40, 40]


def test_counts_in_words():
    assert [count(1, "round"), count(2, "round"), count(2, "process")] == ["1 round", "2 rounds", "2 processes"]


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [(positive, "0", "1 or more"), (positive, "x", "1 or more"), (not_negative, "-1", "0 or more"),
     (above_zero, "0", "above 0"), (above_zero, "inf", "above 0"), (share, "45", "at most 1")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(kind, text, says):
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text}: .*{says}"):
        kind(text)
    assert kind("1") == 1


def test_a_pack_of_other_settings_is_not_measured(motion_dataset, tmp_path):
    assert not is_packed(tmp_path, 48)
    found = json.loads((motion_dataset / "dataset.json").read_text())
    found["encode"] = {**found["encode"], "short_side": 48, "crf": 40}
    (tmp_path / "dataset.json").write_text(json.dumps(found))
    with pytest.raises(SystemExit, match=r"crf 40, now 23.*--folder"):
        is_packed(tmp_path, 48)


@pytest.mark.parametrize(
    ("name", "words", "rows"),
    [
        (
            "loading.feed",
            "--videos-a-class 1 --workers 0 --batch-size 2 --width 1 --rounds 1 --steps 2 --folder feed",
            1,
        ),
        ("datasets.pack", "--limit 1 --short-side 64 --rounds 1 --processes 1", 2),
        ("datasets.flow", "--limit 1 --short-side 64 --pairs 1 --rounds 1 --warm-up 0", 4),
        ("datasets.rendition", "--limit 1 --rounds 1 --windows 1", 16),
        ("datasets.segments", "--minutes 2 --height 36 --places 2 --rounds 1", 4),
    ],
)
def test_runs_through_at_its_smallest(tmp_path, monkeypatch, capsys, name, words, rows):
    sample = tmp_path / "data" / "kinetics_sample"
    if name != "loading.feed":
        make_synthetic_dataset(sample, SyntheticDatasetOptions(train=1, val=0, test=0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARED_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [name, *words.split()])
    threads = torch.get_num_threads()
    try:
        importlib.import_module(f"benchmarks.{name}").main()
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert "Python" in printed.splitlines()[1]
    assert "made videos" not in printed
    table = [line for line in printed.splitlines() if line.startswith("| ") and "---" not in line]
    assert len([line for line in table if any(letter.isdigit() for letter in line.split("|", 2)[2])]) >= rows


def test_the_table_names_workers():
    assert [Way("32-true", workers).name for workers in (0, 1, 2)] == [
        "32-true",
        "32-true, 1 worker",
        "32-true, 2 workers",
    ]


@pytest.mark.slow
def test_evaluate_with_a_worker_gives_what_the_naive_loop_gives(motion_dataset, tmp_path):
    (tmp_path / "packed").symlink_to(motion_dataset)
    data, checkpoint = prepare(tmp_path, 1, motion_dataset)
    options = argparse.Namespace(num_clips=1, num_crops=1, device="cpu")
    scores = ours(data, checkpoint, tmp_path / "out", options, None, Way("32-true", 1))()
    np.testing.assert_allclose(scores, naive(data, checkpoint, options, None), atol=1e-5)


def test_open_gates_remember_what_torch_s_forget():
    """20 frames back: the gradient of closed gates is a hundredth of that of open ones, and training shows it."""
    closed, opened = (train(SETTINGS[name], delay=20, steps=200, seed=0) for name in ("LSTM", "LSTM, open gates"))
    assert closed.first_gradients[20] < 1e-2 * opened.first_gradients[20]
    assert closed.first_gradients[0] > 10 * closed.first_gradients[10] > 100 * closed.first_gradients[20]
    assert closed.accuracy < 0.3
    assert opened.accuracy > 0.5
    chart = draw_chart({"LSTM": {10: [closed], 20: [closed]}})
    assert chart.count("<polyline") == 2


@pytest.mark.slow
def test_streams_are_trained_fold_by_fold_and_fused(tmp_path, monkeypatch):
    source, lines = tmp_path / "weizmann", ["path,label,group,fold"]
    source.mkdir()
    for name, motion in zip("abcd", MOTIONS.values(), strict=True):  # no sides in their names: clips are mirrored
        for number in range(4):
            (source / f"{name}{number}.mp4").write_bytes(moving_video(motion, 9, seed=number))
            lines.append(f"{name}{number}.mp4,{name},person{number},{number // 2}")
    (source / "annotations.csv").write_text("\n".join(lines) + "\n")
    words = [
        "--network",
        "cnn-lstm",
        "--dataset",
        "weizmann",
        "--videos",
        str(tmp_path),
        "--folder",
        str(tmp_path / "out"),
    ]
    words += ["--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["two_streams", *words, "--stream", "flow", "--validate", "--model.dropout=0.2"])
    two_streams.main()
    for _ in range(2):  # the second time there is nothing left to do
        monkeypatch.setattr(sys, "argv", ["two_streams", *words, "--stream", "fused"])
        two_streams.main()
    report = json.loads((tmp_path / "out/results/weizmann-cnn-lstm-fused/report.json").read_text())
    assert list(report["folds"]) == ["0", "1"]
    assert report["num_videos"] == 16
    assert len(list((tmp_path / "out/runs").glob("*/fold-*/last.ckpt"))) == 4
    assert len(list((tmp_path / "out/validation").glob("*/last.ckpt"))) == 1


@pytest.mark.slow
def test_labels_for_frames_are_compared_with_labels_for_clips(tmp_path, monkeypatch, capsys):
    words = ["--folder", str(tmp_path), "--videos", "9", "--epochs", "1", "--network", "frames, causal", "clips"]
    monkeypatch.setattr(sys, "argv", ["timelines", *words])
    for _ in range(2):  # the second time there is nothing left to do
        timelines.main()
        rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
        assert [row.split(" | ")[0] for row in rows] == ["| frames, causal", "| clips"]
    with (tmp_path / "segments.csv").open(newline="") as file:
        of_first = [row for row in csv.DictReader(file) if row["path"] == "videos/long/long_000.mp4"]
    assert [row["label"] == "background" for row in of_first] == [True, False] * 6
    assert all(before["end"] == after["start"] for before, after in pairwise(of_first))
    assert of_first[0]["start"] == "0"

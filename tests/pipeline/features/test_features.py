"""Feature export: what the layer gives, a row a video or a clip, written once."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from lightning_modules import VideoClassifier
from pipeline.__main__ import main
from pipeline.features.feature_files import read_features, read_provenance
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features

REPOSITORY = Path(__file__).resolve().parents[3]
QUICK = {"num_workers": 0, "accelerator": "cpu"}


def views_of(checkpoint, dataset, layer, **settings):
    """For each test video its views' features, (num_views, ...), one video at a time, and its clip times."""
    model = VideoClassifier.load(checkpoint)
    data = ShardedVideoDataModule(str(dataset), batch_size=1, crop_size=32, num_workers=0, **settings)
    with torch.inference_mode():
        for loaded in data.predict_dataloader():
            batch = data.on_after_batch_transfer(loaded, 0)
            yield model.endpoints(model.normalize(batch), [layer])[layer].numpy(), batch.clip_times.numpy()


def test_a_row_a_video_is_the_mean_over_its_views(motion_checkpoint, motion_dataset, tmp_path, capsys):
    path = tmp_path / "new" / "test.parquet"
    features(FeatureOptions(motion_checkpoint, motion_dataset, out=path, num_clips=2, num_crops=3, **QUICK))
    found, table = read_features(path)
    expected = [
        views.mean(0) for views, _ in views_of(motion_checkpoint, motion_dataset, "fc6", num_clips=2, num_crops=3)
    ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)
    index = DatasetIndex.open(motion_dataset)
    rows = index.rows("test")
    assert table.column_names == ["key", "label", "label_name", "split", "group", "seen"]
    assert table.column("key").to_pylist() == index.column("key", rows)
    assert table.column("group").to_pylist() == index.column("group", rows)
    assert set(table.column("split").to_pylist()) == {"test"}
    assert f"wrote {path}: fc6 of 16 videos of test, 128 numbers each" in capsys.readouterr().out
    assert [file.name for file in path.parent.iterdir()] == ["test.parquet"]


def test_a_row_a_clip_has_its_times(motion_checkpoint, motion_dataset, tmp_path):
    path = tmp_path / "clips.parquet"
    settings = {"clip_step": 4, "num_crops": 3}
    features(
        FeatureOptions(motion_checkpoint, motion_dataset, out=path, layer=["pool5"], per="clip", **settings, **QUICK)
    )
    found, table = read_features(path)
    assert len(table) == 16 * 3  # clips of 16 of 24 frames start at 0, 4 and 8
    assert table.column("clip").to_pylist() == [0, 1, 2] * 16
    expected, times = [], []
    for views, clip_times in views_of(motion_checkpoint, motion_dataset, "pool5", **settings):
        expected += list(views.mean(axis=(2, 3, 4)).reshape(3, 3, -1).mean(1))  # places, then the crops of each clip
        times += clip_times[::3].tolist()
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)
    starts_and_ends = zip(table.column("clip_start").to_pylist(), table.column("clip_end").to_pylist(), strict=True)
    assert [list(pair) for pair in starts_and_ends] == times


@pytest.mark.parametrize("form", ["parquet", "npz", "webdataset"])
def test_segments_have_their_source_and_times_in_it(form, motion_checkpoint, segments_dataset, tmp_path):
    path, settings = tmp_path / "segments", {"clip_step": 2, "per": "both", "format": form, "dtype": "float16"}
    features(FeatureOptions(motion_checkpoint, segments_dataset, out=path, **settings, **QUICK))
    _, table = read_features(path)
    index = DatasetIndex.open(segments_dataset)
    columns = ["key", "seen", "source", "source_start", "source_end", "clip", "source_clip_start", "source_clip_end"]
    assert [name for name in table.column_names if name in columns] == columns
    entries = {index.entry(row).key: index.entry(row) for row in index.rows("test").tolist()}
    assert {row["key"] for row in table.to_pylist()} == set(entries)
    for row in table.to_pylist():
        entry = entries[row["key"]]
        for name in ("source", "source_start", "source_end"):
            assert row[name] == getattr(entry, name)
        for end in ("start", "end"):
            assert row[f"source_clip_{end}"] == pytest.approx(entry.source_start + row[f"clip_{end}"])
    later = table.filter([key.endswith("_200ms_960ms") for key in table.column("key").to_pylist()])
    clips = [later.column(name).to_pylist()[0] for name in ("source_clip_start", "source_clip_end")]
    assert clips == pytest.approx([0.2, 0.2 + 16 / 25])  # clips of 16 frames at 25 a second


def test_whole_videos(motion_checkpoint, motion_dataset, tmp_path):
    path = tmp_path / "whole.parquet"
    features(
        FeatureOptions(
            motion_checkpoint, motion_dataset, out=path, layer=["pool5"], whole=True, num_crops=3, per="clip", **QUICK
        )
    )
    found, table = read_features(path)
    assert len(table) == 16
    assert set(table.column("clip_start").to_pylist()) == {0.0}
    assert set(table.column("clip_end").to_pylist()) == {24 / 25}
    settings = {"test_sampling": "whole", "num_crops": 3}
    expected = [
        views.mean(axis=(0, 2, 3, 4)) for views, _ in views_of(motion_checkpoint, motion_dataset, "pool5", **settings)
    ]
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)
    assert read_provenance(path)["sampling"]["max_frames"] == 512


def test_pandas_reads_the_file(motion_checkpoint, motion_dataset, tmp_path):
    path = tmp_path / "test.parquet"
    features(FeatureOptions(motion_checkpoint, motion_dataset, out=path, num_clips=1, **QUICK))
    frame = pd.read_parquet(path)
    np.testing.assert_array_equal(np.stack(frame.feature), read_features(path)[0])
    classes = DatasetIndex.open(motion_dataset).classes
    assert [classes[label] for label in frame.label] == frame.label_name.tolist()


def test_provenance(motion_checkpoint, motion_dataset, tmp_path):
    path = tmp_path / "test.parquet"
    features(FeatureOptions(motion_checkpoint, motion_dataset, out=path, num_clips=1, **QUICK))
    about = read_provenance(path)
    assert about["checkpoint_sha256"] == hashlib.sha256(motion_checkpoint.read_bytes()).hexdigest()
    assert (about["layer"], about["per"], about["dimension"], about["split"]) == ("fc6", "video", 128, "test")
    assert about["classes"] == DatasetIndex.open(motion_dataset).classes
    assert about["sampling"]["num_clips"] == 1
    assert about["decoder"]
    assert about["versions"]["pytorch-lightning"]


def test_the_same_again_is_left_and_another_is_not_overwritten(motion_checkpoint, motion_dataset, tmp_path, capsys):
    path = tmp_path / "test.parquet"
    features(FeatureOptions(motion_checkpoint, motion_dataset, out=path, num_clips=1, **QUICK))
    before = path.stat()
    features(FeatureOptions(motion_checkpoint, motion_dataset, out=path, num_clips=1, batch_size=3, **QUICK))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert "is there already" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds features with another layer; choose another name, or give --overwrite"):
        features(FeatureOptions(motion_checkpoint, motion_dataset, out=path, num_clips=1, layer=["fc7"], **QUICK))
    with pytest.raises(ValueError, match="holds features with another precision"):
        features(
            FeatureOptions(motion_checkpoint, motion_dataset, out=path, num_clips=1, precision="bf16-mixed", **QUICK)
        )
    features(
        FeatureOptions(motion_checkpoint, motion_dataset, out=path, num_clips=1, layer=["fc7"], overwrite=True, **QUICK)
    )
    assert read_provenance(path)["layer"] == "fc7"


def test_folds_name_the_split_of_the_fold(folded_checkpoint, folded_dataset, tmp_path):
    features(
        FeatureOptions(
            folded_checkpoint, folded_dataset, out=tmp_path / "train.parquet", split="train", num_clips=1, **QUICK
        )
    )
    _, table = read_features(tmp_path / "train.parquet")
    assert set(table.column("split").to_pylist()) == {"train"}
    assert set(table.column("group").to_pylist()) == {"g0", "g2"}
    assert read_provenance(tmp_path / "train.parquet")["fold"] == "1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--layer": "Mixed_5c"}, "layer 'Mixed_5c': C3D has conv1a, pool1,"),
        ({"--split": "tset"}, "split='tset': shards has no video in it"),
        ({"--checkpoint": "absent.ckpt"}, "checkpoint 'absent.ckpt': no such file"),
        ({"--num-clips": "2", "--clip-step": "8"}, "num_clips=2, clip_step=8: give one of them"),
        ({"--format": "npz"}, "test.parquet': the name of a parquet file; give --format parquet"),
        ({"--clip-step": "0"}, "clip_step=0: must be at least 1"),
        ({"--whole": "true", "--clip-step": "4"}, "clip_step=4, whole=True: give one of them"),
        ({"--whole": "true"}, "clips of any length, for whole videos: the C3D of"),
        ({"--whole": "true", "--layer": "pool5", "--max-frames": "8"}, "max_frames=8: must be at least num_frames=16"),
        ({"--out": __file__}, "is there and is not a file of features"),
        ({"--out": f"{__file__}/a.parquet", "--checkpoint": "absent"}, "test_features.py is no folder, so nothing can"),
        ({"--out": str(Path(__file__).parent), "--overwrite": "true"}, "is a folder; give the name of a file in it"),
    ],
)
def test_bad_input_costs_one_line(changes, message, motion_checkpoint, motion_dataset, tmp_path, capsys):
    options = {"--checkpoint": str(motion_checkpoint), "--data": str(motion_dataset)}
    options |= {"--out": str(tmp_path / "out" / "test.parquet"), "--num-workers": "0"} | changes
    assert main(["features", *(word for pair in options.items() for word in pair)]) == 2
    complaint = capsys.readouterr().err.strip().splitlines()[-1]
    assert complaint.startswith("error: ")
    assert message in complaint
    assert not list(tmp_path.rglob("*.parquet*"))


def test_reading_what_is_no_file_of_features(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file; `python -m pipeline features` writes them"):
        read_features(tmp_path / "absent.parquet")
    with pytest.raises(ValueError, match="not a Parquet file"):
        read_features(__file__)
    pd.DataFrame({"key": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="no column 'feature'"):
        read_features(tmp_path / "other.parquet")


@pytest.mark.slow
def test_two_processes_give_the_same(motion_checkpoint, motion_dataset, tmp_path):
    alone, together = tmp_path / "alone.parquet", tmp_path / "together.parquet"
    features(FeatureOptions(motion_checkpoint, motion_dataset, out=alone, per="clip", clip_step=4, **QUICK))
    words = ["--checkpoint", motion_checkpoint, "--data", motion_dataset, "--out", together, "--per", "clip"]
    words += ["--clip-step", 4, "--devices", 2, "--accelerator", "cpu", "--num-workers", 0, "--batch-size", 3]
    command = [sys.executable, "-m", "pipeline", "features", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (one, rows), (two, other_rows) = read_features(alone), read_features(together)
    np.testing.assert_allclose(two, one, atol=1e-4)
    assert other_rows.equals(rows)
    assert read_provenance(together) == read_provenance(alone)

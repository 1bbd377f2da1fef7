"""A dataset of several labels a video through the verbs on datasets, and its batches for any ranks and workers."""

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.batch import multi_hot
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.split_loaders import SplitLoaders
from datamodules.sampling.batch_sampler import EvaluationRequests, ResumePoint, TrainRequests
from lightning_modules.tasks.metrics import MeanAveragePrecision
from pipeline.__main__ import main
from tests.pipeline.several_labels import CLASSES, SPLITS


def module(folder, **options):
    settings = {"batch_size": 3, "num_frames": 4, "crop_size": 32, "flip_probability": 0.0, "num_workers": 0}
    return ShardedVideoDataModule(str(folder), **settings | options)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_have_a_row_of_ones_and_zeros_for_each_video(several_labels_dataset, workers):
    data = module(several_labels_dataset, num_workers=workers, num_clips=2, test_sampling="uniform")
    index = DatasetIndex.open(several_labels_dataset)
    assert data.task == index.task == "multi_label"
    seen = []
    for batch in data.test_dataloader():
        assert str(batch.labels.dtype) == "torch.uint8"
        expected = [[number in index.labels(row) for number in range(3)] for row in batch.rows.tolist()]
        assert batch.labels.tolist() == expected
        seen += batch.keys
    assert sorted(seen) == sorted(index.column("key", index.rows("test")))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31))
def test_evaluation_on_any_ranks_has_the_precision_of_one(several_labels_dataset, world_size, batch_size, seed):
    """The requests of all ranks, scored with made-up scores by row: every video once, and the same figure."""
    index = DatasetIndex.open(several_labels_dataset)
    rows = index.rows("test")
    scores = np.random.default_rng(seed).integers(0, 4, (len(rows), 3)) / 3
    labels = multi_hot([index.labels(row) for row in rows.tolist()], 3)

    def states(world):
        for rank in range(world):
            metric = MeanAveragePrecision(3)
            for request in EvaluationRequests(len(rows), batch_size, rank, world, None):
                metric.update(*(values[request.samples] for values in (_tensor(scores), labels)))
            yield metric

    whole, ranks = MeanAveragePrecision(3), list(states(world_size))
    whole.update(_tensor(scores), labels)
    merged = MeanAveragePrecision(3)
    for metric in ranks:
        merged.scores += metric.scores
        merged.labels += metric.labels
    assert sum(map(len, merged.scores)) == len(rows)
    merged._update_count = 1
    assert merged.compute() == whole.compute()


def _tensor(values):
    return torch.from_numpy(values).float()


def test_an_epoch_of_any_rank_has_the_labels_of_its_videos(several_labels_dataset):
    data = module(several_labels_dataset)
    data.setup("validate")
    for world_size in (1, 2):
        labels = {}
        for rank in range(world_size):
            loaders = SplitLoaders(data.index, data.options, data.decoder, rank, world_size)
            requests = TrainRequests(loaders.train_plan(), rank, ResumePoint(1))
            for batch in loaders.training(requests):
                labels |= dict(zip(batch.keys, map(tuple, batch.labels.tolist()), strict=True))
        assert len(labels) >= SPLITS["train"] - world_size + 1
        for row in data.index.rows("train").tolist():
            expected = multi_hot([data.index.labels(row)], 3)[0].tolist()
            assert labels.get(data.index.entry(row).key, tuple(expected)) == tuple(expected)


@pytest.mark.parametrize(("sided", "places"), [("keep", {0, 1}), (["top"], {2})])
def test_a_video_is_not_mirrored_if_any_of_its_labels_depends_on_the_side(several_labels_dataset, sided, places):
    data = module(several_labels_dataset, flip_probability=1.0, sided_classes=sided)
    loaders = SplitLoaders(data.index, data.options, data.decoder, 0, 1)
    mirrored = {}
    for batch in loaders.training(TrainRequests(loaders.train_plan(), 0, ResumePoint(0))):
        windows = [batch.windows[number] for number in range(len(batch.keys))]  # one clip a video
        mirrored |= {tuple(of.tolist()): window.mirrored for of, window in zip(batch.labels, windows, strict=True)}
    assert len(mirrored) == 8
    assert all(flag == (not any(labels[place] for place in places)) for labels, flag in mirrored.items())


def test_fit_keeps_the_best_checkpoint_by_mean_average_precision(several_labels_checkpoint):
    record = json.loads((several_labels_checkpoint.parent / "checkpoints.json").read_text())
    assert record["monitor"] == "val/mean_average_precision"
    [saved] = record["checkpoints"]
    assert 0 < saved["metrics"]["val/mean_average_precision"] <= 1
    assert {"train/mean_average_precision", "train/top1_hit", "val/top1_hit", "val/loss"} <= saved["metrics"].keys()


def test_verify_stats_show_plan_and_quarantine(several_labels_dataset, tmp_path, capsys):
    root = str(several_labels_dataset)
    assert main(["verify", root, "--full"]) == 0
    assert main(["stats", root, "--out", str(tmp_path / "stats.html")]) == 0
    printed = capsys.readouterr().out
    for name in CLASSES:
        assert name in printed
    words = [
        "--model",
        "C3D",
        "--num-videos",
        "9",
        "--data.root",
        root,
        "--data.crop_size",
        "32",
        "--data.num_workers",
        "0",
        "--data.flip_probability",
        "0",
    ]
    assert main(["show", "--data", "ShardedVideoDataModule", *words, "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "left, right" in page
    assert "no label" in page
    assert main(["plan", root]) == 0
    manifest = json.loads((several_labels_dataset / "dataset.json").read_text())
    assert manifest["task"] == "multi_label"
    assert manifest["splits"]["train"]["classes"] == dict.fromkeys(CLASSES, 8)


def test_a_split_of_which_no_video_has_a_label(several_labels_dataset, several_labels_checkpoint, tmp_path, capsys):
    """Where others have some, a video without is one of no class; where none has, there is nothing to compare with."""
    index = DatasetIndex.open(several_labels_dataset)
    parts = ["train" if index.labels(row) else "bare" for row in range(len(index))]
    chosen = tmp_path / "bare.csv"
    lines = [f"{key},{part}" for key, part in zip(index.column("key", range(len(index))), parts, strict=True)]
    chosen.write_text("\n".join(["key,split", *lines]))
    words = ["--model=C3D", "--model.width=2", "--model.crop_size=32", "--trainer.accelerator=cpu"]
    words += ["--data=ShardedVideoDataModule", f"--data.root={several_labels_dataset}", f"--data.split_file={chosen}"]
    words += ["--data.crop_size=32", "--data.flip_probability=0", "--data.num_workers=0", "--trainer.logger=false"]
    count = parts.count("bare")
    for verb, split in (("fit", "val_split"), ("validate", "val_split"), ("test", "test_split")):
        assert main([verb, *words, f"--data.{split}=bare"]) != 0
        assert f"{verb}: {count} videos of its splits have no label; choose other splits" in capsys.readouterr().err
    words = ["--checkpoint", str(several_labels_checkpoint), "--data", str(several_labels_dataset), "--split", "bare"]
    words += ["--split-file", str(chosen), "--allow-overlap", "--accelerator", "cpu"]
    assert main(["evaluate", *words]) != 0
    assert f"{count} of the {count} videos of split 'bare' have no label, and scores" in capsys.readouterr().err

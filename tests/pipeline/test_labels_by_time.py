"""From a list of segments to labelled frames: packed whole, learnt frame by frame, and found again in long videos."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from lightning_modules.tasks.frame_labels import refuse_labels_by_time
from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main
from pipeline.dataset_tools.verify import verify
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from tests.pipeline.conftest import fit
from tests.pipeline.labels_by_time import LEVELS, write_videos

Capture = pytest.CaptureFixture[str]
CLASSES = ["bright", "gray", "background"]
NETWORK = (
    *("--model=CNNLSTM", "--model.encoder=pixels:4", "--model.cell=gru", "--model.hidden_size=8", "--model.dropout=0"),
    *("--model.readout=every", "--model.optimizer=adamw", "--model.learning_rate=0.03"),
)
DATA = ("--data.num_frames=12", "--data.crop_size=32", "--data.batch_size=2", "--data.clips_per_video=4")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("timed") / "videos")


@pytest.fixture(scope="module")
def dataset(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("timed") / "shards"
    pack(PackOptions(root, [videos / "list.csv"], short_side=32, timelines=True, processes=1))
    return root


@pytest.fixture(scope="module")
def checkpoint(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(dataset, tmp_path_factory.mktemp("fit"), *DATA, "--trainer.max_epochs=12", model=NETWORK)


def module(root: Path, **options: object) -> ShardedVideoDataModule:
    given = {"batch_size": 2, "num_frames": 12, "crop_size": 32, "flip_probability": 0.0, "num_workers": 0}
    return ShardedVideoDataModule(str(root), **given | options)


def shown_classes(clips: torch.Tensor) -> np.ndarray:
    """The class that each frame shows, by its brightness."""
    levels = np.array([LEVELS[name] for name in CLASSES])
    brightness = clips.float().mean(dim=(2, 3, 4)).numpy()
    return np.abs(brightness[..., None] - levels).argmin(axis=-1)


def test_whole_files_are_packed_with_their_segments(dataset: Path, capsys: Capture) -> None:
    index = DatasetIndex.open(dataset)
    assert (index.classes, index.task, len(index)) == (CLASSES, "single_label", 10)
    for row in range(len(index)):
        parts = index.timeline(row)
        assert parts[0][:2] == (2, 0.0)  # a pause comes first and last, and no time is without a label
        assert parts[-1][2] == pytest.approx(index.entry(row).duration_s)
        assert all(before[2] == after[1] for before, after in pairwise(parts))
    verify(dataset, full=True)
    (dataset / "index.parquet").rename(dataset / "index.before")
    assert main(["index", "--shards", str(dataset)]) == 0
    assert (dataset / "index.parquet").read_bytes() == (dataset / "index.before").read_bytes()
    (dataset / "index.before").unlink()
    assert main(["stats", str(dataset)]) == 0
    assert "background" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{}, {"fps": 25.0}, {"fps": 4.0}, {"frame_interval": 3}])
def test_labels_follow_the_frames_that_are_sampled(dataset: Path, options: dict) -> None:
    data = module(dataset, clips_per_video=3, num_clips=3, num_crops=3, **options)
    for loader in (data.train_dataloader(), data.test_dataloader()):
        for loaded in loader:
            batch = data.on_after_batch_transfer(loaded, 0)
            assert batch.frame_labels.shape == batch.clips.shape[:2]
            known = batch.frame_labels.numpy() >= 0
            assert known.mean() > 0.95  # at a higher rate, repetitions of the last frame do not count
            assert (batch.frame_labels.numpy() == shown_classes(batch.clips))[known].all()


def test_frames_that_lengthen_a_clip_have_no_label(dataset: Path) -> None:
    for short_videos in ("loop", "repeat_last"):
        [batch, *_] = module(dataset, num_frames=120, short_videos=short_videos, num_clips=1).test_dataloader()
        for labels, row, clip in zip(batch.frame_labels, batch.rows.tolist(), batch.clips, strict=True):
            count = DatasetIndex.open(dataset).entry(row).num_frames
            assert count < 120
            assert (labels[count:] == -1).all()
            assert (labels[:count].numpy() == shown_classes(clip[None, :count])[0]).all()


def test_overlaps_give_frames_several_labels(videos: Path, tmp_path: Path, capsys: Capture) -> None:
    rows = (videos / "list.csv").read_text() + "0.mp4,0,1.5,humming,train\n"
    (tmp_path / "list.csv").write_text(rows)
    root = tmp_path / "shards"
    pack(PackOptions(root, [tmp_path / "list.csv"], videos, short_side=32, timelines=True, processes=1))
    assert "overlap, so frames have several labels" in capsys.readouterr().err
    index = DatasetIndex.open(root)
    assert (index.task, index.classes) == ("multi_label", ["bright", "gray", "humming"])
    [row] = index.rows_of(["0"]).tolist()
    assert index.labels(row) == (0, 1, 2)
    for batch in module(root, batch_size=1).train_dataloader():
        shown = shown_classes(batch.clips)
        for number in (0, 1):
            assert (batch.frame_labels[..., number].numpy() == (shown == number)).all()


def test_frames_are_learnt_and_found_again(
    checkpoint: Path, videos: Path, dataset: Path, tmp_path: Path, capsys: Capture
) -> None:
    saved = read_checkpoint(checkpoint)
    assert saved["classifier"]["init_args"]["readout"] == "every"
    told = ["--checkpoint", str(checkpoint), "--annotations", str(videos / "list.csv"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", "--timeline", *told, "--background", "background", "--tiou", "[0.5]"]) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["mean_average_precision"] > 0.6
    assert report["frames"]["mean_average_precision"] > 0.9
    assert '<div class="lane">' in (tmp_path / "out/report.html").read_text()
    words = ["--model=CNNLSTM", "--data=ShardedVideoDataModule", f"--data.root={dataset}", f"--ckpt_path={checkpoint}"]
    assert main(["test", *words, "--trainer.logger=false", "--data.num_clips=4", *DATA[:2]]) == 0
    assert "test/mean_average_precision" in capsys.readouterr().out


def test_each_second_of_a_file_and_of_a_stream(checkpoint: Path, videos: Path, capsys: Capture) -> None:
    """Seconds and windows that lie in one part show its class."""
    lines = [line.split(",") for line in (videos / "list.csv").read_text().splitlines()[1:]]
    parts = [(float(start), float(end), label) for name, start, end, label, _ in lines if name == "9.mp4"]
    assert (
        main(["classify", str(videos / "9.mp4"), "--checkpoint", str(checkpoint), "--timeline", "--json", "true"]) == 0
    )
    seconds = json.loads(capsys.readouterr().out)["timeline"]
    live = ["classify", "--live", str(videos / "9.mp4"), "--checkpoint", str(checkpoint), "--stride", "0.5"]
    assert main([*live, "--top", "1"]) == 0
    windows = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"top"' in line]
    assert all(window["end"] - window["start"] == pytest.approx(0.5, abs=0.01) for window in windows)
    for found in (seconds, windows):
        inside = [
            (each["top"][0]["class"], label)
            for each in found
            for start, end, label in parts
            if start <= each["start"] and each["end"] <= end + 1e-6
        ]
        assert len(inside) >= 2
        assert sum(shown == label for shown, label in inside) >= 0.8 * len(inside)


def test_what_does_not_go_together_is_one_sentence(
    dataset: Path, checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = ["fit", "--model=CNNLSTM", "--data=ShardedVideoDataModule", f"--data.root={dataset}"]
    words += ["--data.flip_probability=0", "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}", *DATA]
    assert main([*words, "--model.readout=mean"]) == 2
    assert "CNNLSTM: gives one label a clip, and the dataset has labels by time" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"mixup_alpha=0\.5, cutmix_alpha=0\.0: mix clips that have one label"):
        refuse_labels_by_time("CNNLSTM", True, (0.5, 0.0, 1.0))
    with pytest.raises(ValueError, match="class_balance='sqrt': shards has labels by time"):
        module(dataset, class_balance="sqrt").train_dataloader()
    out = ["--out", str(tmp_path / "out")]
    assert main(["evaluate", "--checkpoint", str(checkpoint), "--data", str(dataset), *out]) == 2
    assert "its labels have times; score the list of segments" in capsys.readouterr().err
    assert main(["export", "--checkpoint", str(checkpoint), *out]) == 2
    assert "labels every frame, and programs give one label a clip" in capsys.readouterr().err
    assert main(["pack", "--videos", str(tmp_path), *out, "--background", "nothing"]) == 2
    assert "background=nothing: is for --timelines" in capsys.readouterr().err


def test_class_weights_are_by_time(dataset: Path) -> None:
    data = module(dataset)
    rows = DatasetIndex.open(dataset).rows("train").tolist()
    parts = [part for row in rows for part in DatasetIndex.open(dataset).timeline(row)]
    seconds = [sum(end - start for label, start, end in parts if label == number) for number in range(3)]
    assert data.class_frequencies == pytest.approx([each / sum(seconds) for each in seconds])

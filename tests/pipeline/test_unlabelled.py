"""A dataset without labels, from a bare folder: every verb works or says in one sentence what is missing."""

import json
import shutil

import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.__main__ import main
from pipeline.features.feature_files import read_features
from pipeline.training import lightning_cli
from tests.pipeline.gray_videos import NUM_VIDEOS

QUICK = ["--num-workers=0", "--accelerator=cpu", "--num-clips=1"]


@pytest.fixture(scope="module")
def unlabelled(originals, tmp_path_factory):
    """The twelve gray videos packed as a bare folder. Read-only."""
    out = tmp_path_factory.mktemp("unlabelled") / "shards"
    assert main(["pack", "--format", "files", "--videos", str(originals), "--out", str(out), "--processes", "1"]) == 0
    return out


def test_every_video_has_label_minus_one(unlabelled, capsys):
    index = DatasetIndex.open(unlabelled)
    assert index.classes == []
    assert len(index) == NUM_VIDEOS
    assert set(index.column("label", range(NUM_VIDEOS))) == {-1}
    assert index.labels(0) == ()
    assert set(index.column("split", range(NUM_VIDEOS))) == {"all"}
    assert json.loads((unlabelled / "dataset.json").read_text())["splits"] == {
        "all": {"videos": NUM_VIDEOS, "classes": {}}
    }


def test_it_is_described_verified_planned_and_shown(unlabelled, tmp_path, capsys):
    assert main(["stats", str(unlabelled)]) == 0
    assert "12 videos without labels" in capsys.readouterr().out
    assert main(["verify", str(unlabelled), "--full"]) == 0
    assert main(["plan", str(unlabelled)]) == 0
    assert "all: 12 videos" in capsys.readouterr().out
    assert main(["plan", str(unlabelled), "--split", "train"]) != 0
    assert "has no video in it, only in all; name one of these (--split, or data." in capsys.readouterr().err
    page = tmp_path / "page.html"
    data = ["--data=ShardedVideoDataModule", f"--data.root={unlabelled}", "--data.flip_probability=0"]
    data += ["--data.crop_size=32", "--data.num_frames=8"]
    assert main(["show", "--model=C3D", *data, "--num_videos=2", f"--out={page}"]) == 0
    assert "no label" in page.read_text()
    assert "split all, epoch 0" in page.read_text()


def test_it_is_indexed_from_its_tars_alone(unlabelled, tmp_path):
    before = DatasetIndex.open(unlabelled).identity
    assert main(["index", str(unlabelled), "--out", str(tmp_path / "again")]) == 0
    assert DatasetIndex.open(tmp_path / "again").identity == before


def test_tars_of_others_without_labels(unlabelled, tmp_path):
    """Read as foreign tars, whose json is not looked at."""
    out = tmp_path / "foreign"
    assert main(["index", str(unlabelled), "--out", str(out), "--label-from", "none", "--processes", "1"]) == 0
    index = DatasetIndex.open(out)
    assert index.classes == []
    assert sorted(index.column("key", range(len(index)))) == sorted(
        DatasetIndex.open(unlabelled).column("key", range(NUM_VIDEOS))
    )
    assert set(index.column("split", range(len(index)))) == {"all"}


def test_features_take_its_only_split(unlabelled, motion_checkpoint, tmp_path):
    out = tmp_path / "features.parquet"
    words = ["--checkpoint", str(motion_checkpoint), "--data", str(unlabelled), "--out", str(out)]
    assert main(["features", *words, *QUICK]) == 0
    values, table = read_features(out)
    assert values.shape == (NUM_VIDEOS, 128)
    assert set(table.column("label").to_pylist()) == {-1}
    assert set(table.column("label_name").to_pylist()) == {""}
    assert set(table.column("split").to_pylist()) == {"all"}


def test_what_needs_labels_says_so(unlabelled, motion_checkpoint, tmp_path, capsys):
    out = tmp_path / "features.parquet"
    words = ["--checkpoint", str(motion_checkpoint), "--data", str(unlabelled)]
    assert main(["features", *words, "--out", str(out), *QUICK]) == 0
    capsys.readouterr()
    assert main(["evaluate", *words, "--split", "all", *QUICK]) != 0
    assert "its videos have no labels, and scores are evaluated against labels" in capsys.readouterr().err
    assert main(["linear", "--train", str(out), "--test", str(out), "--out", str(tmp_path / "linear")]) != 0
    assert "its videos have no labels, from which a linear classifier learns" in capsys.readouterr().err
    data = ["--data=ShardedVideoDataModule", f"--data.root={unlabelled}", "--data.train_split=all"]
    for verb, split in (("fit", "val_split=null"), ("validate", "val_split=all"), ("test", "test_split=all")):
        assert main([verb, "--model=C3D", *data, f"--data.{split}", "--data.crop_size=32"]) != 0
        error = capsys.readouterr().err
        assert "the videos have no labels, from which a classifier learns" in error
        assert "Traceback" not in error


def test_video2vec_learns_from_it_and_is_tested_on_it(unlabelled, tmp_path, recwarn, capsys):
    words = ["fit", "--model=Video2Vec", "--data=ShardedVideoDataModule", f"--data.root={unlabelled}"]
    words += ["--data.train_split=all", "--data.val_split=null", "--data.crop_size=32", "--data.num_frames=8"]
    words += ["--data.batch_size=4", "--data.num_workers=0", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    words += [f"--trainer.default_root_dir={tmp_path}", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]
    words += [
        "--model.encoder=pixels:8",
        "--model.hidden_size=8",
        "--model.predicted_frames=2",
        "--trainer.enable_model_summary=false",
    ]
    lightning_cli.main(words)
    assert not [one for one in recwarn if "Total length" in str(one.message)]  # of the loader of no validation
    [checkpoint] = tmp_path.rglob("step-*.ckpt")
    words = [word for word in words if "max_epochs" not in word and "val_split" not in word]
    for verb, split in (("validate", "val"), ("test", "test")):
        assert main([verb, *words[1:], f"--data.{split}_split=all", f"--ckpt_path={checkpoint}"]) == 0
        assert f"{split}/loss" in capsys.readouterr().out
    out = tmp_path / "features.parquet"
    assert (
        main(["features", "--checkpoint", str(checkpoint), "--data", str(unlabelled), "--out", str(out), *QUICK]) == 0
    )
    assert read_features(out)[0].shape == (NUM_VIDEOS, 8)


def test_class_names_have_no_use(originals, tmp_path, capsys):
    (tmp_path / "classes.txt").write_text("run\nwalk\n")
    words = ["--format", "files", "--videos", str(originals), "--classes", str(tmp_path / "classes.txt")]
    assert main(["pack", *words, "--out", str(tmp_path / "out")]) != 0
    assert "the videos have no labels; leave --classes out" in capsys.readouterr().err


def test_a_split_without_labels_in_a_dataset_with_classes(
    originals, motion_dataset, motion_checkpoint, tmp_path, capsys
):
    """The form of official test lists: here Jester's, whose test.csv has ids alone."""
    for number in range(4):
        shutil.copy(originals / ("walk", "run")[number % 2] / f"{number}.mp4", tmp_path / f"{number}.mp4")
    classes = DatasetIndex.open(motion_dataset).classes
    (tmp_path / "labels.csv").write_text("\n".join(classes))
    (tmp_path / "train.csv").write_text(f"0;{classes[0]}\n1;{classes[1]}\n")
    (tmp_path / "test.csv").write_text("2\n3\n")
    words = ["--format", "jester", "--annotations", str(tmp_path), "--videos", str(tmp_path), "--processes", "1"]
    assert main(["pack", *words, "--out", str(tmp_path / "out")]) == 0
    index = DatasetIndex.open(tmp_path / "out")
    assert set(index.column("label", index.rows("test"))) == {-1}
    assert set(index.column("label", index.rows("train"))) == {0, 1}
    words = ["--checkpoint", str(motion_checkpoint), "--data", str(tmp_path / "out"), "--split", "test"]
    assert main(["evaluate", *words, *QUICK]) != 0
    assert "2 of the 2 videos of split 'test' have no label, and scores" in capsys.readouterr().err
    model = ["--model=C3D", "--model.width=2", "--model.crop_size=32", "--trainer.accelerator=cpu"]
    data = ["--data=ShardedVideoDataModule", f"--data.root={tmp_path / 'out'}", "--data.crop_size=32"]
    data += ["--data.flip_probability=0", "--data.num_workers=0"]
    assert main(["fit", *model, *data, "--data.val_split=test", "--trainer.logger=false"]) != 0
    assert "fit: 2 videos of its splits have no label" in capsys.readouterr().err
    for verb, split in (("validate", "val_split"), ("test", "test_split")):
        assert main([verb, *model, *data, f"--data.{split}=test", "--trainer.logger=false"]) != 0
        assert f"{verb}: 2 videos of its splits have no label; choose other splits" in capsys.readouterr().err
    for split in ("train", "test"):
        words = ["--checkpoint", str(motion_checkpoint), "--data", str(tmp_path / "out"), "--split", split]
        assert main(["features", *words, "--out", str(tmp_path / f"{split}.parquet"), *QUICK]) == 0
    words = ["--train", str(tmp_path / "train.parquet"), "--test", str(tmp_path / "test.parquet")]
    assert main(["linear", *words, "--out", str(tmp_path / "linear")]) != 0
    error = capsys.readouterr().err
    assert "2 of 2 videos have no label, against which" in error
    assert "(`features --split NAME`), and give --train and --test" in error

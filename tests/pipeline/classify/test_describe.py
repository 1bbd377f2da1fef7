"""A describer and a video2vec through the command line: fit, test, describe; features and a linear classifier."""

import json
import shutil
from pathlib import Path

import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from lightning_modules import Video2Vec, VideoDescriber, VideoNetwork
from pipeline.__main__ import main
from pipeline.classify.describe import _format_caption

_QUIET = ("logger=false", "enable_progress_bar=false", "enable_model_summary=false", "accelerator=cpu", "max_epochs=1")


def fit(dataset, folder, *words):
    data = ["--data=ShardedVideoDataModule", f"--data.root={dataset}", "--data.batch_size=8", "--data.num_frames=8"]
    data += ["--data.crop_size=32", "--data.flip_probability=0", "--data.num_workers=0"]
    trainer = [f"--trainer.{setting}" for setting in (*_QUIET, f"default_root_dir={folder}")]
    assert main(["fit", *words[:1], *data, *words[1:], *trainer]) == 0
    [checkpoint] = folder.rglob("step-*.ckpt")
    return checkpoint


@pytest.fixture(scope="module")
def describer(motion_dataset, tmp_path_factory):
    """A very small describer after an epoch on the names of the motions. Read-only."""
    words = ["--model=VideoDescriber", "--model.channels=[4]", "--model.hidden_size=8", "--model.max_length=5"]
    return fit(motion_dataset, tmp_path_factory.mktemp("describer"), *words, "--data.captions=true")


@pytest.fixture
def video(motion_dataset, tmp_path):
    (tmp_path / "one.mp4").write_bytes(DatasetIndex.open(motion_dataset).read_video(0))
    return tmp_path / "one.mp4"


def test_fit_learns_the_words_of_the_dataset(describer, motion_dataset):
    model = VideoDescriber.load(describer)
    names = DatasetIndex.open(motion_dataset).classes
    assert set(model.vocabulary.tokens) == {word for name in names for word in name.lower().split()}


def test_describe_files(describer, video, tmp_path, capsys):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    words = ["--checkpoint", str(describer), "--num-clips", "2"]
    assert main(["describe", str(tmp_path), *words, "--json", "--beam-size", "2"]) == 2
    captured = capsys.readouterr()
    bad, good = [json.loads(line) for line in captured.out.splitlines() if line.startswith("{")]
    assert bad["video"].endswith("bad.mp4")
    assert "error" in bad
    assert isinstance(good["caption"], str)
    assert good["log_probability"] < 0
    assert "1 of 2 videos could not be decoded" in captured.err
    assert main(["describe", str(video), *words]) == 0
    path, caption = capsys.readouterr().out.splitlines()[-2:]
    assert path == str(video)
    assert caption.startswith("  ")


def described(capsys, *words):
    """The caption and its probability by the video's name, as `describe --json` prints them."""
    capsys.readouterr()
    assert main(["describe", *map(str, words), "--num-clips", "2", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return {line["video"]: (line["caption"], line["log_probability"]) for line in lines}


def test_describe_a_packed_dataset(describer, originals, tmp_path, capsys):
    """Without labels, packed as it is: each video as its file, and none that is quarantined; files beside it."""
    shards = tmp_path / "shards"
    words = ["--format", "files", "--videos", str(originals), "--copy", "--processes", "1"]
    assert main(["pack", *words, "--out", str(shards)]) == 0
    assert main(["quarantine", str(shards), "run_3", "--reason", "blurred"]) == 0
    checkpoint = ["--checkpoint", describer]
    files, packed = described(capsys, originals, *checkpoint), described(capsys, shards, *checkpoint)
    paths = {
        f"{shards}/{key}": f"{originals}/{key.replace('_', '/')}.mp4"
        for key in DatasetIndex.open(shards).column("key", range(12))
    }
    assert packed.keys() == paths.keys() - {f"{shards}/run_3"}
    for name, (caption, log_probability) in packed.items():
        assert (caption, pytest.approx(log_probability, abs=1e-4)) == files[paths[name]]
    both = described(capsys, originals / "run" / "3.mp4", shards, *checkpoint)
    assert both == packed | {f"{originals}/run/3.mp4": files[f"{originals}/run/3.mp4"]}


def test_describe_a_damaged_shard(describer, motion_dataset, tmp_path, capsys):
    """A labelled dataset: what cannot be read of it is named, and the rest is described."""
    shards = shutil.copytree(motion_dataset, tmp_path / "shards")
    index = DatasetIndex.open(shards)
    entry = index.entry(0)
    with (shards / entry.shard).open("r+b") as tar:
        tar.truncate(entry.video_offset)
    lost = [
        key
        for key, shard in zip(*(index.column(name, range(len(index))) for name in ("key", "shard")), strict=True)
        if shard == entry.shard
    ]
    assert main(["describe", str(shards), "--checkpoint", str(describer), "--num-clips", "1", "--json"]) == 2
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines() if line.startswith("{")]
    assert {line["video"] for line in lines if "error" in line} == {f"{shards}/{key}" for key in lost}
    assert len(lines) == len(index)
    assert f"{len(lost)} of {len(index)} videos could not be decoded" in captured.err


def test_samples_depend_on_seed_and_video_alone(describer, video, capsys):
    def drawn(*words):
        given = ["--checkpoint", str(describer), "--num-clips", "1", "--temperature", "1.5", "--json"]
        assert main(["describe", *given, *words]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
        return {Path(line["video"]).stem: line["samples"] for line in lines}

    (video.parent / "another.mp4").write_bytes(video.read_bytes())
    five = drawn(str(video), "--num-samples", "5")["one"]
    assert len(five) == 5
    assert len({sample["caption"] for sample in five}) > 1
    assert all(sample["log_probability"] < 0 for sample in five)
    both = drawn(str(video.parent), "--num-samples", "3")
    assert [sample["caption"] for sample in both["one"]] == [sample["caption"] for sample in five[:3]]
    assert both["another"] != both["one"]
    assert drawn(str(video), "--num-samples", "5", "--seed", "1")["one"] != five
    assert main(["describe", str(video), "--checkpoint", str(describer), "--temperature", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_a_caption_without_words_is_shown_as_such():
    assert _format_caption({"video": "a.mp4", "caption": ""}) == "a.mp4\n  (no word)"
    assert _format_caption({"video": "a.mp4", "samples": [{"caption": ""}, {"caption": "run"}]}).endswith("\n  run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--temperature", "0"], "temperature=0.0: must be above 0"),
        (["--num-samples", "2"], "add --temperature 1"),
        (["--temperature", "1", "--beam-size", "2"], "temperature and beam_size: give one of them"),
    ],
)
def test_options_of_draws_and_of_beams_exclude_each_other(words, message, capsys):
    assert main(["describe", "x.mp4", "--checkpoint", "x.ckpt", *words]) == 2
    assert message in capsys.readouterr().err


def test_describe_wants_a_describer(motion_checkpoint, describer, video, capsys):
    assert main(["describe", str(video), "--checkpoint", str(motion_checkpoint)]) == 2
    assert "a checkpoint of C3D, not of VideoDescriber" in capsys.readouterr().err
    assert main(["describe", str(video), "--checkpoint", str(describer), "--beam-size", "0"]) == 2
    assert "beam_size=0: must be at least 1" in capsys.readouterr().err
    assert main(["classify", str(video), "--checkpoint", str(describer)]) == 2
    assert "a checkpoint of VideoDescriber, not of VideoClassifier" in capsys.readouterr().err


def test_test_logs_bleu_and_exact_match(describer, motion_dataset, tmp_path, capsys):
    words = ["--model=VideoDescriber", "--model.channels=[4]", "--model.hidden_size=8", "--model.max_length=5"]
    words += ["--data=ShardedVideoDataModule", f"--data.root={motion_dataset}", "--data.captions=true"]
    words += ["--data.num_frames=8", "--data.crop_size=32", "--data.num_workers=0", "--data.num_clips=2"]
    trainer = [f"--trainer.{setting}" for setting in (*_QUIET, f"default_root_dir={tmp_path}")]
    assert main(["test", *words, *trainer, "--ckpt_path", str(describer)]) == 0
    printed = capsys.readouterr().out
    assert "test/bleu4" in printed
    assert "test/exact_match" in printed


def test_video2vec_is_trained_exported_and_judged(motion_dataset, tmp_path):
    words = ["--model=Video2Vec", "--model.channels=[4]", "--model.hidden_size=8", "--model.predicted_frames=3"]
    checkpoint = fit(motion_dataset, tmp_path / "fit", *words)
    assert isinstance(VideoNetwork.load(checkpoint), Video2Vec)
    for split in ("train", "test"):
        where = ["--checkpoint", str(checkpoint), "--data", str(motion_dataset), "--split", split]
        more = ["--num-clips", "1", "--num-workers", "0", "--out", str(tmp_path / f"{split}.parquet")]
        assert main(["features", *where, "--layer", "state", *more]) == 0
    files = ["--train", str(tmp_path / "train.parquet"), "--test", str(tmp_path / "test.parquet")]
    assert main(["linear", *files, "--out", str(tmp_path / "linear")]) == 0
    report = json.loads((tmp_path / "linear" / "report.json").read_text())
    assert report["num_videos"] == 16

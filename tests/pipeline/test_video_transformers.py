"""A pretrained video network through the verbs: fit from a folder that is gone afterwards, and what opens its run."""

import shutil

import numpy as np
import pytest
import yaml

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.__main__ import main
from pipeline.features.feature_files import read_features
from tests.video_transformers import CROP_SIZE, NUM_FRAMES, save_video_transformer

QUICK = ["--num-workers", "0", "--accelerator", "cpu"]


@pytest.mark.slow
def test_fit_resume_evaluate_features_linear_and_classify(motion_dataset, tmp_path, capsys):
    folder = tmp_path / "network"
    save_video_transformer(folder, "videomae", preprocessing={"size": {"shortest_edge": 36}})
    data = {"root": str(motion_dataset), "batch_size": 8, "num_frames": NUM_FRAMES, "frame_interval": 4}
    data |= {"crop_size": CROP_SIZE, "resize": 36, "flip_probability": 0, "num_workers": 0}
    network = {"network": f"transformers:{folder}", "layer_decay": 0.75, "drop_path": 0.1, "lora_rank": 2}
    options = {
        "model": {"class_path": "PretrainedVideoNetwork", "init_args": network},
        "data": {"class_path": "ShardedVideoDataModule", "init_args": data},
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "default_root_dir": str(tmp_path / "run"), "logger": False},
    }
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(options))
    fit = ["fit", "--config", str(tmp_path / "fit.yaml")]
    assert main(fit) == 0
    features_of = ["features", "--data", str(motion_dataset), "--num-clips", "1", *QUICK]
    own = ["--checkpoint", f"transformers:{folder}", "--layer", "tokens", "--out", str(tmp_path / "own.parquet")]
    assert main([*features_of, "--split", "test", *own]) == 0  # as published, without a training
    shutil.rmtree(folder)
    last = str(tmp_path / "run" / "last.ckpt")
    assert main([*fit, "--trainer.max_epochs", "2", "--ckpt_path", last]) == 0
    for split in ("train", "test"):
        out = ["--split", split, "--layer", "pooled", "--out", str(tmp_path / f"{split}.parquet")]
        assert main([*features_of, "--checkpoint", last, *out]) == 0
    pooled, _ = read_features(tmp_path / "test.parquet")
    assert pooled.shape == (len(DatasetIndex.open(motion_dataset).rows("test")), 24)
    assert np.isfinite(pooled).all()
    evaluated = ["--data", str(motion_dataset), "--out", str(tmp_path / "report"), *QUICK]
    assert main(["evaluate", "--checkpoint", last, *evaluated]) == 0
    parts = ["--train", str(tmp_path / "train.parquet"), "--test", str(tmp_path / "test.parquet")]
    assert main(["linear", *parts, "--out", str(tmp_path / "linear")]) == 0
    capsys.readouterr()
    video = next((motion_dataset.parent / "videos").rglob("*.mp4"))
    assert main(["classify", str(video), "--checkpoint", last, "--top", "2"]) == 0
    printed = capsys.readouterr().out
    assert any(name in printed for name in DatasetIndex.open(motion_dataset).manifest.classes)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["videomae", "vjepa2", "timesformer", "vivit"])
def test_a_fine_tuned_network_of_the_library_is_classified_with_as_it_is(family, motion_dataset, tmp_path, capsys):
    names = list(DatasetIndex.open(motion_dataset).manifest.classes)
    save_video_transformer(tmp_path / family, family, names)
    checkpoint = ["--checkpoint", f"transformers:{tmp_path / family}"]
    video = next((motion_dataset.parent / "videos").rglob("*.mp4"))
    assert main(["classify", str(video), *checkpoint, "--top", "1"]) == 0
    printed = capsys.readouterr().out
    assert any(name in printed for name in names)
    out = ["--data", str(motion_dataset), "--split", "test", "--out", str(tmp_path / "report"), *QUICK]
    assert main(["evaluate", *checkpoint, "--num-clips", "1", *out]) == 0

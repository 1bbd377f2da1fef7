"""Networks of transformers through the verbs: fit from a folder that is gone afterwards, and what opens its run."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
import yaml

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.__main__ import main
from pipeline.features.feature_files import read_features
from pipeline.inference.trained_checkpoint import open_checkpoint
from tests.video_transformers import CROP_SIZE, NUM_FRAMES, save_video_transformer

QUICK = ["--num-workers", "0", "--accelerator", "cpu"]


def fit_words(folder, dataset, model, clips=(NUM_FRAMES, CROP_SIZE)):
    """The words of a `fit` of one epoch: a configuration written into `folder`, which gets the run."""
    data = {"root": str(dataset), "batch_size": 8, "num_frames": clips[0], "frame_interval": 4}
    data |= {"crop_size": clips[1], "resize": 36, "flip_probability": 0, "num_workers": 0}
    trainer = {"accelerator": "cpu", "max_epochs": 1, "default_root_dir": str(folder / "run"), "logger": False}
    options = {
        "seed_everything": 3,
        "model": model,
        "data": {"class_path": "ShardedVideoDataModule", "init_args": data},
        "trainer": trainer | {"enable_progress_bar": False},
    }
    (folder / "fit.yaml").write_text(yaml.safe_dump(options))
    return ["fit", "--config", str(folder / "fit.yaml")]


def check_all_that_opens(checkpoint, layer, size, dataset, folder, capsys):
    """`features` of `layer`, `linear` on them, `evaluate` and `classify` of a checkpoint."""
    classes = DatasetIndex.open(dataset).manifest.classes
    for split in ("train", "test"):
        words = ["features", "--data", str(dataset), "--split", split, "--num-clips", "1", "--layer", layer, *QUICK]
        assert main([*words, "--checkpoint", checkpoint, "--out", str(folder / f"{split}.parquet")]) == 0
    found, _ = read_features(folder / "test.parquet")
    assert found.shape == (len(DatasetIndex.open(dataset).rows("test")), size)
    assert np.isfinite(found).all()
    assert found.std(0).max() > 0, "videos differ"
    evaluated = ["--data", str(dataset), "--num-clips", "1", "--out", str(folder / "report"), *QUICK]
    assert main(["evaluate", "--checkpoint", checkpoint, *evaluated]) == 0
    parts = ["--train", str(folder / "train.parquet"), "--test", str(folder / "test.parquet")]
    assert main(["linear", *parts, "--out", str(folder / "linear")]) == 0
    capsys.readouterr()
    video = next((dataset.parent / "videos").rglob("*.mp4"))
    assert main(["classify", str(video), "--checkpoint", checkpoint, "--top", "2"]) == 0
    printed = capsys.readouterr().out
    assert any(name in printed for name in classes)


@pytest.mark.slow
def test_fit_resume_evaluate_features_linear_and_classify(motion_dataset, tmp_path, capsys):
    """A run that resumes without the network's folder has the weights of one that was not interrupted."""
    folder = tmp_path / "network"
    save_video_transformer(folder, "videomae", preprocessing={"size": {"shortest_edge": 36}})
    network = {"network": f"transformers:{folder}", "layer_decay": 0.75, "drop_path": 0.1, "lora_rank": 2}
    network |= {"lr_schedule": "constant"}
    fit = fit_words(tmp_path, motion_dataset, {"class_path": "PretrainedVideoNetwork", "init_args": network})
    assert main(fit) == 0
    whole = ["--trainer.max_epochs", "2", "--trainer.default_root_dir", str(tmp_path / "whole")]
    assert main([*fit, *whole]) == 0
    own = ["features", "--data", str(motion_dataset), "--split", "test", "--num-clips", "1", *QUICK]
    own += ["--checkpoint", f"transformers:{folder}", "--layer", "tokens", "--out", str(tmp_path / "own.parquet")]
    assert main(own) == 0  # as published, without a training
    shutil.rmtree(folder)
    last = str(tmp_path / "run" / "last.ckpt")
    assert main([*fit, "--trainer.max_epochs", "2", "--ckpt_path", last]) == 0
    resumed, whole = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("run", "whole"))
    assert resumed["global_step"] == whole["global_step"] == 10
    assert resumed["state_dict"].keys() == whole["state_dict"].keys()
    assert all(torch.equal(value, whole["state_dict"][key]) for key, value in resumed["state_dict"].items())
    check_all_that_opens(last, "pooled", 24, motion_dataset, tmp_path, capsys)


@pytest.mark.slow
def test_a_frame_encoder_of_transformers_through_the_verbs(motion_dataset, tmp_path, capsys):
    """Its folder is gone when its checkpoint is opened."""
    side = {"image_size": CROP_SIZE, "patch_size": 8}
    layers = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    network = transformers.ViTModel(transformers.ViTConfig(**side, **layers, initializer_range=0.3))
    network.save_pretrained(tmp_path / "vit")
    normalization = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"shortest_edge": 36}}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(normalization))
    encoder = {"encoder": f"transformers:{tmp_path / 'vit'}", "freeze_encoder": True, "hidden_size": 8}
    model = {"class_path": "CNNLSTM", "init_args": encoder}
    assert main(fit_words(tmp_path, motion_dataset, model, clips=(3, CROP_SIZE))) == 0
    shutil.rmtree(tmp_path / "vit")
    last = str(tmp_path / "run" / "last.ckpt")
    check_all_that_opens(last, "frames", 16, motion_dataset, tmp_path, capsys)


def test_weights_lists_the_classes_and_converts(tmp_path, capsys):
    network = save_video_transformer(tmp_path / "network", "videomae", ["up", "down"])
    save_video_transformer(tmp_path / "headless", "videomae")
    name = f"transformers:{tmp_path / 'network'}"
    assert main(["weights", "classes", name]) == 0
    assert capsys.readouterr().out == "up\ndown\n"
    for words, classes in (([], 2), (["--num_classes", "5"], 5)):
        assert main(["weights", "convert", name, "--out", str(tmp_path / "own.ckpt"), *words]) == 0
        trained = open_checkpoint(tmp_path / "own.ckpt")
        assert trained.model.num_classes == classes
        assert trained.clips["num_frames"] == NUM_FRAMES
    shutil.rmtree(tmp_path / "network")
    assert main(["weights", "convert", name, "--out", str(tmp_path / "gone.ckpt")]) == 2
    assert "no such folder" in capsys.readouterr().err
    headless = f"transformers:{tmp_path / 'headless'}"
    assert main(["weights", "classes", headless]) == 2
    assert f"weights '{headless}': does not name its classes" in capsys.readouterr().err
    assert main(["weights", "convert", headless]) == 2
    assert "was not trained to tell classes and has no classifier" in capsys.readouterr().err
    x = torch.randn(1, 3, NUM_FRAMES, CROP_SIZE, CROP_SIZE)
    with torch.inference_mode():
        tokens = trained.model.endpoints(x, ["layer_2"])["layer_2"]
        expected = network(x.transpose(1, 2), output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=0)


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

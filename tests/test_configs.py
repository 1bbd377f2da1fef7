"""Every recipe is instantiated as `fit` would, on a dataset of 8 classes."""

import pytest
import yaml

from lightning_modules import VideoClassifier
from pipeline.training.lightning_cli import build
from tests.conftest import REPOSITORY
from tests.video_transformers import CROP_SIZE, FAMILIES, NUM_FRAMES, save_video_transformer

CONFIGS = sorted((REPOSITORY / "pipeline" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_builds_its_model_and_reads_its_data(path, motion_dataset, tmp_path):
    words = ["--config", str(path), "--data.init_args.root", str(motion_dataset), "--data.init_args.num_workers=0"]
    words += ["--data.init_args.flip_probability=0", "--data.init_args.fold=null", "--trainer.logger=false"]
    words += ["--data.init_args.batch_size=2", "--data.init_args.num_clips=1", "--trainer.accelerator=cpu"]
    words += ["--data.init_args.pixels=rgb"]  # these frames are smaller than what recipes in i420 cut out of them
    network = yaml.safe_load(path.read_text())["model"]["init_args"].get("network")
    if network is not None:  # from a folder, as a hub is not to be had here; of the same family
        family = next(family for family in FAMILIES if family in network)
        save_video_transformer(tmp_path, family)
        words += [f"--model.init_args.network=transformers:{tmp_path}", f"--data.init_args.num_frames={NUM_FRAMES}"]
        words += [f"--data.init_args.crop_size={CROP_SIZE}", "--data.init_args.resize=36"]
    cli = build(words)
    assert cli.model.num_classes == 8
    if not isinstance(cli.model, VideoClassifier):
        return
    batch = cli.datamodule.on_after_batch_transfer(next(iter(cli.datamodule.test_dataloader())), 0)
    assert cli.model.eval().video_scores(batch).shape == (batch.num_videos, 8)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_says_what_it_is(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("Command:", "Expected:", "Cost:"):
        assert any(word in line for line in header), f"{path.name}: the header has no {word!r}"
    assert {"model", "data", "trainer"} <= set(yaml.safe_load(path.read_text()))

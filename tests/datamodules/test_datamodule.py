"""The data module: arguments, and what it refuses."""

import importlib.util
import json
import shutil
import warnings

import pytest

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.loading.loader_options import log_once
from datamodules.storage.errors import ShardFormatError
from datamodules.video.decoding import describe_decoder


def test_class_names_and_identity_come_from_the_dataset(motion_dataset):
    data = ShardedVideoDataModule(str(motion_dataset), decoder="pyav")
    assert len(data.class_names) == 8
    assert data.class_names == sorted(data.class_names)
    assert data.identity["identity"] == data.index.identity
    assert data.identity["decoder"].startswith("pyav ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"worker_timeout_s": -1}, "worker_timeout_s=-1: must be at least 0"),
        ({"num_workers": -1}, "num_workers=-1: must be at least 0"),
        ({"clip_step": 0}, "clip_step=0: must be at least 1, or null"),
        ({"num_frames": 0}, "num_frames=0: must be at least 1"),
        ({"decoder": "ffmpeg"}, "ffmpeg"),
        ({"test_sampling": "dense"}, "test_sampling='dense': set clip_step"),
        ({"test_sampling": "whole", "clip_step": 4}, "test_sampling='whole', clip_step=4: give one of them"),
        ({"test_sampling": "whole", "max_frames": 8}, "max_frames=8: must be at least num_frames=16"),
        ({"segments": True, "clip_step": 4}, "segments=true"),
    ],
)
def test_impossible_arguments_are_named(motion_dataset, arguments, message):
    with pytest.raises(ValueError, match=message):
        ShardedVideoDataModule(str(motion_dataset), **arguments)


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises((ShardFormatError, FileNotFoundError), match="nowhere"):
        ShardedVideoDataModule(str(tmp_path / "nowhere")).class_names  # noqa: B018


def test_an_unknown_split_lists_those_there_are(motion_dataset):
    data = ShardedVideoDataModule(str(motion_dataset), test_split="tset", num_workers=0)
    with pytest.raises(ValueError, match=r"tset.*(test.*train|train.*test)"):
        data.test_dataloader()


def test_mirroring_is_refused_where_classes_tell_left_from_right(motion_dataset):
    data = ShardedVideoDataModule(str(motion_dataset), flip_probability=0.5)
    with pytest.raises(ValueError, match=r"flip_probability=0.5: mirroring would turn 'moving left', 'moving right'"):
        data.setup("fit")
    ShardedVideoDataModule(str(motion_dataset), flip_probability=0.0).setup("fit")
    ShardedVideoDataModule(str(motion_dataset), flip_probability=0.5, sided_classes="mirror").setup("fit")
    with pytest.raises(ValueError, match="sided_classes: the dataset has no class 'moving sideways'"):
        ShardedVideoDataModule(str(motion_dataset), sided_classes=["moving sideways"]).setup("fit")


@pytest.mark.parametrize("sided", ["keep", ["moving left", "moving down"]])
def test_clips_of_sided_classes_are_never_mirrored(motion_dataset, sided):
    settings = {"flip_probability": 1.0, "sided_classes": sided, "num_workers": 0, "crop_size": 32}
    data = ShardedVideoDataModule(str(motion_dataset), **settings)
    seen = {}
    for batch in data.train_dataloader():
        for place, window in zip(batch.video_index.tolist(), batch.windows, strict=True):
            seen.setdefault(data.class_names[int(batch.labels[place])], set()).add(window.mirrored)
    kept = {name for name in data.class_names if "left" in name or "right" in name or "clockwise" in name}
    assert seen == {name: {name not in (kept if sided == "keep" else sided)} for name in data.class_names}


def test_auto_says_once_which_decoder_it_took(motion_dataset, caplog):
    log_once.cache_clear()  # another test may have had it said
    with caplog.at_level("INFO", logger="pytorch_lightning"):  # which `evaluate` quietens in this process
        for _ in range(3):
            data = ShardedVideoDataModule(str(motion_dataset), decoder="auto")
    assert caplog.text.count(f"decoder auto: {describe_decoder(data.decoder)}") == 1
    assert data.decoder != "decord"


@pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord is not installed")
def test_decord_warns_of_videos_that_packing_did_not_encode(motion_dataset, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(ShardedVideoDataModule(str(motion_dataset), decoder="decord").index) == 64
    shutil.copytree(motion_dataset, tmp_path / "copied")
    manifest = json.loads((tmp_path / "copied" / "dataset.json").read_text())
    for encode in ({"copy": True}, {"copy": True, "label_from": "cls"}, {}):  # pack --copy, index of others', unknown
        (tmp_path / "copied" / "dataset.json").write_text(json.dumps(manifest | {"encode": encode}))
        with pytest.warns(UserWarning, match="were not encoded by `pack`, and decord takes its process down"):
            assert len(ShardedVideoDataModule(str(tmp_path / "copied"), decoder="decord").index) == 64

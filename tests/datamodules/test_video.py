"""The data module: arguments, and what it refuses."""

import pytest

from datamodules.manifest import ShardFormatError
from datamodules.video import ShardedVideoDataModule


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
        ({"num_workers": -1}, "num_workers=-1: must be at least 0"),
        ({"clip_step": 0}, "clip_step=0: must be at least 1, or null"),
        ({"num_frames": 0}, "num_frames=0: must be at least 1"),
        ({"decoder": "ffmpeg"}, "ffmpeg"),
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
    with pytest.raises(
        ValueError, match=r"flip_probability=0.5: mirroring would turn 'moving left' into another class"
    ):
        data.setup("fit")
    ShardedVideoDataModule(str(motion_dataset), flip_probability=0.0).setup("fit")

"""Fixtures of the tests of the verbs: videos to pack, packed datasets, trained checkpoints."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from pipeline.training import lightning_cli
from tests.pipeline.gray_videos import NUM_VIDEOS, write_originals
from tests.pipeline.several_labels import write_videos


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos in two folders, and list.csv."""
    return write_originals(tmp_path_factory.mktemp("originals"))


@pytest.fixture
def videos(originals: Path, tmp_path: Path) -> Path:
    """A copy of the originals to spoil."""
    return shutil.copytree(originals, tmp_path / "videos")


@pytest.fixture(scope="session")
def motion_checkpoint(motion_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small C3D after an epoch on the motion dataset, as `fit` wrote it. Read-only."""
    return fit(motion_dataset, tmp_path_factory.mktemp("fit"))


@pytest.fixture(scope="session")
def folded_dataset(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve gray videos packed with three folds; fold n holds out the videos of group gn. Read-only."""
    folder = tmp_path_factory.mktemp("folded")
    lines = ["path,label,group,fold"]
    for number in range(NUM_VIDEOS):
        label = ("walk", "run")[number % 2]
        lines.append(f"{originals}/{label}/{number}.mp4,{label},g{number % 3},{number % 3}")
    (folder / "list.csv").write_text("\n".join(lines))
    pack(PackOptions(folder / "shards", [folder / "list.csv"], originals, processes=1))
    return folder / "shards"


@pytest.fixture(scope="session")
def folded_checkpoint(folded_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small C3D trained in fold 1 of the folded dataset. Read-only."""
    return fit(folded_dataset, tmp_path_factory.mktemp("fit"), "--data.fold=1", "--data.val_split=null")


@pytest.fixture(scope="session")
def several_labels_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The videos of `tests.pipeline.several_labels`, with list.csv. Read-only."""
    return write_videos(tmp_path_factory.mktemp("several") / "videos")


@pytest.fixture(scope="session")
def several_labels_dataset(several_labels_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those videos, packed. Read-only."""
    folder = tmp_path_factory.mktemp("several") / "shards"
    lists = [several_labels_videos / "list.csv"]
    pack(PackOptions(folder, lists, several_labels_videos, short_side=32, processes=1))
    return folder


@pytest.fixture(scope="session")
def several_labels_checkpoint(several_labels_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small C3D after an epoch on them. Read-only."""
    return fit(several_labels_dataset, tmp_path_factory.mktemp("fit"))


C3D = ("--model=C3D", "--model.width=2", "--model.crop_size=32", "--model.batch_norm=true")


def fit(dataset: Path, folder: Path, *more: str, model: Sequence[str] = C3D) -> Path:
    """Trains a very small C3D, or another model, for an epoch through the command line; gives the latest checkpoint."""
    quiet = ("logger=false", "enable_progress_bar=false", "enable_model_summary=false")
    words = [
        *model,
        "--data=ShardedVideoDataModule",
        f"--data.root={dataset}",
        "--data.batch_size=8",
        "--data.crop_size=32",
    ]
    words += [
        "--data.flip_probability=0",
        "--data.num_workers=0",
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=1",
    ]
    words += [f"--trainer.default_root_dir={folder}", *(f"--trainer.{setting}" for setting in quiet), *more]
    lightning_cli.main(["fit", *words])
    return max(folder.rglob("step-*.ckpt"), key=lambda path: path.stat().st_mtime_ns)

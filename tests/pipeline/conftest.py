"""Fixtures of the packing tests."""

import shutil
from pathlib import Path

import pytest

from tests.pipeline.gray_videos import NUM_VIDEOS, make_video, write_list


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos in two folders, and list.csv."""
    root = tmp_path_factory.mktemp("originals")
    for number in range(NUM_VIDEOS):
        path = root / ("walk", "run")[number % 2] / f"{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(make_video(number))
    write_list(root / "list.csv", list(range(NUM_VIDEOS)))
    return root


@pytest.fixture
def videos(originals: Path, tmp_path: Path) -> Path:
    """A copy of the originals to spoil."""
    return shutil.copytree(originals, tmp_path / "videos")

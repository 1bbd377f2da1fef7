"""The dataset packed by hand, for the tests of this folder."""

from pathlib import Path

import pytest

from tests.datamodules.dataset.hand_packed import pack_by_hand


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pack_by_hand(tmp_path / "tiny")
    return tmp_path / "tiny"

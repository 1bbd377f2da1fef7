"""What several test files share: where the real clips are, and how to run a command as a person does."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real clips: $SHARED_DIR, else ../shared; a missing one is an error in CI and a skip elsewhere."""
    folder = Path(os.environ.get("SHARED_DIR", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{folder / 'data'} is not there: CI must have the real clips; set SHARED_DIR")
        pytest.skip(f"no real clips at {folder / 'data'}: set SHARED_DIR to test on them")
    return folder

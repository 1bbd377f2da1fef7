"""Fixtures of other folders that tests on a GPU need."""

from tests.pipeline.conftest import motion_checkpoint  # noqa: F401
from tests.pipeline.training.test_lightning_cli import config  # noqa: F401

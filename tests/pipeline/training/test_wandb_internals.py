"""What is used of WandbLogger's private interface is there, and does what we take it for."""

import pytest
from pytorch_lightning.loggers import WandbLogger

from pipeline.training.wandb_internals import continue_wandb_run, is_offline_logger


@pytest.mark.parametrize(("named", "run_id"), [(None, "new00000"), ("own00000", "own00000")])
def test_a_logger_goes_on_with_a_run(tmp_path, monkeypatch, named, run_id):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(save_dir=tmp_path, offline=True, id=named, resume=None)
    assert is_offline_logger(logger)
    assert continue_wandb_run(logger, "new00000") == logger.version == run_id
    run = logger.experiment
    try:
        assert (run.id, run.settings.resume) == (run_id, "allow")
    finally:
        run.finish()

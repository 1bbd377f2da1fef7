"""The ranks of a job save and leave when the driver asks; on a real Trainer in this process."""

import re
from pathlib import Path

import pytest
import pytorch_lightning as pl

from jobs.storage.metrics_copy import MetricsCopy
from jobs.storage.run_folder import RunFolder
from jobs.training.checkpoint_callback import CheckpointCallback, RestartRequestedError
from jobs.training.heartbeat import HeartbeatSender
from jobs.training.heartbeat_callback import HeartbeatCallback
from tests.pipeline.checkpoints.test_run_checkpoint import fit


def test_at_a_request_to_leave_it_saves_and_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sender = HeartbeatSender(0, 1, "group")

    class LeaveRequest(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 2:
                assert sender.phase == "step 3, forward"
                sender.leave_reason = "the job was stopped"

    copy = MetricsCopy(RunFolder(str(tmp_path), "run"), is_resumed=False)
    with pytest.raises(RestartRequestedError, match="the job was stopped") as left:
        fit(
            tmp_path,
            HeartbeatCallback(sender),
            LeaveRequest(),
            make=lambda options, store: CheckpointCallback(options, store, sender, copy),
        )
    assert left.value.step == 3
    assert re.findall(r"^checkpoint reported: .*step (\d+)$", capsys.readouterr().out, re.MULTILINE) == ["3"]
    assert sender.has_trained
    assert sender.phase == "after step 3, waiting for data"

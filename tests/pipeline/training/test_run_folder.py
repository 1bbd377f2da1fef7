"""The checkpoint that `--ckpt_path best` of a fit names."""

from argparse import Namespace

import pytest
import torch

from pipeline.__main__ import main
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.checkpoints.storage import LocalStorage
from pipeline.training.run_folder import resolve_best
from tests.conftest import REPOSITORY


def test_best_is_the_undamaged_checkpoint_with_the_best_metric(tmp_path):
    store = CheckpointStore(LocalStorage(tmp_path), CheckpointOptions(keep_newest=9))
    store.begin(0)
    for step, top1 in ((1, 0.2), (2, 0.8), (3, 0.5)):
        store.save(lambda path: torch.save({"weight": torch.zeros(9)}, path), step, {"val/top1": top1})
    options = Namespace(trainer=Namespace(default_root_dir=str(tmp_path)))
    best = tmp_path / "checkpoints" / "step-00000002.ckpt"
    assert resolve_best(options) == str(best)
    best.write_bytes(best.read_bytes()[:100])
    assert resolve_best(options) == str(tmp_path / "checkpoints" / "step-00000003.ckpt")


@pytest.mark.parametrize("folder", ["absent", "empty"])
def test_without_a_checkpoint_best_is_refused_in_one_line(tmp_path, capsys, folder):
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    config = str(REPOSITORY / "pipeline" / "configs" / "demo.yaml")
    root = tmp_path / folder
    assert main(["fit", "--config", config, "--trainer.default_root_dir", str(root), "--ckpt_path", "best"]) == 2
    assert capsys.readouterr().err == (
        f"error: ckpt_path=best: there is no undamaged checkpoint in {root}/checkpoints; give a file, or the "
        "trainer.default_root_dir of a run that has one\n"
    )

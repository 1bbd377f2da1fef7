"""One evaluation of the trained network, which tests of several files read."""

import pytest

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions

QUICK = {"num_workers": 0, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def evaluated(motion_checkpoint, motion_dataset, tmp_path_factory):
    """The folder of one evaluation with six views a video."""
    out = tmp_path_factory.mktemp("evaluated") / "six"
    evaluate(EvaluateOptions(motion_checkpoint, motion_dataset, num_clips=2, num_crops=3, out=out, **QUICK))
    return out

"""What a job's driver prints of the cluster's logs."""

import io

from jobs.ray_internals import CORE_NOISE
from jobs.ray_log import FilteredLogStream


def test_lines_that_nobody_can_act_on_are_left_out() -> None:
    kept = io.StringIO()
    stream = FilteredLogStream(kept)
    print("epoch 1", file=stream)
    print(f"(TrainController pid=1) core_worker.cc:2465: {CORE_NOISE} and ID: 'ab' has constructor", file=stream)
    print(file=stream)
    print("epoch 2", file=stream, flush=True)
    assert kept.getvalue() == "epoch 1\n\nepoch 2\n"

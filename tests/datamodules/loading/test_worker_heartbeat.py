"""The table in which DataLoader workers record their progress; real workers are in test_worker_watchdog.py."""

from datamodules.loading.worker_heartbeat import IDLE, RECORDS, ROW, WorkerHeartbeats


def test_the_heartbeats_are_in_shared_memory():
    heartbeats = WorkerHeartbeats(2)
    assert heartbeats.read()[:, ROW].tolist() == [IDLE, IDLE]
    heartbeats.record(3)  # not in a worker: nobody's place
    assert heartbeats.read()[:, RECORDS].tolist() == [0, 0]
    assert heartbeats._shared.is_shared()

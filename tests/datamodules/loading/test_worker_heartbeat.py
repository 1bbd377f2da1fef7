"""The board that DataLoader workers note on; what comes of it, with real workers, is in test_worker_watchdog.py."""

from datamodules.loading.worker_heartbeat import IDLE, NOTES, ROW, WorkerHeartbeats


def test_the_board_is_shared_memory():
    board = WorkerHeartbeats(2)
    assert board.look()[:, ROW].tolist() == [IDLE, IDLE]
    board.note(3)  # not in a worker: nobody's place
    assert board.look()[:, NOTES].tolist() == [0, 0]
    assert board._shared.is_shared()

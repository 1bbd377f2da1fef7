"""Evaluations that are stopped: what is done is kept, nothing else is mixed with it, the result is the same."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from datamodules.video.decoding import DecodeError
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.inference.part_folder import parts_folder
from pipeline.metrics.predictions import read_predictions
from pipeline.report.write_results import FILES
from tests.conftest import REPOSITORY
from tests.pipeline.evaluation.test_evaluate_missing_videos import spoil_last_test_video

QUICK = {"num_workers": 0, "accelerator": "cpu", "num_clips": 1, "batch_size": 2}


@pytest.fixture
def stopped(motion_checkpoint, motion_dataset, tmp_path):
    """An evaluation that a damaged video stopped: its folder, its parts, how to run it again, and the video's key."""
    key, out = spoil_last_test_video(motion_dataset, tmp_path / "spoilt"), tmp_path / "new" / "out"

    def again(**more):
        evaluate(EvaluateOptions(motion_checkpoint, tmp_path / "spoilt", out=out, **QUICK | more))

    with pytest.raises(DecodeError, match=f"video {key} in .* cannot be decoded"):
        again()
    parts = parts_folder(out / "predictions.parquet")
    assert list(out.iterdir()) == [parts]
    return out, parts, again, key


def test_it_goes_on_and_tries_again_what_failed(stopped, motion_checkpoint, motion_dataset, tmp_path, capsys):
    out, _, again, key = stopped
    with pytest.raises(DecodeError, match=key):
        again()
    assert "evaluate: 14 of 16 videos are done, from an earlier run" in capsys.readouterr().out
    again(allow_missing=True)
    assert "evaluate: 14 of 16 videos are done, from an earlier run" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    evaluate(EvaluateOptions(motion_checkpoint, motion_dataset, out=tmp_path / "whole", **QUICK))
    scores, table = read_predictions(out / "predictions.parquet")
    whole, expected = read_predictions(tmp_path / "whole" / "predictions.parquet")
    assert table.column("key").equals(expected.column("key"))
    lost = table.column("key").to_pylist().index(key)
    assert np.flatnonzero(np.isnan(scores).all(axis=1)).tolist() == [lost]
    untouched = np.delete(np.arange(16), [lost - 1, lost])  # of the batch of two, one was alone
    np.testing.assert_array_equal(scores[untouched], whole[untouched])


def test_parts_of_other_settings_are_refused(stopped):
    _, parts, again, _ = stopped
    before = sorted(parts.iterdir())
    with pytest.raises(ValueError, match=r"unfinished export with another sampling; finish .*, or remove that folder"):
        again(num_clips=2)
    assert sorted(parts.iterdir()) == before
    settings = json.loads((parts / "settings.json").read_text())
    (parts / "settings.json").write_text(json.dumps(settings | {"arithmetic": "32-true on cuda"}))  # begun on a GPU
    with pytest.raises(ValueError, match="unfinished export with another arithmetic; finish"):
        again()


def test_one_that_has_done_nothing_leaves_nothing(motion_checkpoint, motion_dataset, tmp_path):
    spoil_last_test_video(motion_dataset, tmp_path / "spoilt")
    with pytest.raises(DecodeError):
        evaluate(
            EvaluateOptions(
                motion_checkpoint, tmp_path / "spoilt", out=tmp_path / "new" / "out", **QUICK | {"batch_size": 16}
            )
        )
    assert not (tmp_path / "new").exists()


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # their number moves scores in the last bits
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.timeout(600)  # six processes, one after the other
@pytest.mark.usefixtures("one_thread")
def test_two_processes_that_are_stopped_and_killed_give_the_same_bytes(motion_checkpoint, motion_dataset, tmp_path):
    """By SIGTERM, then by SIGKILL to both; an evaluation by one process, undisturbed, gives the same file."""
    options = {"split": "all", "num_clips": 40, "batch_size": 2, "save_every": 1, "num_workers": 0}
    options |= {"accelerator": "cpu", "allow_overlap": True}
    out = tmp_path / "out"

    def start():
        words = options | {"checkpoint": motion_checkpoint, "data": motion_dataset, "out": out, "devices": 2}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in words.items()]
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "evaluate", *words],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    parts = parts_folder(out / "predictions.parquet")

    def wait_for_parts(running, number):
        while len(found := list(parts.glob("part-*.arrow"))) < number and running.poll() is None:
            time.sleep(0.01)
        assert number <= len(found) < 32
        return len(found)

    running = start()
    done = wait_for_parts(running, 3)
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM, errors
    assert errors.splitlines()[-1].startswith(f"error: SIGTERM: what is done is in {parts}; the same command goes on")
    running = start()
    try:
        wait_for_parts(running, done + 6)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    assert not (out / "report.json").exists()
    running = start()
    said, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    videos = int(said.split("evaluate: ")[1].split(" of 64 videos are done, from an earlier run")[0])
    assert 2 * (done + 6) <= videos < 64
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    evaluate(EvaluateOptions(motion_checkpoint, motion_dataset, out=tmp_path / "alone", **options))
    name = "predictions.parquet"
    assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()

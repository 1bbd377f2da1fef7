"""Plain files that take down the process that decodes them, or hold it: each costs one line, and the rest goes on."""

import csv
import os
import signal

import numpy as np
import pytest

from datamodules.loading import planned_loader
from datamodules.loading.view_maker import ViewMaker
from pipeline.__main__ import main
from pipeline.features.feature_files import read_features, read_provenance
from pipeline.inference.part_folder import PartFolder

CLIPS = ["--num-clips", "1", "--accelerator", "cpu", "--save-every", "1", "--batch-size", "2"]
WORKERS = ["--worker-start", "fork", "--worker-timeout-s", "2"]  # forked workers inherit the fault


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No results of inspections of other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def strike(monkeypatch):
    """A function that makes the processes which read certain videos send a signal to themselves."""
    views = ViewMaker.views

    def strike_keys(signals):
        def views_or_end(maker, data, entry, *arguments):
            if entry.key in signals:
                os.kill(os.getpid(), signals[entry.key])
            return views(maker, data, entry, *arguments)

        monkeypatch.setattr(ViewMaker, "views", views_or_end)

    return strike_keys


def listed(out):
    with out.with_name(f"{out.name}.quarantine.csv").open(newline="") as file:
        return {line["key"]: (line["path"], line["reason"], line["detail"]) for line in csv.DictReader(file)}


def words_of(checkpoint, out, *videos):
    words = ["features", "--checkpoint", str(checkpoint), "--crop-size", "32", *CLIPS, "--out", str(out)]
    return [*words, "--videos", *map(str, videos)]


def test_a_crash_costs_its_file_one_line(motion_checkpoint, originals, tmp_path, strike, capsys):
    out = tmp_path / "out.parquet"
    strike({"2": signal.SIGSEGV})
    videos = [originals / "walk" / f"{number}.mp4" for number in (0, 2, 4)]
    assert main([*words_of(motion_checkpoint, out, *videos), *WORKERS, "--num-workers", "1"]) == 0
    assert "2 videos (1 is listed in" in capsys.readouterr().out
    [(key, (path, reason, detail))] = listed(out).items()
    assert (key, path, reason) == ("2", "2.mp4", "crash")
    assert "killed by SIGSEGV, a crash inside a library, such as the decoder" in detail
    assert read_features(out)[1].column("key").to_pylist() == ["0", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", ["1", "2"])
def test_features_of_the_other_files(motion_checkpoint, originals, tmp_path, strike, capsys, num_workers):
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    assert main([*words_of(motion_checkpoint, whole, originals), "--num-workers", "0"]) == 0
    strike({"run_3": signal.SIGSEGV, "run_5": signal.SIGKILL, "walk_8": signal.SIGSTOP})
    assert main([*words_of(motion_checkpoint, out, originals), *WORKERS, "--num-workers", num_workers]) == 0
    assert "9 videos (3 are listed in" in capsys.readouterr().out
    refused = listed(out)
    assert {key: line[:2] for key, line in refused.items()} == {
        "run_3": ("run/3.mp4", "crash"),
        "run_5": ("run/5.mp4", "crash"),
        "walk_8": ("walk/8.mp4", "hang"),
    }
    assert "killed by SIGSEGV, a crash inside a library, such as the decoder" in refused["run_3"][2]
    assert "was stuck for 2 s (worker_timeout_s)" in refused["walk_8"][2]
    (expected, rows), (found, other_rows) = read_features(whole), read_features(out)
    kept = ~np.isin(rows.column("key").to_pylist(), list(refused))
    assert other_rows.equals(rows.filter(kept))
    np.testing.assert_allclose(found, expected[kept], atol=1e-6)
    assert read_provenance(out)["quarantined"] == sorted(refused)


@pytest.mark.slow
def test_another_run_goes_on_without_them(motion_checkpoint, originals, tmp_path, strike, monkeypatch, capsys):
    """Ended in the middle, after a crash: the next run neither reads that file again nor forgets it."""
    out = tmp_path / "scores.parquet"
    words = ["classify", str(originals), "--checkpoint", str(motion_checkpoint), *CLIPS, "--out", str(out)]
    save, saved = PartFolder.save, []

    def end_after_third(folder, *arguments):
        saved.append(save(folder, *arguments))
        if len(saved) == 3:
            raise OSError("the disk is gone")
        return saved[-1]

    strike({"run_1": signal.SIGSEGV})
    with monkeypatch.context() as patch:
        patch.setattr(PartFolder, "save", end_after_third)
        assert main([*words, *WORKERS, "--num-workers", "1"]) != 0
    assert not out.exists()
    strike({})
    assert main([*words, "--num-workers", "0"]) == 0
    printed = capsys.readouterr().out
    assert "videos are done, from an earlier run" in printed
    assert "the classes of 11 videos (1 is left out, see" in printed
    assert listed(out).keys() == {"run_1"}
    assert main([*words, "--num-workers", "0", "--overwrite"]) == 0
    assert "the classes of 12 videos" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_that_always_die_end_the_run(motion_checkpoint, originals, tmp_path, strike, monkeypatch, capsys):
    monkeypatch.setattr(planned_loader, "_MAX_LOSSES", 2)
    strike({str(number): signal.SIGKILL for number in range(12)})
    words = words_of(motion_checkpoint, tmp_path / "out.parquet", originals / "walk")
    assert main([*words, *WORKERS, "--num-workers", "1", "--batch-size", "6"]) != 0
    assert "was lost: killed by SIGKILL" in capsys.readouterr().err

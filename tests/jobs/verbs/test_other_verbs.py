"""Evaluation and export as jobs on two ranks: the same as from one process. Jobs taken up again. Ray's own limit."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
import yaml

from jobs.client import local_state
from jobs.ray_internals import max_upload_bytes
from lightning_modules import PretrainedVideoNetwork
from pipeline.dataset_tools.split import SplitFileOptions, split
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features, read_features, read_provenance
from pipeline.inference.part_folder import parts_folder
from pipeline.metrics.predictions import read_predictions
from tests.jobs.conftest import SPEC, Run, environment_in, wait_for_log
from tests.video_transformers import NUM_FRAMES, save_video_transformer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def arguments_of(**options: object) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def kill_first_rank(out: Path) -> None:
    """SIGKILL to the rank that holds the lock of an evaluation, once three parts of it are done."""
    parts, deadline = parts_folder(out / "predictions.parquet"), time.monotonic() + 200
    while len(list(parts.glob("part-*.arrow"))) < 3:
        assert time.monotonic() < deadline, "the job has done nothing"
        time.sleep(0.01)
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # ended meanwhile
            if str(parts / "lock") in [file.path for file in process.open_files()]:
                process.kill()
                return
    raise AssertionError(f"no process holds {parts}/lock")


def test_evaluate_on_two_ranks_of_which_one_is_killed_is_as_in_one_process(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, motion_dataset: Path, checkpoint: Path
) -> None:
    options = {"split": "all", "num_clips": 20, "num_crops": 3, "batch_size": 2, "num_workers": 0, "save_every": 1}
    options |= {"allow_overlap": True}
    evaluate(EvaluateOptions(checkpoint, motion_dataset, out=folder / "alone", accelerator="cpu", **options))  # type: ignore[arg-type]
    arguments = arguments_of(checkpoint=checkpoint, data=motion_dataset, out="together", devices=3, **options)
    with ThreadPoolExecutor(1) as threads:
        killed = threads.submit(kill_first_rank, folder / "together")
        submit = ("submit", "--spec", SPEC, "--name", "eval", "--check", "--wait", "--")
        done = run_jobs(*submit, "evaluate", *arguments, timeout_s=350)
        killed.result(timeout=1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "doctor on 1 node" in done.stdout
    assert re.search(r"[789] passed, 0 failed, [23] skipped", done.stdout), done.stdout
    assert "note: --devices is for one machine; the spec's num_workers=2 holds here" in done.stdout
    assert done.stdout.count("top-1") == 1
    assert re.search(r"evaluate: \d+ of 64 videos are done, from an earlier run", done.stdout), done.stdout
    alone, one = read_predictions(folder / "alone" / "predictions.parquet")
    together, two = read_predictions(folder / "together" / "predictions.parquet")
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert two.drop_columns("scores").equals(one.drop_columns("scores"))
    reports = [json.loads((folder / name / "report.json").read_text()) for name in ("alone", "together")]
    for name in ("top1", "top5", "mean_class_accuracy", "per_class", "model_metrics", "num_videos"):
        assert reports[0][name] == reports[1][name]
    written = [sorted(path.name for path in (folder / name).iterdir()) for name in ("alone", "together")]
    assert written[0] == written[1] == ["per_class.csv", "predictions.parquet", "report.html", "report.json"]


def test_features_on_two_ranks_are_as_in_one_process(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, motion_dataset: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Of the splits and groups of a split file from outside the folder of submit, which the job has a copy of."""
    chosen = tmp_path / "mine.csv"
    split(SplitFileOptions(str(motion_dataset), out=chosen, split="train=0.7,test=0.3", group_by=r"/([^/])[^/]*$"))
    options = {"num_clips": 3, "batch_size": 3, "num_workers": 0, "split_file": str(chosen)}
    features(FeatureOptions(checkpoint, motion_dataset, out=folder / "alone.parquet", accelerator="cpu", **options))  # type: ignore[arg-type]
    arguments = arguments_of(checkpoint=checkpoint, data=motion_dataset, out="together.parquet", **options)
    done = run_jobs("submit", "--spec", SPEC, "--wait", "--", "features", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    alone, one = read_features(folder / "alone.parquet")
    together, two = read_features(folder / "together.parquet")
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert two.equals(one)
    recorded = [read_provenance(folder / f"{name}.parquet")["split_file"] for name in ("alone", "together")]
    assert recorded[1]["name"].endswith("/named_from_outside/0/mine.csv")
    assert recorded[0] == recorded[1] | {"name": str(chosen)}
    refused = run_jobs("submit", "--spec", SPEC, "--wait", "--", "features", *arguments, "--layer", "nope")
    assert refused.returncode == 1
    assert refused.stdout.strip().splitlines()[-1].startswith("error: layer 'nope': ")
    assert refused.stdout.count("layer 'nope': ") == 1, "of all ranks and who looks after them"
    assert "Traceback" not in refused.stdout


def test_features_of_plain_files_on_two_ranks_are_as_in_one_process(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, originals: Path, checkpoint: Path
) -> None:
    options = {"num_clips": 1, "crop_size": 32, "batch_size": 2, "num_workers": 0}
    alone, together = folder / "alone_files.parquet", folder / "together_files.parquet"
    files = FeatureOptions(checkpoint, videos=[str(originals)], out=alone, accelerator="cpu", **options)  # type: ignore[arg-type]
    features(files)
    arguments = arguments_of(checkpoint=checkpoint, videos=originals, out=together.name, **options)
    done = run_jobs("submit", "--spec", SPEC, "--wait", "--", "features", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (expected, one), (found, two) = read_features(alone), read_features(together)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert two.equals(one)
    assert two.num_rows == 12


@pytest.mark.timeout(500)
def test_a_pretrained_network_is_trained_and_opens_without_its_folder(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, motion_dataset: Path
) -> None:
    network = folder / "network"
    save_video_transformer(network, "videomae")
    data = {"root": str(motion_dataset), "batch_size": 4, "num_workers": 0, "flip_probability": 0, "resize": 36}
    model = {"network": f"transformers:{network}", "lora_rank": 2, "drop_path": 0.1, "head": "attentive"}
    content = {
        "model": {"class_path": "PretrainedVideoNetwork", "init_args": model},
        "data": {"class_path": "ShardedVideoDataModule", "init_args": data},
        "trainer": {"max_epochs": 1, "logger": False, "enable_progress_bar": False},
    }
    (folder / "pretrained.yaml").write_text(yaml.safe_dump(content))
    submit = ("submit", "--spec", SPEC, "--name", "pretrained", "--no_check", "--wait", "--")
    done = run_jobs(*submit, "fit", "--config", "pretrained.yaml", timeout_s=400)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(network)
    run = folder / "runs" / "pretrained"
    steps = json.loads((run / "result.json").read_text())["metrics"]["last"]["step"]
    assert steps == 5, "40 videos in batches of 4 on each of 2 ranks"
    trained = PretrainedVideoNetwork.load(run / "last.ckpt")
    assert len(trained.class_names) == 8
    assert trained.clip_settings_of(trained.hparams)["num_frames"] == NUM_FRAMES


def test_a_stopped_job_is_taken_up_again_by_a_new_cluster(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path
) -> None:
    """Its client is interrupted, which ends nothing; then cluster, configuration and module are gone."""
    config = folder / "mine.yaml"
    arguments = [
        "--spec",
        SPEC,
        "--name",
        "stopped",
        "--checkpoint_every_n_steps",
        "3",
        "--no_check",
        "--wait",
        "--",
        "fit",
    ]
    arguments += ["--config", "mine.yaml", "--model.delay", "3", "--trainer.max_epochs", "3"]
    client = subprocess.Popen(
        [sys.executable, "-m", "jobs", "submit", *arguments],
        cwd=folder,
        env=environment_in(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    job = client.stdout.readline().split()[1]
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=60)
    assert client.returncode == 130
    assert f"{job} runs on; follow it with: python -m jobs logs {job} --follow" in said
    wait_for_log(run_jobs, job, r"checkpoint reported: .*step 6")
    running = run_jobs("resume", "stopped")
    assert running.returncode == 2
    assert f"the job {job} is writing to {folder}/runs/stopped" in running.stderr
    assert "STOPPED" in run_jobs("stop", job).stdout
    for name in (config, folder / "own_module.py"):
        shutil.move(name, name.with_suffix(".aside"))
    run_jobs("down")
    (folder / "hurry").touch()  # the steps before had to last for as long as all that was asked of the job
    resumed = run_jobs("resume", "stopped", "--wait")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    lines = resumed.stdout.splitlines()
    assert "started a local Ray cluster" in resumed.stdout
    assert "resumed stopped: fit --config mine.yaml --model.delay 3 --trainer.max_epochs 3" in lines
    assert int(re.search(r"TRAINS from step (\d+)", resumed.stdout)[1]) >= 6  # type: ignore[index]
    assert json.loads((folder / "runs" / "stopped" / "result.json").read_text())["metrics"]["last"]["step"] == 24
    for which in ([], ["stopped", "--storage-path", str(folder / "runs")]):
        again = run_jobs("resume", *which)
        assert again.returncode == 0, again.stderr
        assert "stopped has finished already; there is nothing to do" in again.stdout
        assert f"last checkpoint: {folder}/runs/stopped/last.ckpt" in again.stdout
    unknown = run_jobs("resume", "nobody")
    assert "error: job=nobody: neither the cluster nor this machine knows it; known are: stopped, " in unknown.stderr


def test_the_limit_is_that_of_the_job_server(local: local_state.LocalCluster, run_jobs: Run, folder: Path) -> None:
    assert run_jobs("up").returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBS_STATE_DIR", str(folder / "state"))
        cluster = local_state.read_cluster()
    assert cluster is not None
    for size, status in ((max_upload_bytes(), 200), (max_upload_bytes() + 1, 413)):
        answer = requests.put(
            f"{cluster.address}/api/packages/gcs/_ray_pkg_{size}.zip",
            data=bytes(size),
            headers={"Authorization": f"Bearer {cluster.token()}"},
            timeout=100,
        )
        assert answer.status_code == status

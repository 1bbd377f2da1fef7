"""`evaluate` and `features` as a user runs them: clips/s by precision, pixel format and workers."""

import contextlib
import io
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch

from benchmarks.gpu_checks.real_fit import num_workers
from benchmarks.gpu_checks.results import Results, Settings
from benchmarks.gpu_checks.training_steps import workload_of
from benchmarks.gpu_checks.video_datasets import LARGE, SMALL, dataset_of
from benchmarks.turns import count, spend
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.loader_options import DEFAULT_WORKERS
from lightning_modules import C3D, I3D
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.inference.inference_options import Precision

_SPLIT = "test"


class Way(NamedTuple):
    """Options of a run."""

    precision: Precision
    workers: int
    pixels: str


def ways(settings: Settings) -> list[Way]:
    """Two workers; workers for the processors that there are; and with these, bf16 and planes."""
    usual, many = DEFAULT_WORKERS, num_workers(settings)
    if settings.tiny:
        return [Way("bf16-mixed", 0, "i420")]
    return [Way("32-true", usual, "rgb"), Way("32-true", many, "rgb"), Way("bf16-mixed", many, "i420")]


def verbs(name: str, settings: Settings, results: Results) -> None:
    """Rows of `evaluate` and of `features` of a network, without what they take to start and to end.

    Each runs with few and with many clips a video: clips/s are the difference of the clips by that of the times.
    """
    data = dataset_of(SMALL if name == "C3D" else LARGE, settings)
    checkpoint = _untrained(name, data, settings)
    few, many = (1, 2) if settings.tiny else (2, 10)
    videos = len(DatasetIndex.open(data).rows(_SPLIT))
    for way in ways(settings):
        for verb, run in (("evaluate", _run_evaluate), ("features", _run_features)):
            seconds = {}
            for clips in (few, many):
                out, options = settings.work / f"{verb}-{name}", _options(name, settings, way, clips)
                seconds[clips] = spend(partial(_quietly, run, checkpoint, data, out, options)).wall
            rate = (many - few) * videos / max(seconds[many] - seconds[few], 1e-9)
            told = f"{rate:.1f} clips/s; {many} clips of {videos} videos in {seconds[many]:.1f} s"
            results.add(f"{verb} {name}, {way.precision}, {count(way.workers, 'worker')}, {way.pixels}", told)


def _untrained(name: str, data: Path, settings: Settings) -> Path:
    torch.manual_seed(0)
    classes = DatasetIndex.open(data).classes
    size = workload_of(name, settings.tiny).network.size
    width = 4 if settings.tiny else 64
    model = C3D(width=width, crop_size=size, class_names=classes) if name == "C3D" else I3D(class_names=classes)
    checkpoint = settings.work / f"untrained-{name}.ckpt"
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(checkpoint)
    return checkpoint


def _options(name: str, settings: Settings, way: Way, clips: int) -> dict[str, Any]:
    network = workload_of(name, settings.tiny).network
    resize = 48 if settings.tiny else 128 if name == "C3D" else 256
    return {
        "split": _SPLIT,
        "num_clips": clips,
        "num_frames": network.frames,
        "crop_size": network.size,
        "resize": resize,
        "num_workers": way.workers,
        "pixels": way.pixels,
        "precision": way.precision,
        "accelerator": "gpu" if settings.device == "cuda" else "cpu",
    }


def _run_evaluate(checkpoint: Path, data: Path, out: Path, options: dict[str, Any]) -> None:
    evaluate(EvaluateOptions(checkpoint, data, out=out, **options))


def _run_features(checkpoint: Path, data: Path, out: Path, options: dict[str, Any]) -> None:
    features(FeatureOptions(checkpoint, data, out=out.with_suffix(".parquet"), overwrite=True, **options))


def _quietly(
    run: Callable[[Path, Path, Path, dict[str, Any]], None],
    checkpoint: Path,
    data: Path,
    out: Path,
    options: dict[str, Any],
) -> None:
    shutil.rmtree(out, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        run(checkpoint, data, out, options)

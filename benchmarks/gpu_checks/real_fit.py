"""`fit` as a user runs it, on packed videos with DataLoader workers: its share of the bare steps' clips/s; waits."""

import gc
import json
import os
import shutil
import statistics
from functools import partial
from typing import Any, NamedTuple

from benchmarks.gpu_checks import fit_callbacks
from benchmarks.gpu_checks.results import Goal, Results, Settings
from benchmarks.gpu_checks.training_steps import BF16, BOTH, COMPILED, WAYS, TrainingSteps, Workload, workload_of
from benchmarks.gpu_checks.video_datasets import LARGE, SMALL, dataset_of
from benchmarks.turns import count, spend
from pipeline.training import lightning_cli
from pipeline.training.metrics_csv import read_metrics

_SHARE, _DATA_WAIT = Goal(0.95), Goal(0.03, at_most=True)
_WAITS = Goal(0, "a step", at_most=True)
_LOG_EVERY = 25  # steps; those in which the waits are counted lie between two logged ones
_EXECUTION: dict[str, dict[str, Any]] = {
    BF16: {},
    COMPILED: {"compile": True},
    BOTH: {"compile": True, "space_to_depth": True},
}


class Plan(NamedTuple):
    """What is trained on what.

    Attributes:
        videos: name of the dataset.
        skipped: steps before the clock starts: more than the workers load ahead.
        steps: steps that count.
        resize: short side of the videos.
    """

    videos: str
    skipped: int
    steps: int
    resize: int


_PLANS = {"C3D": Plan(SMALL, 50, 125, 128), "I3D": Plan(LARGE, 30, 50, 256)}
_TINY_PLAN = {"skipped": 2, "steps": 3, "resize": 48}


class Measured(NamedTuple):
    """Figures of one `fit`."""

    clips_per_s: float
    step_ms: float
    data_wait: float
    loaded_per_s: float  # clips/s that the workers would load if nothing else had to be done
    workers: int
    waits: dict[str, float]  # a step, by place


def num_workers(settings: Settings) -> int:
    """DataLoader workers of a rank that has the machine to itself: a processor each, but for two."""
    return 1 if settings.tiny else max(1, min(12, (os.cpu_count() or 1) - 2))


def train(name: str, settings: Settings, way: str, data: dict[str, Any]) -> Measured:
    """Runs `fit` and reads what its callbacks and metrics.csv say."""
    plan = _PLANS[name]._replace(**_TINY_PLAN) if settings.tiny else _PLANS[name]
    folder = settings.work / f"fit-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = _configuration(name, settings, plan, way, data)
    (folder / "fit.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    lightning_cli.main(["fit", "--config", str(folder / "fit.yaml")])
    gc.collect()  # trainer and loader refer to each other: until then workers and their shared memory stay
    clock: dict[str, float] = json.loads((folder / "clock.json").read_text(encoding="utf-8"))
    rows = [row for row in read_metrics(folder / "run" / "metrics.csv") if int(row["step"]) > plan.skipped]
    load_ms, wait = (
        statistics.median(float(row[column]) for row in rows if row.get(column)) for column in ("load_ms", "data_wait")
    )
    workers = num_workers(settings)
    return Measured(
        clock["clips_per_s"],
        clock["step_ms"],
        wait,
        1000 * workers / load_ms,  # a clip a video
        workers,
        json.loads((folder / "waits.json").read_text(encoding="utf-8")),
    )


def _configuration(name: str, settings: Settings, plan: Plan, way: str, data: dict[str, Any]) -> dict[str, Any]:
    workload, folder, on_gpu = (
        workload_of(name, settings.tiny),
        settings.work / f"fit-{name}",
        settings.device == "cuda",
    )
    network = workload.network
    sizes = {"width": 4, "crop_size": network.size} if settings.tiny and name == "C3D" else {}
    clock = {"path": str(folder / "clock.json"), "skipped": plan.skipped}
    waits = {"path": str(folder / "waits.json")} | ({"first": 1, "steps": 2} if settings.tiny else {})
    callbacks = fit_callbacks.__name__
    return {
        "seed_everything": 0,
        "model": {
            "class_path": name,
            "init_args": {"learning_rate": 1e-4, "lr_schedule": "constant", "channels_last": True}
            | sizes
            | _EXECUTION[way],
        },
        "data": {
            "class_path": "ShardedVideoDataModule",
            "init_args": {
                "root": str(dataset_of(plan.videos, settings)),
                "batch_size": workload.batch,
                "num_frames": network.frames,
                "crop_size": network.size,
                "resize": plan.resize,
                "num_workers": num_workers(settings),
                "sided_classes": "keep",
                "val_split": None,
            }
            | data,
        },
        "trainer": {
            "accelerator": "gpu" if on_gpu else "cpu",
            "devices": 1,
            "precision": "bf16-mixed",
            "benchmark": True,
            "max_epochs": 1,
            "max_steps": plan.skipped + plan.steps,
            "log_every_n_steps": 1 if settings.tiny else _LOG_EVERY,
            "default_root_dir": str(folder / "run"),
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [
                {"class_path": f"{callbacks}.StepClock", "init_args": clock},
                {"class_path": f"{callbacks}.HostWaitCount", "init_args": waits},
            ],
        },
    }


def fit(name: str, settings: Settings, results: Results) -> None:
    """Rows of `fit` in bf16 with RGB, with planes, and of C3D with planes and RandAugment."""
    augmented = {"rand_augment": {"num_ops": 2, "magnitude": 9.0}}
    runs: dict[str, dict[str, Any]] = {"rgb": {}, "i420": {"pixels": "i420"}}
    if name == "C3D":
        runs["i420, RandAugment"] = {"pixels": "i420"} | augmented
    elif settings.tiny:
        del runs["rgb"]
    for title, data in runs.items():
        _compare(name, title, BF16, data, settings, results)


def compiled_fit(name: str, settings: Settings, results: Results) -> None:
    """Rows of `fit` in bf16 with planes, compiled, and I3D with its first convolution on blocks of pixels."""
    way = COMPILED if name == "C3D" else BOTH
    if settings.tiny:  # on a CPU graphs take minutes to compile
        way = BF16
    _compare(name, f"i420, {way.removeprefix('bf16, ')}", way, {"pixels": "i420"}, settings, results)


def _compare(name: str, title: str, way: str, data: dict[str, Any], settings: Settings, results: Results) -> None:
    """Rows of a `fit`, beside bare steps of the same way taken before and after it."""
    workload = workload_of(name, settings.tiny)
    steps = TrainingSteps(workload, WAYS[way], settings)
    before = _rate(steps, workload)
    measured = train(name, settings, way, data)
    bare = (before + _rate(steps, workload)) / 2
    _add_rows(f"fit {name}, {workload.batch} clips, {title}", measured, bare, results, settings)


def _rate(steps: TrainingSteps, workload: Workload) -> float:
    """Clips/s of bare steps, the median of three turns."""
    seconds = [spend(partial(steps.run, steps.per_turn)).wall for _ in range(3)]
    return workload.batch * steps.per_turn / statistics.median(seconds)


def _add_rows(question: str, measured: Measured, bare: float, results: Results, settings: Settings) -> None:
    share = measured.clips_per_s / bare
    told = f"{100 * share:.1f} %: {measured.clips_per_s:.1f} clips/s of {bare:.1f}, {measured.step_ms:.1f} ms a step"
    results.add(f"{question}: share of the bare steps' clips/s", told, share, _SHARE)
    capacity = f"{count(measured.workers, 'worker')} load {measured.loaded_per_s:.0f} clips/s"
    told = f"{100 * measured.data_wait:.1f} %; {capacity}"
    results.add(f"{question}: data_wait", told, measured.data_wait, _DATA_WAIT)
    if settings.device == "cuda":
        waits = sum(measured.waits.values())
        places = "; ".join(f"{number:g} at {place}" for place, number in measured.waits.items())
        results.add(f"{question}: waits for the device", f"{waits:g}{f': {places}' if places else ''}", waits, _WAITS)

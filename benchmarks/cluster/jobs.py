"""What does Ray cost? Steps/s of 2 ranks under Ray against torchrun, submit to first step, SIGKILL to training, saving.

One C3D on made videos, the same command line both ways. The two runs live side by side and take turns: one trains a
block of steps while the other waits, then the other does, so that whatever else the machine does meets both alike. The
ratio of each two blocks that follow each other is what is compared.

    python -m benchmarks.cluster.jobs --folder /tmp/jobs-benchmark --rounds 10 --steps 10
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from benchmarks.turns import spread

ROOT = Path(__file__).resolve().parents[2]
RAY, TORCHRUN = "ray", "torchrun"


class TurnCallback(pl.Callback):
    """Trains a block of steps when it is this run's turn, and writes `TIMES`: time, process, steps done.

    Args:
        folder: Where `turn` says whose turn it is; None: no turns.
        me: This run.
        steps: Of a block; the first step of a block is not in its time.
        times: The file, of rank 0.
    """

    def __init__(self, folder: str | None, me: str, steps: int, times: str) -> None:
        self.turn = None if folder is None else Path(folder) / "turn"
        self.me, self.steps, self.times = me, steps, Path(times)
        self.other = TORCHRUN if me == RAY else RAY

    def on_train_start(self, trainer, pl_module):
        """A session of its own, as torchrun gives each rank: the kernel's autogroups share processors by session."""
        with contextlib.suppress(PermissionError):  # it leads one
            os.setsid()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        """Waits, where a block begins."""
        if self.turn is not None and trainer.global_step % self.steps == 0:
            while self.turn.read_text() != self.me:
                time.sleep(0.02)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Notes the time, and hands over where a block ends."""
        if trainer.is_global_zero:
            with self.times.open("a") as file:
                print(time.time(), os.getpid(), trainer.global_step, time.process_time(), file=file)
            if self.turn is not None and trainer.global_step % self.steps == 0:
                pass_turn(self.turn, self.other)


def pass_turn(turn: Path, to: str) -> None:
    """Whole or not at all: the other one reads it all the time."""
    aside = turn.with_name(f".turn-{os.getpid()}")
    aside.write_text(to)
    aside.replace(turn)


class StepTime(NamedTuple):
    """The end of a step of rank 0."""

    time_s: float  # seconds since the epoch
    pid: int
    step: int
    cpu: float  # the process's processor time, of all its threads, in seconds


def read_times(path: Path) -> list[StepTime]:
    """In order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [StepTime(float(a), int(b), int(c), float(d)) for a, b, c, d in map(str.split, lines)]


class Benchmark:
    """The folder, its data and the commands that run in it."""

    def __init__(self, folder: Path, steps: int, rounds: int) -> None:
        self.folder, self.steps = folder, steps
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WANDB_"))
        }
        self.environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
        self.environment |= {"JOBS_STATE_DIR": str(folder / "state"), "GLOO_SOCKET_IFNAME": "lo"}
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(__file__, folder / "turn_taking.py")
        # 8 classes, 8 clips a step: as many steps in the first epoch as there are. The end of one saves under Ray.
        a_class = (rounds + 1) * steps + 1
        videos, self.shards = f"videos-{a_class}", f"shards-{a_class}"
        if not (folder / self.shards / "dataset.json").is_file():
            made = f"--root {videos} --train {a_class} --val 1 --test 1 --num-frames 20 --processes 2"
            self.call("pipeline", "synthesize", *made.split())
            lists = [f"{videos}/{split}.csv" for split in ("train", "val", "test")]
            self.call("pipeline", "pack", "--out", self.shards, "--videos", videos, "--annotations", *lists)

    def call(self, *arguments: str) -> str:
        """`python -m WORDS`, to its end; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout

    def config(self, me: str, steps: int, turns: bool) -> str:
        """Writes it; returns its name. The file of times is emptied."""
        times = self.folder / f"{me}.times"
        times.unlink(missing_ok=True)
        settings = {"folder": str(self.folder) if turns else None, "me": me, "steps": self.steps, "times": str(times)}
        data = {"root": str(self.folder / self.shards), "batch_size": 4, "crop_size": 56, "num_workers": 0}
        model = {"width": 12, "num_frames": 16, "crop_size": 56, "batch_norm": True, "lr_schedule": "constant"}
        trainer = {"max_epochs": -1, "max_steps": steps, "logger": False, "enable_checkpointing": False}
        trainer |= {"enable_progress_bar": False, "limit_val_batches": 0, "accelerator": "cpu"}
        trainer["callbacks"] = [{"class_path": "turn_taking.TurnCallback", "init_args": settings}]
        content = {
            "model": {"class_path": "C3D", "init_args": model},
            "data": {"class_path": "ShardedVideoDataModule", "init_args": data | {"flip_probability": 0.0}},
            "trainer": trainer,
        }
        (self.folder / f"{me}.yaml").write_text(yaml.safe_dump(content))
        return f"{me}.yaml"

    def submit(self, name: str, config: str, every: int) -> str:
        """Submits a job; returns its id."""
        shutil.rmtree(self.folder / "runs" / name, ignore_errors=True)
        arguments = ["--spec", str(ROOT / "jobs/configs/cpu_2_workers.yaml"), "--name", name, "--no_check"]
        arguments += ["--checkpoint_every_n_steps", str(every), "--checkpoint_every_minutes", "0"]
        return self.call("jobs", "submit", *arguments, "--", "fit", "--config", config).split()[1]

    def others_cpu_s(self) -> float:
        """Processor time so far of the cluster's processes, the job's driver too, without its train workers."""
        from jobs.client.local_cluster import cluster_processes, psutil  # here: this file is a module of both runs too
        from jobs.client.local_state import LocalCluster

        recorded = LocalCluster(**json.loads((self.folder / "state" / "cluster.json").read_text()))
        spent = 0.0
        for process in cluster_processes(recorded):
            with contextlib.suppress(psutil.Error):
                if "RayTrainWorker" not in process.name() and "RayTrainWorker" not in " ".join(process.cmdline()):
                    spent += sum(process.cpu_times()[:2])
        return spent

    def wait_for_step(self, me: str, step: int, after: float = 0.0, limit_s: float = 300) -> float:
        """When a step was done, of those after a time."""
        deadline = time.time() + limit_s
        while time.time() < deadline:
            for each in read_times(self.folder / f"{me}.times"):
                if each.step >= step and each.time_s > after:
                    return each.time_s
            time.sleep(0.05)
        raise TimeoutError(f"{me}: no step {step} within {limit_s} s")


def speeds(benchmark: Benchmark, rounds: int) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Seconds and processor seconds a step under Ray and under torchrun, of each round, the first one left out."""
    total = (rounds + 1) * benchmark.steps

    def block_of(me: str, number: int) -> tuple[float, float]:
        moments = read_times(benchmark.folder / f"{me}.times")
        mine = [each for each in moments if number * benchmark.steps < each.step <= (number + 1) * benchmark.steps]
        steps = len(mine) - 1
        return (mine[-1].time_s - mine[0].time_s) / steps, (mine[-1].cpu - mine[0].cpu) / steps

    pass_turn(benchmark.folder / "turn", RAY)
    arguments = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "pipeline", "fit", "--config"]
    arguments += [benchmark.config(TORCHRUN, total, True), "--trainer.strategy", "ddp", "--trainer.devices", "2"]
    with (benchmark.folder / "torchrun.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=benchmark.folder,
            env=benchmark.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        job = benchmark.submit("speed", benchmark.config(RAY, total, True), 0)
        benchmark.wait_for_step(RAY, benchmark.steps)
        before, begun = benchmark.others_cpu_s(), time.time()
        benchmark.wait_for_step(RAY, total - 1)
        share = (benchmark.others_cpu_s() - before) / (time.time() - begun)
        print(f"the cluster's processes but the train workers took {100 * share:.1f} % of one core meanwhile")
        benchmark.call("jobs", "logs", job, "--follow")
        process.wait(120)
    return [(block_of(RAY, number), block_of(TORCHRUN, number)) for number in range(1, rounds + 1)]


def starts(benchmark: Benchmark) -> tuple[float, float, float]:
    """Seconds from submit to the first step, from SIGKILL to the next step, and of a checkpoint."""
    every, steps = 5, 30
    config = benchmark.config(RAY, steps, False)
    begun = time.time()
    job = benchmark.submit("start", config, every)
    first = benchmark.wait_for_step(RAY, 1) - begun
    benchmark.wait_for_step(RAY, 12)
    victim = read_times(benchmark.folder / "ray.times")[-1].pid
    os.kill(victim, signal.SIGKILL)
    killed = time.time()
    again = benchmark.wait_for_step(RAY, 1, after=killed + 0.5) - killed
    benchmark.call("jobs", "logs", job, "--follow")
    times = read_times(benchmark.folder / "ray.times")
    plain: list[float] = []
    saving: list[float] = []
    for one, next_one in itertools.pairwise(times):
        if one.pid == next_one.pid:
            (saving if one.step % every == 0 else plain).append(next_one.time_s - one.time_s)
    return first, again, statistics.median(saving) - statistics.median(plain)


def report(what: str, ratios: list[float]) -> None:
    """Prints the median and the quartiles."""
    print(f"{what}: {spread(ratios, 4)}")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=positive, default=10)
    parser.add_argument("--steps", type=positive, default=10, help="of a block")
    parser.add_argument("--only-speed", action="store_true")
    options = parser.parse_args()
    print_heading("torch", "pytorch-lightning", "ray")
    benchmark = Benchmark(options.folder.resolve(), options.steps, options.rounds)
    benchmark.call("jobs", "up", "--num_cpus", "2")
    try:
        if not options.only_speed:
            print(f"load before: {os.getloadavg()[0]:.1f}")
            first, again, save = starts(benchmark)
            [saved, *_] = (benchmark.folder / "runs" / "start" / "checkpoints").glob("*.ckpt")
            print(f"submit to first step: {first:.1f} s; SIGKILL to the next step: {again:.1f} s")
            print(f"a checkpoint of {saved.stat().st_size / 1e6:.1f} MB: {save:.3f} s", flush=True)
        print(f"load before: {os.getloadavg()[0]:.1f}")
        pairs = speeds(benchmark, options.rounds)
        print(f"load after: {os.getloadavg()[0]:.1f}")
        for ray, torchrun in pairs:
            print(f"ray {1 / ray[0]:.3f} steps/s, torchrun {1 / torchrun[0]:.3f} steps/s;", end=" ")
            print(f"processor seconds a step {ray[1]:.3f} and {torchrun[1]:.3f}")
        report("steps/s under Ray / under torchrun", [torchrun[0] / ray[0] for ray, torchrun in pairs])
        report("processor seconds a step, Ray / torchrun", [ray[1] / torchrun[1] for ray, torchrun in pairs])
    finally:
        benchmark.call("jobs", "down")


if __name__ == "__main__":
    main()

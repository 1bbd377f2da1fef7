"""How much of the processor does a step of `fit` take besides the network, which on a GPU stands between its kernels?

The network is a linear layer on mean colors, so that next to nothing is computed. A step is run by a bare loop
(normalize, network, loss, backward pass, optimizer); by a Trainer with nothing else; and by a Trainer with the
callbacks and loggers of `fit`. The batch is the same every time: no loader. The first steps do not count.

    OMP_NUM_THREADS=1 python benchmarks/networks/host_time.py
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from benchmarks.turns import spread
from datamodules.batch import ClipBatch
from lightning_modules import VideoClassifier
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.training.default_callbacks import choose_callbacks, choose_loggers
from pipeline.training.loader_bottleneck import StepTimer
from pipeline.training.nan_guard import NanGuard

CLASSES = 400
_WARM_UP = 20  # steps
BARE, TRAINER, FIT = "bare loop", "Trainer alone", "as `fit`"


class MeanColor(VideoClassifier):
    """A linear layer on the mean color of a clip."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stages = nn.Sequential()
        self.stages.add_module("color", nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten()))
        self.stages.add_module("logits", nn.Linear(3, self.num_classes))


class PlainColor(pl.LightningModule):
    """The same network as anyone would write it, without metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.network = MeanColor(num_classes=CLASSES)

    def training_step(self, batch: ClipBatch, batch_idx: int) -> torch.Tensor:
        """The loss."""
        return F.cross_entropy(self.network.stages(self.network.normalize(batch)), batch.labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.network.stages.parameters(), lr=0.01, momentum=0.9, nesterov=True)


def make_batch(num_clips: int) -> ClipBatch:
    """Clips of 2 frames of 8 x 8 pixels, each of its own video."""
    clips = torch.randint(0, 256, (num_clips, 1, 2, 8, 8, 3), dtype=torch.uint8)
    batch = ClipBatch.from_clips_of_videos(list(clips))
    return batch._replace(labels=torch.arange(num_clips), keys=[f"video{number}" for number in range(num_clips)])


class TimedBatches:
    """A batch many times over, and what a thread's processor spent between the first that counts and the last.

    Args:
        batch: the batch.
        steps: number of steps that count.
    """

    def __init__(self, batch: ClipBatch, steps: int) -> None:
        self._batch, self._steps = batch, steps
        self.milliseconds = 0.0

    def __len__(self) -> int:
        """Number of batches."""
        return _WARM_UP + self._steps + 1

    def __iter__(self) -> Iterator[ClipBatch]:
        """The batch, again and again."""
        for _ in range(_WARM_UP):
            yield self._batch
        began = time.thread_time()
        for _ in range(self._steps):
            yield self._batch
        self.milliseconds = 1000 * (time.thread_time() - began) / self._steps
        yield self._batch


def bare_loop(batches: TimedBatches) -> None:
    """Steps without a Trainer."""
    network = PlainColor()
    optimizer = network.configure_optimizers()
    for number, batch in enumerate(batches):
        optimizer.zero_grad()
        network.training_step(batch, number).backward()
        optimizer.step()


def trainer_alone(batches: TimedBatches) -> None:
    """Steps by Lightning."""
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, enable_checkpointing=False, **quiet)
    trainer.fit(PlainColor(), batches)


def as_fit(batches: TimedBatches) -> None:
    """Steps with what `fit` adds."""
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"default_root_dir": folder, "enable_progress_bar": False}
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            log_every_n_steps=50,
            enable_model_summary=False,
            profiler=StepTimer(),
            logger=choose_loggers(settings),
            callbacks=choose_callbacks(settings, [NanGuard()], CheckpointOptions(), None),
            **settings,
        )
        trainer.fit(MeanColor(num_classes=CLASSES), batches)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=positive, default=16)
    parser.add_argument("--steps", type=positive, default=300)
    parser.add_argument("--rounds", type=positive, default=5)
    options = parser.parse_args()
    print_heading("torch", "pytorch-lightning", "torchmetrics")
    warnings.filterwarnings("ignore")
    batch = make_batch(options.clips)
    sides: dict[str, Callable[[TimedBatches], None]] = {BARE: bare_loop, TRAINER: trainer_alone, FIT: as_fit}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, run in sides.items():
            batches = TimedBatches(batch, options.steps)
            run(batches)
            taken[name].append(batches.milliseconds)
    print(f"| a step of {options.clips} clips | ms of a processor | times the bare loop |\n{'| --- ' * 3}|")
    for name, milliseconds in taken.items():
        ratios = [one / bare for one, bare in zip(milliseconds, taken[BARE], strict=True)]
        print(f"| {name} | {spread(milliseconds)} | {spread(ratios)} |")


if __name__ == "__main__":
    main()

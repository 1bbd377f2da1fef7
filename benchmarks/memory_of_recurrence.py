"""How far back do vanilla RNN, LSTM and GRU remember, and how far back does a gradient reach?

The task is the same for all: the first frame of a sequence says one of 8 classes, as a one-hot vector, and the class is
asked for after a delay of frames of noise. Each cell (`lightning_modules.layers.recurrent.Recurrence`, one layer, and a
linear classifier on the last state) is trained for every delay from scratch with as many steps of the same optimizer,
LSTM and GRU also with gates that begin open (`longest_dependency`). Gradients are those of the loss by each frame,
as the norm of their 8 numbers averaged over sequences: how much of the error at the end reaches a frame that many steps
before it (Bengio et al. 1994, "Learning Long-Term Dependencies with Gradient Descent is Difficult"). Writes a table,
results.json and a chart.

    OMP_NUM_THREADS=1 python benchmarks/memory_of_recurrence.py --out memory
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from lightning_modules.layers.recurrent import Cell, Recurrence
from pipeline.report.charts import LineChart, line_charts

CLASSES = 8
NOISE = 0.3  # standard deviation of the frames after the first
BATCH, HIDDEN = 64, 32
TEST = 1024


class Setting(NamedTuple):
    """A cell, and whether its gates begin open for the delay."""

    cell: Cell
    is_open: bool = False


SETTINGS = {
    "vanilla RNN": Setting("rnn"),
    "LSTM": Setting("lstm"),
    "GRU": Setting("gru"),
    "LSTM, open gates": Setting("lstm", True),
    "GRU, open gates": Setting("gru", True),
}


class Recall(nn.Module):
    """A cell and a linear classifier on its last state: float (N, T, 8) to logits (N, 8)."""

    def __init__(self, setting: Setting, delay: int) -> None:
        super().__init__()
        longest = max(2, delay) if setting.is_open else None
        self.recurrence = Recurrence(CLASSES, HIDDEN, setting.cell, longest_dependency=longest)
        self.classifier = nn.Linear(HIDDEN, CLASSES)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits after the last frame."""
        logits: Tensor = self.classifier(self.recurrence(frames)[:, -1])
        return logits


class Run(NamedTuple):
    """A trained cell: its accuracy, and the gradient's norm by distance from the end, at first and after training."""

    accuracy: float
    first_gradients: list[float]
    gradients: list[float]


def draw_sequences(count: int, delay: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences of a frame that says the class and `delay` frames of noise: float (N, 1 + delay, 8), and int64 (N,)."""
    labels = torch.randint(CLASSES, (count,), generator=generator)
    frames = NOISE * torch.randn(count, 1 + delay, CLASSES, generator=generator)
    frames[:, 0] = F.one_hot(labels, CLASSES).float()
    return frames, labels


def gradient_norms(network: Recall, frames: Tensor, labels: Tensor) -> list[float]:
    """Mean norm of the loss's gradient by the frames, by their distance from the last one: entry 0 is the last."""
    frames = frames.clone().requires_grad_()
    loss = F.cross_entropy(network(frames), labels, reduction="sum")  # of each sequence: they do not influence another
    (gradient,) = torch.autograd.grad(loss, frames)
    return gradient.norm(dim=2).mean(dim=0).flip(0).tolist()


def train(setting: Setting, delay: int, steps: int, seed: int) -> Run:
    """Trains a cell from scratch on one delay, and tests it on sequences that it has not seen."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Recall(setting, delay)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    test = draw_sequences(TEST, delay, generator)
    first_gradients = gradient_norms(network, *test)
    for _ in range(steps):
        frames, labels = draw_sequences(BATCH, delay, generator)
        optimizer.zero_grad()
        F.cross_entropy(network(frames), labels).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)  # against exploding gradients
        optimizer.step()
    with torch.no_grad():
        accuracy = (network(test[0]).argmax(dim=1) == test[1]).double().mean().item()
    return Run(accuracy, first_gradients, gradient_norms(network, *test))


def draw_chart(runs: Mapping[str, Mapping[int, Sequence[Run]]]) -> str:
    """Accuracy by delay, and the gradient by distance before any training, in sequences of the longest delay."""
    accuracies = {
        name: [(delay, statistics.mean(run.accuracy for run in of)) for delay, of in by_delay.items()]
        for name, by_delay in runs.items()
    }
    gradients = {
        name: list(enumerate(geometric_mean([run.first_gradients for run in by_delay[max(by_delay)]])))
        for name, by_delay in runs.items()
    }
    charts = [
        LineChart(
            "accuracy by delay; chance is 0.125", "frames between the class and the question", accuracies, log_x=True
        ),
        LineChart("norm of the loss's gradient, before training", "frames back from the end", gradients, log_y=True),
    ]
    return line_charts(charts, "Memory of recurrent cells")


def geometric_mean(rows: Sequence[Sequence[float]]) -> list[float]:
    """The geometric mean of each column, because gradients differ by orders of magnitude; none is taken as 0."""
    logarithms = [[math.log(max(value, 1e-30)) for value in row] for row in rows]
    return [math.exp(statistics.mean(column)) for column in zip(*logarithms, strict=True)]


def print_table(heading: str, rows: Mapping[str, Sequence[str]]) -> None:
    """Prints a table in Markdown, a column a setting."""
    print(f"| {heading} | " + " | ".join(SETTINGS) + " |")
    print("| --- " * (1 + len(SETTINGS)) + "|")
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")
    print()


def main() -> None:
    """Prints accuracy by delay, and how much of the gradient is left at the first frame; writes results and chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delays", type=positive, nargs="+", default=[5, 10, 20, 40, 80, 160])
    parser.add_argument("--steps", type=positive, default=1000, help="training steps of 64 sequences")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and the chart")
    args = parser.parse_args()
    print_heading("torch")
    runs: dict[str, dict[int, list[Run]]] = {name: {} for name in SETTINGS}
    for delay in sorted(args.delays):
        for name, setting in SETTINGS.items():
            runs[name][delay] = [train(setting, delay, args.steps, seed) for seed in range(args.seeds)]
            print(f"{name}, {delay}: {[run.accuracy for run in runs[name][delay]]}", file=sys.stderr, flush=True)
    accuracies = {
        str(delay): [describe([run.accuracy for run in runs[name][delay]]) for name in SETTINGS]
        for delay in sorted(args.delays)
    }
    print_table("delay, frames", accuracies)
    longest = [runs[name][max(args.delays)] for name in SETTINGS]
    first, trained = (
        [geometric_mean([getattr(run, moment) for run in of]) for of in longest]
        for moment in ("first_gradients", "gradients")
    )
    shares = {"before training": first, "after it": trained}
    print_table(
        f"gradient {max(args.delays)} frames back, relative to that of the last frame",
        {moment: [f"{norms[-1] / norms[0]:.0e}" for norms in means] for moment, means in shares.items()},
    )
    args.out.mkdir(parents=True, exist_ok=True)
    results = {name: {delay: [run._asdict() for run in of] for delay, of in runs[name].items()} for name in SETTINGS}
    (args.out / "results.json").write_text(json.dumps(results))
    (args.out / "memory_of_recurrence.svg").write_text(draw_chart(runs))


def describe(accuracies: Sequence[float]) -> str:
    """The mean in percent, and the least and the largest where they differ by more than a point."""
    low, high = 100 * min(accuracies), 100 * max(accuracies)
    mean = f"{100 * statistics.mean(accuracies):.0f}"
    return mean if high - low <= 1 else f"{mean} ({low:.0f} to {high:.0f})"


if __name__ == "__main__":
    main()

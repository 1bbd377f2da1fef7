"""Which accuracy do networks reach on public benchmarks with all but their last stages frozen?

Rows of docs/results.md: the published I3D, of which Mixed_5b, Mixed_5c and a new classifier are trained; and on an
encoder of ImageNet, of RGB, of optical flow, or of both, fused: single frames, an LSTM, and Video2Vec, which learns
without labels, with a linear classifier on its vectors. What is frozen gives the same output each time, so `features`
computes it once for each clip (`frozen_outputs.py`), and the last stages are trained on that, with AdamW and a cosine.
Clips are not cropped at random, as `fit` with a frozen part would. `--validate` trains on four fifths of the training
part of the first split, and prints the accuracy on the rest; with it, `--change` tries other settings, such as
'{"standardize": false, "rate": 0.003, "last_rate": 0.003}'. `--videos` is the folder with the folders jhmdb, weizmann
and ut_interaction.

    python benchmarks/networks/last_stages.py --network i3d --dataset weizmann --videos DATA --folder /tmp/public
    python benchmarks/networks/last_stages.py --network cnn-lstm --stream flow --dataset jhmdb --videos DATA --folder X
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from benchmarks.networks.frozen_outputs import (
    FRAMES_LAYER,
    I3D_LAYER,
    I3D_RATES,
    I3D_WEIGHTS,
    Outputs,
    export_frames,
    export_i3d,
)
from benchmarks.networks.public_benchmarks import run
from benchmarks.networks.two_streams import FUSED, STREAMS, VALIDATION, divide_training_part
from benchmarks.turns import spend
from datamodules.dataset.dataset_index import DatasetIndex
from lightning_modules import CNNLSTM, I3D, FrameClassifier, Video2Vec, VideoNetwork
from pipeline.inference.training_overlap import overlap_with_keys
from pipeline.linear.classifiers import normalize_l2
from pipeline.linear.cross_validation import choose_c
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.multi_label_fitter import make_fitter
from pipeline.metrics.scored_videos import ScoredVideos
from pipeline.report.fold_results import write_fold_results
from pipeline.report.write_results import write_results

BATCH_SIZE = 16


class Recipe(NamedTuple):
    """How the last stages are trained.

    Attributes:
        epochs: passes over the clips.
        rate: the highest learning rate of all stages with parameters but the last.
        last_rate: that of the last one: the classifier, or the decoders of Video2Vec.
        varied: whether maps are mirrored or not, and lack their first or their last step of time, at random; scores are
            then the mean over maps and mirrored maps.
    """

    epochs: int = 40
    rate: float = 0.001
    last_rate: float = 0.001
    varied: bool = False


class Network(NamedTuple):
    """A network: its class, arguments and last frozen stage, and how what follows is trained."""

    kind: type[VideoNetwork]
    arguments: dict[str, Any]
    last_frozen: str
    recipe: Recipe


NETWORKS = {
    "i3d": Network(I3D, {"dropout": 0.5}, I3D_LAYER, Recipe(10, 0.0003, 0.003, varied=True)),
    "frames": Network(FrameClassifier, {"standardize": True, "dropout": 0.5}, FRAMES_LAYER, Recipe()),
    "cnn-lstm": Network(CNNLSTM, {"standardize": True, "dropout": 0.5, "hidden_size": 128}, FRAMES_LAYER, Recipe()),
    "video2vec": Network(Video2Vec, {"hidden_size": 512}, FRAMES_LAYER, Recipe()),
}


def make_network(network: Network, num_classes: int) -> VideoNetwork:
    """The network without its frozen stages, which takes their outputs.

    The stages of the I3D have their published weights, its classifier and all others random ones.
    """
    encoder = {} if network.kind is I3D else {"encoder": "mobilenet_v2"}
    made = network.kind(num_classes=num_classes, **encoder, **network.arguments)
    if network.kind is I3D:
        made.load_initial_weights(I3D_WEIGHTS)
    names = [name for name, _ in made.stages.named_children()]
    for name in names[: names.index(network.last_frozen) + 1]:
        setattr(made.stages, name, nn.Identity())
    return made


def train(made: VideoNetwork, outputs: Outputs, labels: dict[str, int], recipe: Recipe, seed: int) -> None:
    """Trains with AdamW: a tenth of the steps to the highest rates, then down to none by a cosine."""
    targets = torch.tensor([labels[key] for key in outputs.keys])
    stages = [stage for stage in made.stages if any(True for _ in stage.parameters())]
    optimizer = torch.optim.AdamW([{"params": stage.parameters()} for stage in stages], weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [recipe.rate] * (len(stages) - 1) + [recipe.last_rate],
        total_steps=recipe.epochs * -(-len(targets) // BATCH_SIZE),
        pct_start=0.1,
        cycle_momentum=False,
    )
    generator = torch.Generator().manual_seed(seed)
    made.train()
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(targets), generator=generator).split(BATCH_SIZE):
            batch = torch.from_numpy(outputs.values[rows.numpy()]).float()
            batch = vary(batch, generator) if recipe.varied else batch
            loss = loss_of(made, batch, targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def loss_of(made: VideoNetwork, batch: Tensor, targets: Tensor) -> Tensor:
    """The loss of a batch: cross-entropy, or of Video2Vec its own, without labels."""
    if isinstance(made, Video2Vec):
        return made.loss_of(made.clip_errors(batch)).mean()
    return F.cross_entropy(made.stages(batch), targets)


def vary(maps: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors half of the maps, and leaves out the first or the last step of time: float32 (N, 832, T' - 1, H', W')."""
    mirrored, late = torch.randint(2, (2, len(maps), 1, 1, 1, 1), generator=generator, dtype=torch.bool)
    maps = torch.where(mirrored, maps.flip(-1), maps)
    return torch.where(late, maps[:, :, 1:], maps[:, :, :-1])


@torch.no_grad()
def compute(made: VideoNetwork, outputs: Outputs, keys: list[str], recipe: Recipe) -> NDArray[np.float32]:
    """Probabilities of videos, the mean over their clips; of Video2Vec their vectors: float32 (M, K)."""
    made.eval()
    parts = []
    for values in np.array_split(outputs.values, max(1, len(outputs.values) // BATCH_SIZE)):
        batch = torch.from_numpy(values).float()
        views = [batch, batch.flip(-1)] if recipe.varied else [batch]
        if isinstance(made, Video2Vec):
            parts += [cast(Tensor, made.endpoints(view, ["state"])["state"]) for view in views]
        else:
            parts.append(torch.stack([made.stages(view).softmax(1) for view in views]).mean(0))
    rows = torch.cat(parts).numpy()
    return np.stack([rows[outputs.keys == key].mean(axis=0) for key in keys])


class Experiment:
    """A network on the frozen outputs of a data set.

    Args:
        options: the options of the command.
        stream: `rgb` or `flow`.
    """

    def __init__(self, options: argparse.Namespace, stream: str) -> None:
        self.network, self.seeds = options.network_settings, options.seeds
        exported = options.dataset, options.videos, options.folder
        is_i3d = self.network.kind is I3D
        self.outputs, self.shards = export_i3d(*exported) if is_i3d else export_frames(stream, *exported)
        self.name = f"{options.dataset}-{options.network}-frozen-{stream}"
        self.results = options.folder / "results" / self.name
        index = DatasetIndex.open(str(self.shards))
        columns = [index.column(name, range(len(index))) for name in ("key", "label", "split_group")]
        self.labels = {key: int(label) for key, label, _ in zip(*columns, strict=True)}
        self.groups = {key: group or key for key, _, group in zip(*columns, strict=True)}
        self.classes, self.folds = index.classes, options.fold or index.folds

    def measure(self) -> Path:
        """Trains and tests in each of the folds, and writes what `evaluate` writes; returns the folder."""
        index, scored = DatasetIndex.open(str(self.shards)), {}
        for fold in self.folds:
            training, test = (list(index.column("key", index.readable_rows(part, fold))) for part in ("train", "test"))
            groups = [self.groups[key] for key in test]
            overlap = overlap_with_keys(training, [self.groups[key] for key in training], test, groups).counts()
            provenance: dict[str, Any] = {"task": "single_label", "scores": "probability", "overlap": overlap}
            provenance |= {"classes": list(self.classes), "seen_by_network": 0, "split_file": None}
            provenance |= {"recipe": self.network.recipe._asdict() | self.network.arguments | {"seeds": self.seeds}}
            labels = np.array([self.labels[key] for key in test])
            scores = self.score_held_out(training, test)
            scored[fold] = ScoredVideos(scores, labels, self.classes, test, groups, provenance)
            write_results(self.results / f"fold-{fold}", scored[fold], f"{self.name}, fold {fold}")
        write_fold_results(self.results, scored, self.name, {})
        return self.results

    def validate(self) -> None:
        """Trains on four fifths of the training part of the first split, and prints the accuracy on the rest."""
        divide_training_part(self.shards)
        index = DatasetIndex.open(str(self.shards), split_file=VALIDATION)
        self.score_held_out(*(list(index.column("key", index.readable_rows(part))) for part in ("train", "val")))

    def score_held_out(self, training: list[str], held_out: list[str]) -> NDArray[np.float32]:
        """Trains on some videos and scores others; the mean over trainings of several seeds: float32 (M, K)."""
        scores = []
        for seed in range(self.seeds):
            torch.manual_seed(seed)
            made, recipe = make_network(self.network, len(self.classes)), self.network.recipe
            train(made, self.outputs.of(training), self.labels, recipe, seed)
            found = compute(made, self.outputs.of(held_out), held_out, recipe)
            if isinstance(made, Video2Vec):
                found = self.classify(training, compute(made, self.outputs.of(training), training, recipe), found)
            right = [found[row].argmax() == self.labels[key] for row, key in enumerate(held_out)]
            print(f"{self.name}, seed {seed}: {np.mean(right):.1%} of {len(held_out)} videos", flush=True)
            scores.append(found)
        mean: NDArray[np.float32] = np.mean(scores, axis=0)
        return mean

    def classify(
        self, training: list[str], vectors: NDArray[np.float32], held_out: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Probabilities by logistic regression on vectors of training videos, as `linear --C auto`: float32 (M, K)."""
        rows, held_out_rows = (FeatureRows.from_array(normalize_l2(part)) for part in (vectors, held_out))
        labels = np.array([self.labels[key] for key in training])
        c, _ = choose_c("logistic", rows, labels, [self.groups[key] for key in training])
        return make_fitter("logistic", rows, labels, len(self.classes)).fit(c).scores(held_out_rows)


def parse_options() -> argparse.Namespace:
    """The options of the command; `network_settings` has the network with what is changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--stream", choices=[*STREAMS, FUSED], default="rgb", help="flow and fused are not for the i3d")
    parser.add_argument("--dataset", choices=I3D_RATES, required=True)
    parser.add_argument("--videos", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--folder", type=Path, required=True, help="for packed videos, outputs and results")
    parser.add_argument("--fold", nargs="+", help="only these of the official splits, persons or sequences")
    parser.add_argument("--seeds", type=positive, default=1, help="trainings whose probabilities are averaged")
    parser.add_argument("--validate", action="store_true", help="on a part of the first training part")
    parser.add_argument("--change", type=json.loads, default={}, help="entries of the recipe, or arguments, as JSON")
    options = parser.parse_args()
    network = NETWORKS[options.network]
    if network.kind is I3D and options.stream != "rgb":
        parser.error(f"--stream {options.stream}: the published I3D is of RGB")
    if options.change and not options.validate:
        parser.error("--change: is for --validate, which is not given")
    if options.fold and options.validate:
        parser.error("--fold: not with --validate, which divides the training part of the first split")
    if options.change.get("varied") and network.kind is not I3D:
        parser.error("--change varied: is for the maps of the i3d")
    recipe = {name: value for name, value in options.change.items() if name in Recipe._fields}
    arguments = {name: value for name, value in options.change.items() if name not in recipe}
    options.network_settings = network._replace(
        arguments=network.arguments | arguments, recipe=network.recipe._replace(**recipe)
    )
    return options


def measure(options: argparse.Namespace) -> None:
    """Measures or validates a stream, or both streams and the mean of their probabilities."""
    streams = STREAMS if options.stream == FUSED else (options.stream,)
    experiments = [Experiment(options, stream) for stream in streams]
    if options.validate:
        for experiment in experiments:
            experiment.validate()
        return
    parts = " ".join(str(experiment.measure()) for experiment in experiments)
    if options.stream == FUSED:
        out = options.folder / "results" / f"{options.dataset}-{options.network}-frozen-{FUSED}"
        run("fuse", "", f"--results {parts} --out {out}")


def main() -> None:
    """Measures one row on one data set."""
    options = parse_options()
    print_heading("torch")
    took = spend(lambda: measure(options))
    print(f"{took.wall:.0f} s, {took.processor:.0f} s of processors")


if __name__ == "__main__":
    main()

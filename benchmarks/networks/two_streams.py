"""Which accuracy do networks reach on RGB, on optical flow, and on both, fused late? From scratch, and on ImageNet's.

One command a row of docs/results.md. It packs the data set with its flow, trains a network for each of the official
splits, or with each person held out in turn, and evaluates it. `--stream fused` averages the probabilities of both
streams. What is there already from another row is kept, and a run that was killed goes on. `--validate` trains on four
fifths of the training part of the first split instead, and prints the accuracy on the rest; with it, options of `fit`
at the end of the command are tried. `--videos` is the folder with the folders jhmdb, weizmann and ut_interaction.

    python benchmarks/networks/two_streams.py --network c3d --stream fused --dataset jhmdb --videos DATA --folder two
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from benchmarks.networks.public_benchmarks import BENCHMARKS, run
from benchmarks.turns import spend
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.splits.stratified_groups import GroupedVideo, divide_groups
from pipeline.metrics.scored_videos import read_scored_videos
from pipeline.processes.precision import has_bf16_units
from pipeline.report.fold_results import fold_folders, write_fold_results

STREAMS, FUSED = ("rgb", "flow"), "fused"
VALIDATION = "validation"  # name of the split file with a validation part of the first split's training part
NETWORKS: dict[str, dict[str, Any]] = {
    "c3d": {
        "class_path": "C3D",
        "init_args": {
            "width": 16,
            "num_frames": 16,
            "crop_size": 48,
            "batch_norm": True,
            "dropout": 0.3,
            "learning_rate": 0.001,
        },
    },
    "cnn-lstm": {
        "class_path": "CNNLSTM",
        "init_args": {
            "encoder": "small",
            "channels": [16, 32, 64, 128],
            "hidden_size": 128,
            "dropout": 0.5,
            "learning_rate": 0.001,
        },
    },
}
# Single frames, and an LSTM over them, of one encoder of ImageNet that is trained along.
IMAGENET_ENCODER = {"encoder": "mobilenet_v2", "encoder_weights": "mobilenetv2-imagenet", "learning_rate": 0.0005}
NETWORKS |= {
    "frames-imagenet": {"class_path": "FrameClassifier", "init_args": IMAGENET_ENCODER},
    "cnn-lstm-imagenet": {"class_path": "CNNLSTM", "init_args": {**IMAGENET_ENCODER, "hidden_size": 256}},
}
# The CNN+LSTM begins with the 2D network of the trained single-frame classifier.
BEGINS_WITH = {"cnn-lstm-imagenet": "frames-imagenet"}
OPTIMIZATION = {"optimizer": "adamw", "weight_decay": 0.05, "warmup_fraction": 0.15}
STREAM_ARGUMENTS: dict[str, dict[str, Any]] = {"rgb": {}, "flow": {"subtract_mean_flow": True}}
CLIPS = {
    "num_frames": 16,
    "frame_interval": 1,
    "resize": [56, 56],  # the whole frame
    "crop_size": 48,
    "flip_probability": 0.5,
    "num_clips": 3,
    "batch_size": 16,
    "num_workers": 1,
}
IMAGENET_CLIPS = {"num_frames": 8, "frame_interval": 2, "resize": [112, 112], "crop_size": 96, "num_clips": 1}
OVERLAP = "--allow-overlap"  # videos that look alike stand on both sides of the official splits: one scene, one source
EPOCHS = {"jhmdb": 30, "weizmann": 60, "ut1": 60, "ut2": 60}  # of the networks from scratch
IMAGENET_EPOCHS = {"frames-imagenet": 10, "cnn-lstm-imagenet": 5}


def flow_shards(dataset: str, folder: Path) -> Path:
    """The folder of a data set that is packed with its flow; another than that of public_benchmarks.py."""
    return folder / f"{dataset}-with-flow"


def pack_with_flow(dataset: str, videos: Path, folder: Path) -> Path:
    """Packs a data set with its flow, unless an earlier row did; returns its folder."""
    shards, benchmark = flow_shards(dataset, folder), BENCHMARKS[dataset]
    if not (shards / "dataset.json").exists():
        lists, files = videos / benchmark.annotations, videos / benchmark.videos
        run("pack", str(shards), f"--annotations {lists} --videos {files} --short-side 128 --fps 12.5 --flow")
    return shards


def write_recipe(network: str, stream: str, dataset: str, folder: Path, epochs: int | None) -> Path:
    """Writes the configuration of `fit` for a row, without a fold; returns the file."""
    model, max_epochs = NETWORKS[network], epochs or IMAGENET_EPOCHS.get(network) or EPOCHS[dataset]
    trainer = {
        "accelerator": "cpu",
        # bf16 is many times slower where the processor has no units for it.
        "precision": "bf16-mixed" if network not in IMAGENET_EPOCHS and has_bf16_units() else "32-true",
        "max_epochs": max_epochs,
        "num_sanity_val_steps": 0,
        "check_val_every_n_epoch": min(10, max_epochs),
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    clips = IMAGENET_CLIPS if network in IMAGENET_EPOCHS else {}
    recipe = {
        "seed_everything": 0,
        "model": {**model, "init_args": model["init_args"] | OPTIMIZATION | STREAM_ARGUMENTS[stream]},
        "data": {
            "class_path": "ShardedVideoDataModule",
            "init_args": {"root": str(flow_shards(dataset, folder)), "stream": stream, **CLIPS, **clips},
        },
        "trainer": trainer,
    }
    file = folder / f"{dataset}-{network}-{stream}.yaml"
    file.write_text(json.dumps(recipe, indent=2))  # which is YAML too
    return file


def measure(network: str, stream: str, dataset: str, folds: list[str], folder: Path, epochs: int | None = None) -> Path:
    """Trains and evaluates a network in each of the folds, unless done; returns the folder of the results.

    Args:
        network: key of `NETWORKS`.
        stream: `rgb` or `flow`; or `fused`, for which both are measured.
        dataset: key of `EPOCHS`.
        folds: some or all folds of the data set.
        folder: folder of packed videos, runs and results.
        epochs: default: those in `IMAGENET_EPOCHS` or `EPOCHS`.
    """
    results = folder / "results" / f"{dataset}-{network}-{stream}"
    if stream == FUSED:
        parts = " ".join(str(measure(network, one, dataset, folds, folder, epochs)) for one in STREAMS)
        run("fuse", "", f"--results {parts} --out {results}")
        return results
    recipe = write_recipe(network, stream, dataset, folder, epochs)
    runs, first = folder / "runs" / results.name, BEGINS_WITH.get(network)
    if first is not None:
        measure(first, stream, dataset, folds, folder)
    for fold in folds:
        if not (results / f"fold-{fold}" / "report.json").exists():
            data = f"--data.init_args.fold {fold} --data.init_args.val_split null"
            begin = initial_encoder(folder / "runs" / f"{dataset}-{first}-{stream}" / f"fold-{fold}") if first else ""
            out = f"--trainer.default_root_dir {runs}/fold-{fold} --ckpt_path last"
            run("fit", "", f"--config {recipe} {data} {begin} {out}")
            evaluated = f"--checkpoint {runs}/fold-{fold}/last.ckpt --data {flow_shards(dataset, folder)}"
            run(
                "evaluate",
                "",
                f"{evaluated} --fold {fold} {OVERLAP} --out {results}/fold-{fold}",
            )
    scored = {fold: read_scored_videos(path) for fold, path in fold_folders(results).items()}
    write_fold_results(results, scored, results.name, {})
    return results


def validate(
    network: str, stream: str, dataset: str, folder: Path, options: list[str], epochs: int | None = None
) -> None:
    """Trains on four fifths of the training part of the first split, and prints the accuracy on the rest.

    Args:
        network: key of `NETWORKS`.
        stream: `rgb` or `flow`.
        dataset: key of `EPOCHS`.
        folder: folder of packed videos and runs.
        options: options of `fit` to be tried.
        epochs: default: those in `IMAGENET_EPOCHS` or `EPOCHS`.
    """
    divide_training_part(flow_shards(dataset, folder))
    name = "_".join([f"{dataset}-{network}-{stream}", *(option.lstrip("-") for option in options)])
    runs = folder / VALIDATION / name
    recipe = write_recipe(network, stream, dataset, folder, epochs)
    first = BEGINS_WITH.get(network)
    begin = initial_encoder(folder / VALIDATION / f"{dataset}-{first}-{stream}") if first else ""
    words = f"--config {recipe} --data.init_args.split_file {VALIDATION} {begin} {' '.join(options)}"
    run("fit", "", f"{words} --trainer.default_root_dir {runs} --ckpt_path last")
    with (runs / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["val/top1"]:
                print(f"{name}: epoch {1 + int(row['epoch'])}, {float(row['val/top1']):.1%} of the validation videos")


def initial_encoder(run_folder: Path) -> str:
    """The option of `fit` that takes the 2D network of a finished training; ends the program where there is none."""
    if not (run_folder / "last.ckpt").exists():
        sys.exit(f"{run_folder}: has no last.ckpt; train the network that this one begins with first")
    return f"--model.init_args.encoder_weights {run_folder / 'last.ckpt'}"


def divide_training_part(shards: Path) -> None:
    """Writes the split file `validation`: the first split's training videos by source, and none of its test videos."""
    rows = pq.read_table(shards / "index.parquet", columns=["key", "group", "label", "fold_splits"]).to_pylist()
    training = [
        GroupedVideo(row["key"], row["group"] or row["key"], (str(row["label"]),))
        for row in rows
        if row["fold_splits"][0] == "train"
    ]
    parts = divide_groups(training, {"train": 0.8, "val": 0.2})
    (shards / "splits").mkdir(exist_ok=True)
    with (shards / "splits" / f"{VALIDATION}.csv").open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerows([("key", "split"), *((row["key"], parts.get(row["key"], "")) for row in rows)])


def main() -> None:
    """Measures one row on one data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--stream", choices=[*STREAMS, FUSED], required=True)
    parser.add_argument("--dataset", choices=EPOCHS, required=True)
    parser.add_argument("--videos", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--folder", type=Path, required=True, help="for packed videos, runs and results")
    parser.add_argument("--fold", nargs="+", help="only these of the official splits or persons")
    parser.add_argument(
        "--epochs",
        type=positive,
        help="default: 30 for jhmdb, 60 for the others; on an encoder of ImageNet 10, and 5 more with an LSTM",
    )
    parser.add_argument("--validate", action="store_true", help="on a part of the first training part")
    args, options = parser.parse_known_args()
    if options and not args.validate:
        parser.error(f"{' '.join(options)}: options of fit are for --validate, which is not given")
    print_heading("torch", "opencv-contrib-python-headless")
    folds = args.fold or DatasetIndex.open(pack_with_flow(args.dataset, args.videos, args.folder)).folds
    if args.validate:
        took = spend(lambda: validate(args.network, args.stream, args.dataset, args.folder, options, args.epochs))
    else:
        took = spend(lambda: measure(args.network, args.stream, args.dataset, folds, args.folder, args.epochs))
    print(f"{took.wall:.0f} s, {took.processor:.0f} s of processors")


if __name__ == "__main__":
    main()

"""Outputs of the frozen part of a network for all clips of a data set, computed once by `features`, for last_stages.py.

The frozen part gives the same output for a clip each time, so stages on top of it can be trained on what is stored.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks.public_benchmarks import pack, run
from benchmarks.networks.two_streams import pack_with_flow, write_recipe
from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.features.feature_files import read_features

I3D_WEIGHTS, I3D_LAYER, FRAMES_LAYER = "i3d-kinetics400-rgb", "MaxPool3d_5a_2x2", "frames"
I3D_CLIPS = "--num-frames 40 --resize 160 --crop-size 160"  # J-HMDB's videos have 15 to 40 frames
I3D_RATES = {"jhmdb": "--fps 25 --num-clips 1", "weizmann": "--fps 25 --num-clips 2"}
I3D_RATES |= dict.fromkeys(("ut1", "ut2"), "--fps 12.5 --num-clips 2")
FRAME_CLIPS = "--num-clips 1 --resize 128 --crop-size 128"
# Of 12.5 frames a second: nearly whole videos.
FRAME_RATES = {"jhmdb": "--num-frames 16 --frame-interval 1", "weizmann": "--num-frames 24 --frame-interval 1"}
FRAME_RATES |= dict.fromkeys(("ut1", "ut2"), "--num-frames 24 --frame-interval 2")


class Outputs(NamedTuple):
    """Outputs of a frozen part for N clips.

    Attributes:
        values: float16, of the I3D (N, 832, T', H', W'), of a 2D network (N, T, 1280).
        keys: the key of each clip's video.
    """

    values: NDArray[np.float16]
    keys: NDArray[np.str_]

    def of(self, keys: list[str]) -> "Outputs":
        """Those of some videos."""
        chosen = np.isin(self.keys, keys)
        return Outputs(self.values[chosen], self.keys[chosen])


def export_i3d(dataset: str, videos: Path, folder: Path) -> tuple[Outputs, Path]:
    """Packs a data set and computes what the published I3D has below Mixed_5b, unless done.

    Args:
        dataset: key of `I3D_RATES`.
        videos: folder of the data sets.
        folder: for packed videos and outputs.

    Returns:
        The outputs, and the folder of the packed data set.
    """
    shards = pack(dataset, videos, folder)
    clips = f"{I3D_CLIPS} {I3D_RATES[dataset]}"
    return _export(I3D_WEIGHTS, I3D_LAYER, shards, clips, folder / f"{dataset}-{I3D_LAYER}.parquet"), shards


def export_frames(stream: str, dataset: str, videos: Path, folder: Path) -> tuple[Outputs, Path]:
    """Packs a data set with its flow and computes the features of frames of an encoder of ImageNet, unless done.

    Args:
        stream: `rgb` or `flow`, for which the first filters are averaged over colors.
        dataset: key of `FRAME_RATES`.
        videos: folder of the data sets.
        folder: for packed videos, runs and outputs.

    Returns:
        The outputs, and the folder of the packed data set.
    """
    shards = pack_with_flow(dataset, videos, folder)
    fold = DatasetIndex.open(str(shards)).folds[0]  # all videos are taken, but a fold must be named
    runs = folder / "runs" / f"{dataset}-frozen-{stream}"
    if not (runs / "last.ckpt").exists():  # one step, which leaves the frozen encoder as it was published
        recipe = write_recipe("cnn-lstm-imagenet", stream, dataset, folder, epochs=1)
        encoder = "--model.init_args.encoder_weights mobilenetv2-imagenet --model.init_args.freeze_encoder true"
        data = f"--data.init_args.fold {fold} --data.init_args.val_split null"
        run("fit", "", f"--config {recipe} {data} {encoder} --trainer.max_steps 1 --trainer.default_root_dir {runs}")
    clips = f"--fold {fold} {FRAME_CLIPS} {FRAME_RATES[dataset]}"
    out = folder / f"{dataset}-{FRAMES_LAYER}-{stream}.parquet"
    return _export(str(runs / "last.ckpt"), FRAMES_LAYER, shards, clips, out), shards


def _export(checkpoint: str, layer: str, shards: Path, clips: str, out: Path) -> Outputs:
    options = f"--split all --layer {layer} --pool none --per clip --dtype float16 --num-workers 0 --save-every 16"
    run("features", "", f"--checkpoint {checkpoint} --data {shards} {options} {clips} --out {out}")
    values, table = read_features(out)
    return Outputs(values, np.array(table.column("key").to_pylist()))

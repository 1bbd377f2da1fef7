"""How many videos/s do `evaluate` and `features` do, beside the loop that comes to mind first?

That loop, video by video and clip by clip: decode the clip, one view a forward pass in float32, every channel's frames
apart in memory, scores (or fc6) averaged. It decodes with our own decoder and convolves as torch does by itself; the
same loop with our convolutions shows what of the difference is theirs. All take the same views of the same packed
videos with the same untrained C3D, and must give the same scores and features.

    OMP_NUM_THREADS=1 python benchmarks/networks/evaluate.py --folder /tmp/evaluate --num-clips 10 --num-crops 3

With `--workers N` ours is measured with N decoding processes too, whose processor seconds count. `--loops ours` leaves
out the loop that convolves as torch does, which takes most of the time; ratios are to the first loop.
"""

import argparse
import contextlib
import io
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import is_packed, lacks_bf16, lacks_gpu, not_negative, positive, print_heading, sample_folder
from benchmarks.turns import Spent, count, ratio, take_turns
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset
from datamodules.sampling.clip_sampling import ClipSampler, ClipShape
from datamodules.transforms.resize_and_crop import resize_short_side, spatial_crops
from datamodules.video.decoding import decode_frames, resolve_decoder
from lightning_modules import C3D, VideoClassifier
from lightning_modules.layers import onednn_convolution
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features, read_features
from pipeline.inference.inference_options import Precision
from pipeline.metrics.predictions import read_predictions
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions

SIZE, FRAMES, SPLIT = 112, 16, "val"
LOOPS = {"torch": "naive loop", "ours": "naive loop, our convolutions"}
TOLERANCES: dict[Precision, float] = {"32-true": 1e-4, "bf16-mixed": 3e-2}


class Way(NamedTuple):
    """How our side is run: its precision, and how many processes decode besides the one that computes."""

    precision: Precision
    workers: int

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self.precision if self.workers == 0 else f"{self.precision}, {count(self.workers, 'worker')}"


def sample_videos(folder: Path) -> Path:
    """The sample, or made videos where it is not there."""
    sample, made = sample_folder(), folder / "made"
    if (sample / "annotations.csv").exists():
        return sample
    print(f"{sample} is not there: made videos instead")
    if not (made / "annotations.csv").exists():
        options = SyntheticDatasetOptions(train=0, val=1, test=0, num_frames=150, width=456, height=256)
        make_synthetic_dataset(made, options)
        (made / "val.csv").rename(made / "annotations.csv")
    return made


def prepare(folder: Path, width: int, sample: Path) -> tuple[Path, Path]:
    """The packed videos and the checkpoint, made where they are not there."""
    data, checkpoint = folder / "packed", folder / f"c3d-{width}.ckpt"
    if not (data / "dataset.json").exists():
        pack(
            PackOptions(data, [sample / "annotations.csv"], sample / "videos", split=SPLIT, short_side=128, processes=1)
        )
    if not checkpoint.exists():
        torch.manual_seed(0)
        model = C3D(width=width, batch_norm=True, class_names=DatasetIndex.open(data).classes)
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.strategy.connect(model)
        trainer.save_checkpoint(checkpoint)
    return data, checkpoint


@contextlib.contextmanager
def torchs_convolutions() -> Iterator[None]:
    """Within it, networks convolve as torch does by itself, not by `lightning_modules.layers.onednn_convolution`."""
    ours, onednn_convolution._HAS_AVX = onednn_convolution._HAS_AVX, False
    try:
        yield
    finally:
        onednn_convolution._HAS_AVX = ours


def naive(data: Path, checkpoint: Path, options: argparse.Namespace, layer: str | None) -> np.ndarray:
    """A video after the other, a view after the other: scores (B, K), or a layer's features (B, D)."""
    model = VideoClassifier.load(checkpoint).to(options.device)
    index = DatasetIndex.open(data)
    sampler = ClipSampler(ClipShape(FRAMES), "uniform", options.num_clips)
    decoder, found = resolve_decoder("auto"), []
    for row in index.rows(SPLIT).tolist():
        entry, video = index.entry(row), index.read_video(row)
        views = []
        for numbers in sampler(entry.num_frames, entry.fps, np.random.default_rng(0)):
            clip = resize_short_side(torch.from_numpy(decode_frames(video, numbers.tolist(), decoder)), 128)
            for crop in spatial_crops(clip, SIZE, options.num_crops):
                x = crop.permute(3, 0, 1, 2)[None].contiguous().to(options.device).float()
                x = (x / 255 - 0.5) / 0.5
                with torch.inference_mode():
                    result = model.endpoints(x, [layer])[layer] if layer else model.clip_logits(x).softmax(1)
                views.append(result[0].cpu().numpy())
        found.append(np.mean(views, axis=0))
    return np.stack(found)


def ours(
    data: Path, checkpoint: Path, out: Path, options: argparse.Namespace, layer: str | None, way: Way
) -> Callable[[], np.ndarray]:
    """The verb, in this process and its workers; gives what is in its file."""
    accelerator, precision = "gpu" if options.device == "cuda" else "cpu", way.precision
    common = {"num_clips": options.num_clips, "num_crops": options.num_crops, "num_workers": way.workers}
    common |= {"num_frames": FRAMES, "crop_size": SIZE, "resize": 128, "accelerator": accelerator}

    def run() -> np.ndarray:
        if out.is_dir():
            shutil.rmtree(out)
        with contextlib.redirect_stdout(io.StringIO()):
            if layer:
                features(
                    FeatureOptions(
                        checkpoint,
                        data,
                        out=out,
                        split=SPLIT,
                        layer=[layer],
                        precision=precision,
                        overwrite=True,
                        **common,
                    )
                )
            else:
                evaluate(EvaluateOptions(checkpoint, data, SPLIT, out=out, precision=precision, **common))
        return read_features(out)[0] if layer else read_predictions(out / "predictions.parquet")[0]

    return run


def measure(
    verb: str,
    layer: str | None,
    data: Path,
    checkpoint: Path,
    options: argparse.Namespace,
    tolerances: Mapping[Precision, float],
) -> None:
    """Prints the rows of one verb in each precision, after having looked that all give the same."""

    def by_hand() -> np.ndarray:
        return naive(data, checkpoint, options, layer)

    loops: dict[str, Callable[[], np.ndarray]] = {"torch": torchs_convolutions()(by_hand), "ours": by_hand}
    ways = {LOOPS[name]: loops[name] for name in options.loops}
    first = next(iter(ways))
    expected = ways[first]()
    for workers in dict.fromkeys((0, options.workers)):
        for precision, tolerance in tolerances.items():
            way = Way(precision, workers)
            run = ours(data, checkpoint, options.folder / f"{verb}-{precision}-{workers}", options, layer, way)
            differs = float(np.linalg.norm(run() - expected) / np.linalg.norm(expected))
            print(f"{verb}, {way.name}: differs from the naive loop by {differs:.1e}", flush=True)
            if differs > tolerance:
                raise SystemExit(f"{verb}, {way.name}: {differs:.1e} > {tolerance:.0e}")
            ways[way.name] = run
    spent = take_turns(ways, options.rounds, warm_up=0)  # each has been done once
    for name, rounds in spent.items():
        print(_row(verb, name, len(expected), rounds, spent[first]))


def _row(verb: str, name: str, videos: int, rounds: list[Spent], naively: list[Spent]) -> str:
    rates = [f"{videos / statistics.median(getattr(one, of) for one in rounds):.2f}" for of in ("processor", "wall")]
    ratios = ["", ""] if rounds is naively else [ratio(naively, rounds), ratio(naively, rounds, "wall")]
    return f"| {verb} | {name} | {rates[0]} | {ratios[0]} | {rates[1]} | {ratios[1]} |"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "evaluate-benchmark")
    parser.add_argument("--sample", type=Path, help="folder with annotations.csv and videos")
    parser.add_argument("--width", type=positive, default=32, help="filters of C3D's first layer; the paper's has 64")
    parser.add_argument("--num-clips", type=positive, default=10)
    parser.add_argument("--num-crops", type=int, default=1, choices=(1, 3))
    parser.add_argument("--workers", type=not_negative, default=0, help="ours with so many decoding processes too")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=list(LOOPS), help="by whose convolutions")
    parser.add_argument("--precisions", nargs="+", choices=TOLERANCES, default=list(TOLERANCES))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if options.sample and not (options.sample / "annotations.csv").exists():
        parser.error(f"--sample {options.sample}: there is no annotations.csv in it")
    print_heading("torch", "pytorch-lightning", "av")
    if lacks_gpu(options.device):
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    tolerances = {precision: TOLERANCES[precision] for precision in options.precisions}
    if "bf16-mixed" in tolerances and lacks_bf16(options.device):
        del tolerances["bf16-mixed"]
    is_packed(options.folder / "packed", short_side=128)
    sample = options.sample or sample_videos(options.folder)
    data, checkpoint = prepare(options.folder, options.width, sample)
    print(f"{options.num_clips} clips x {options.num_crops} crops, decoder {resolve_decoder('auto')}")
    columns = ["verb", "side", "videos/processor second", "ratio", "videos/s by the clock", "ratio"]
    print(f"| {' | '.join(columns)} |\n{'| --- ' * 6}|", flush=True)
    for verb, layer in (("evaluate", None), ("features", "fc6")):
        measure(verb, layer, data, checkpoint, options, tolerances)


if __name__ == "__main__":
    main()

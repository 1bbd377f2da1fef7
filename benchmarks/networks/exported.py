"""How fast is an exported program in onnxruntime, beside the checkpoint as `classify` and `evaluate` run it in torch?

Both sides are opened as those verbs open them, from files that are written first, and score the same uint8 clips:
torch with folded batch norms and oneDNN, onnxruntime with as many threads. Outputs are compared before anything is
timed (`export` does). Networks are those of their papers, with random weights.

    OMP_NUM_THREADS=1 python benchmarks/networks/exported.py
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from benchmarks.turns import ratio, take_turns
from datamodules.batch import ClipBatch
from lightning_modules import C3D, CNNLSTM, I3D, VideoClassifier
from pipeline.export.export import ExportOptions, export
from pipeline.exported_models.open_model import open_classifier

CLASSES = [str(number) for number in range(400)]


class Network(NamedTuple):
    """A network, and the clips of its paper: frames, and height and width."""

    construct: Callable[[], VideoClassifier]
    frames: int
    size: int


NETWORKS = {
    "c3d": Network(lambda: C3D(class_names=CLASSES), 16, 112),
    "i3d": Network(lambda: I3D(class_names=CLASSES), 64, 224),
    "cnn_lstm": Network(lambda: CNNLSTM(encoder="inception_v1", class_names=CLASSES), 16, 224),
}


def write_checkpoint(network: Network, path: Path) -> None:
    """Writes a checkpoint of random weights, as `fit` does."""
    torch.manual_seed(0)
    model = network.construct()
    clips: dict[str, Any] = {"num_frames": network.frames, "frame_interval": 1, "fps": None}
    clips |= {"crop_size": network.size, "resize": None}
    content: dict[str, Any] = {"state_dict": model.state_dict(), "datamodule_hyper_parameters": clips}
    model.on_save_checkpoint(content)
    torch.save(content, path)


def scorer(path: Path, clips: Tensor) -> Callable[[], object]:
    """Scores the clips with a checkpoint or an exported model."""
    model = open_classifier(path).model
    assert isinstance(model, VideoClassifier)
    batch = ClipBatch.from_clips(clips)

    def score() -> Tensor:
        with torch.inference_mode():
            return model.video_scores(batch)

    return score


def compare(name: str, network: Network, num_clips: int, rounds: int, folder: Path) -> str:
    """A row of the table: milliseconds of processor time a clip of both sides, and their ratio."""
    checkpoint, out = folder / f"{name}.ckpt", folder / name
    write_checkpoint(network, checkpoint)
    export(ExportOptions(checkpoint, out))
    shape = (num_clips, network.frames, network.size, network.size, 3)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    spent = take_turns({"torch": scorer(checkpoint, clips), "onnx": scorer(out, clips)}, rounds)
    cells = [f"{1000 * statistics.median(one.processor for one in of) / num_clips:.0f}" for of in spent.values()]
    ratios = [ratio(spent["torch"], spent["onnx"], what) for what in ("processor", "wall")]
    return f"| {name} | {network.frames} x {network.size} x {network.size} | {' | '.join([*cells, *ratios])} |"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--clips", type=positive, default=2, help="clips in a batch")
    parser.add_argument("--rounds", type=positive, default=5)
    options = parser.parse_args()
    print_heading("torch", "onnxruntime")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            rows.append(compare(name, NETWORKS[name], options.clips, options.rounds, Path(folder)))
    print(f"\nbatches of {options.clips} clips, {options.rounds} rounds")
    print("| network | clips | torch, ms a clip | onnxruntime, ms a clip | times quicker, processor | by the clock |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()

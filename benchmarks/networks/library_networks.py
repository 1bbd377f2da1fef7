"""What does a clip cost in the networks of transformers and torchvision, and what does taking them apart add?

Networks of full size with random weights, one clip a pass, float32, on one thread: the library's own network with its
classifier takes turns with `PretrainedVideoNetwork`, or `FrameClassifier` for networks of images. No hub is needed.

    OMP_NUM_THREADS=1 python benchmarks/networks/library_networks.py
    OMP_NUM_THREADS=1 python benchmarks/networks/library_networks.py --networks torchvision
"""

import argparse
import functools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from benchmarks.turns import ratio, take_turns
from lightning_modules import FrameClassifier, PretrainedVideoNetwork, VideoClassifier

CLASSES = 400
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
# Type, whose configuration is by default the published one; frames and side of a clip; options of ours.
VIDEO = {
    "VideoMAE ViT-B": ("videomae", 16, 224, {}),
    "TimeSformer": ("timesformer", 8, 224, {}),
    "ViViT-B": ("vivit", 32, 224, {}),
    "V-JEPA 2 ViT-L, 4 blocks of a probe": ("vjepa2", 16, 256, {"head": "attentive"}),
}
IMAGES = {
    "ResNet-50": ("resnet", {}, 224),
    "ConvNeXt-T": ("convnext", {}, 224),
    "DINOv2 ViT-S/14": ("dinov2", {"hidden_size": 384, "num_attention_heads": 6, "patch_size": 14}, 224),
    "DINOv2 ViT-B/14": ("dinov2", BASE | {"patch_size": 14}, 224),
    "CLIP ViT-B/32": ("clip_vision_model", BASE | {"intermediate_size": 3072, "projection_dim": 512}, 224),
    "SigLIP ViT-B/16": ("siglip_vision_model", BASE, 224),
}
TORCHVISION = {"mc3_18": (16, 112), "r3d_18": (16, 112), "r2plus1d_18": (16, 112), "s3d": (128, 224)}
TORCHVISION |= {"mvit_v2_s": (16, 224), "swin3d_t": (32, 224)}
PREPROCESSING = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


class Compared(NamedTuple):
    """A network in two forms.

    Attributes:
        name: its name in the table.
        theirs: the library's network; None for one of ours.
        ours: the same in ours.
        shape: (N, C, T, H, W) of a clip.
    """

    name: str
    theirs: nn.Module | None
    ours: VideoClassifier
    shape: tuple[int, ...]


def write_configuration(kind: str, options: dict[str, Any], folder: Path) -> Any:
    """Writes what a folder on the hub has besides weights; returns the configuration."""
    import transformers

    configuration = transformers.AutoConfig.for_model(kind, **options)
    configuration.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return configuration


def video_transformer(kind: str, folder: Path) -> Iterator[Compared]:
    """One of a type, with the library's classifier."""
    import transformers

    for name, (of_type, frames, side, head) in VIDEO.items():
        if of_type != kind:
            continue
        place = folder / kind
        configuration = write_configuration(kind, {}, place)
        ours = PretrainedVideoNetwork(f"transformers:{place}", weights="none", num_classes=CLASSES, **head)
        configuration.num_labels = CLASSES
        theirs = transformers.AutoModelForVideoClassification.from_config(configuration)
        yield Compared(name, theirs, ours, (1, 3, frames, side, side))


def image_networks(folder: Path) -> Iterator[Compared]:
    """Each for a frame; the library's network has no classifier."""
    import transformers

    for name, (kind, options, side) in IMAGES.items():
        place = folder / name.replace("/", "-")
        configuration = write_configuration(kind, options, place)
        ours = FrameClassifier(encoder=f"transformers:{place}", encoder_weights="none", num_classes=CLASSES)
        yield Compared(name, transformers.AutoModel.from_config(configuration), ours, (1, 3, 1, side, side))
    own = FrameClassifier(encoder="mobilenet_v2", num_classes=CLASSES)
    yield Compared("MobileNetV2, our own layers", None, own, (1, 3, 1, 224, 224))


def torchvision_networks(folder: Path) -> Iterator[Compared]:
    """Each with the library's classifier."""
    import torchvision.models

    for name, (frames, side) in TORCHVISION.items():
        ours = PretrainedVideoNetwork(f"torchvision:{name}", weights="none")
        theirs = torchvision.models.get_model(name, weights=None)
        yield Compared(name, theirs, ours, (1, 3, frames, side, side))


GROUPS = {kind: functools.partial(video_transformer, kind) for kind, *_ in VIDEO.values()}
GROUPS |= {"images": image_networks, "torchvision": torchvision_networks}


def library_pass(network: nn.Module, clip: torch.Tensor) -> Callable[[], object]:
    """A pass of the library's network, which takes frames or clips in its own order."""
    if type(network).__module__.startswith("torchvision"):
        return lambda: network(clip)
    frames_first = clip.transpose(1, 2)
    return lambda: network(frames_first[0] if clip.shape[2] == 1 else frames_first)


@torch.inference_mode()
def measure(compared: Compared, rounds: int) -> None:
    """Prints a row."""
    name, theirs, ours, shape = compared
    clip = torch.randn(shape)
    ways = {"ours": lambda: ours.eval().clip_logits(clip)}
    if theirs is not None:
        ways["theirs"] = library_pass(theirs.eval(), clip)
    spent = take_turns(ways, rounds)
    seconds = statistics.median(one.processor for one in spent["ours"])
    parameters = sum(parameter.numel() for parameter in ours.parameters()) / 1e6
    times = ratio(spent["ours"], spent["theirs"]) if theirs is not None else ""
    print(f"| {name} | {parameters:.1f} | {shape[2]} x {shape[3]} | {seconds:.3g} | {times} |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks", nargs="+", choices=list(GROUPS), default=[name for name in GROUPS if name != "torchvision"]
    )
    parser.add_argument("--rounds", type=positive, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print_heading("torch", "transformers", "torchvision")
    print("| network | parameters, M | frames x side | ours, s of a core | times the library's |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for group in arguments.networks:
            for compared in GROUPS[group](Path(folder)):
                measure(compared, arguments.rounds)


if __name__ == "__main__":
    main()

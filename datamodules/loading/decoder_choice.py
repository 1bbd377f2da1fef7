"""Which decoder reads a dataset: the one that is named, or what `auto` takes."""

from typing import Literal

from pytorch_lightning.utilities import rank_zero_warn

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.say_once import log_once
from datamodules.transforms.yuv420 import Pixels
from datamodules.video.decoding import describe_decoder, resolve_decoder

Decoder = Literal["auto", "pyav", "decord", "torchcodec"]


def choose_decoder(wanted: Decoder, pixels: Pixels) -> str:
    """The name of the decoder that reads, and says so where nobody named it: PyAV for planes, which only it gives.

    Raises:
        ValueError: there is no such decoder, or it does not import.
    """
    chosen = resolve_decoder("pyav" if pixels == "i420" else wanted)
    if wanted == "auto":
        log_once(f"decoder auto: {describe_decoder(chosen)}")
    return chosen


def warn_of_decord(decoder: str, index: DatasetIndex) -> None:
    """Says that decord is a risk, where it is to read videos that `pack` did not encode."""
    if decoder == "decord" and not index.manifest.encoded_by_us:
        rank_zero_warn(
            f"decoder='decord': the videos of {index.name} were not encoded by `pack`, and decord takes its "
            "process down on some damaged files; decoder='pyav' does not"
        )

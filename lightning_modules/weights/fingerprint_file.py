"""Files with the fingerprints of a network's training videos, as safetensors: 72 bytes a video.

They travel beside weights that leave the checkpoint, so that who evaluates them knows what they were trained on
(`datamodules.leakage.training_fingerprint`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

_COUNT = "count"


def write_fingerprints(path: Path, fingerprints: Sequence[Mapping[str, Tensor] | None]) -> None:
    """Writes the fingerprints of a network's trainings.

    Args:
        path: file to write.
        fingerprints: of each training the tensors as the data module saved them, the last training first; None for one
            whose videos are not known.
    """
    tensors = {
        f"{number}.{name}": value.contiguous()
        for number, fingerprint in enumerate(fingerprints)
        if fingerprint is not None
        for name, value in fingerprint.items()
    }
    path.write_bytes(save({**tensors, _COUNT: torch.tensor(len(fingerprints))}))


def read_fingerprints(path: Path) -> tuple[dict[str, Tensor] | None, ...]:
    """Reads what `write_fingerprints` wrote; a single unknown training if there is no file.

    Raises:
        ValueError: not such a file, or a damaged one.
    """
    if not path.is_file():
        return (None,)
    try:
        tensors = load_file(path)
        count = int(tensors.pop(_COUNT))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path}: has no fingerprints of training videos ({error}); get the file again") from None
    found: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        number, _, field = name.partition(".")
        found[number][field] = value
    return tuple(found.get(str(number)) for number in range(count))

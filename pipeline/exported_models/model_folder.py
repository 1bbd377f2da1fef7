"""The folder of an exported model, and `ModelDescription`, its model.json."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from datamodules.annotations.records import Task
from datamodules.batch import STREAM_CHANNELS
from datamodules.storage.local_files import file_sha256
from datamodules.storage.plain_text import to_json

DESCRIPTION_NAME = "model.json"
FINGERPRINTS_NAME = "training.safetensors"  # of the videos that the checkpoint was trained on
LINEAR_NAME = "linear.safetensors"  # a copy of what `linear` wrote
METADATA_KEY = "action_recognition"  # of the description in the metadata of a program
PROGRAM_NAMES: dict[str, str] = {"onnx": "model.onnx", "torch": "model.pt2"}

ProgramFormat = Literal["onnx", "torch"]
ProgramPrecision = Literal["float32", "float16"]

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """The content of model.json: what a program takes and gives, and where it comes from.

    A program has one input, `clips`: uint8 (N, T, H, W, C), RGB or levels of optical flow (`STREAM_CHANNELS`), and two
    outputs, float32: `probabilities` (N, K) of each clip, and what is averaged over the clips of a video: `logits`
    (N, K), or `features` (N, D) of a linear classifier, which normalizes the mean.

    Attributes:
        format: `onnx` or `torch`, a program of torch.export.
        precision: what the network computes in.
        classes: the K class names in label order.
        task: whether a video has one class or several labels.
        clips: settings of a clip: num_frames, frame_interval or fps, resize, crop_size, short_videos, ...
        variable_frames: whether the program takes clips of any length, or only of `num_frames` frames.
        averaged: name of the second output, `logits` or `features`.
        checkpoint: what it was exported from: name, sha256, network, dataset; `linear_sha256` of a linear classifier.
        versions: versions of the libraries that wrote it.
        files: SHA-256 of every other file of the folder, by name.
        verification: how it was compared with the checkpoint: clips, source, and the largest difference found.
    """

    format: ProgramFormat
    precision: ProgramPrecision
    classes: list[str]
    task: Task
    clips: dict[str, Any]
    variable_frames: bool
    averaged: Literal["logits", "features"]
    checkpoint: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    verification: dict[str, Any] = field(default_factory=dict)

    @property
    def program_name(self) -> str:
        """Name of the file of the program."""
        return PROGRAM_NAMES[self.format]

    @property
    def input_shape(self) -> list[int | str]:
        """Shape of the input; N, and T where it is variable, as names."""
        size, channels = self.clips["crop_size"], STREAM_CHANNELS[self.clips.get("stream", "rgb")]
        return ["N", "T" if self.variable_frames else self.clips["num_frames"], size, size, channels]

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata of the program: all but what is known only after it is written, as JSON."""
        content = self._content()
        return {METADATA_KEY: to_json({name: content[name] for name in content if name not in _KNOWN_LATER})}

    def write(self, folder: Path, verification: dict[str, Any]) -> None:
        """Writes model.json, with the digests of the files that are there, and how the program was verified."""
        files = {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.name != DESCRIPTION_NAME}
        content = replace(self, files=files, verification=verification)._content()
        (folder / DESCRIPTION_NAME).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")

    @property
    def outputs(self) -> dict[str, list[int | str]]:
        """Names and shapes of the outputs."""
        num_classes = len(self.classes)
        averaged: dict[str, list[int | str]] = {"logits": ["N", num_classes], "features": ["N", "D"]}
        return {"probabilities": ["N", num_classes], self.averaged: averaged[self.averaged]}

    def _content(self) -> dict[str, Any]:
        shapes = {"input": {"clips": self.input_shape}, "outputs": self.outputs}
        return {"format_version": _VERSION, **asdict(self), **shapes}

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads and checks a folder: the description, and the digest of every file.

        Raises:
            FileNotFoundError: no such folder, or it has no model.json.
            ValueError: model.json is not what `export` wrote, or a file is missing or has changed.
        """
        path, subject = folder / DESCRIPTION_NAME, f"model={str(folder)!r}"
        if not path.is_file():
            hint = "the folder that `python -m pipeline export` wrote"
            raise FileNotFoundError(f"{subject}: has no {DESCRIPTION_NAME}; give {hint}")
        try:
            content = json.loads(path.read_text("utf-8"))
            if content.pop("format_version") != _VERSION:
                raise ValueError("of another version of this project")
            content = {name: value for name, value in content.items() if name not in ("input", "outputs")}
            description = cls(**content)
            files = dict(description.files)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"model={str(folder)!r}: {DESCRIPTION_NAME} is not what `export` wrote ({error})"
            ) from None
        for name, sha256 in files.items():
            if Path(name).name != name or not (folder / name).is_file() or file_sha256(folder / name) != sha256:
                raise ValueError(
                    f"model={str(folder)!r}: {name} is missing or is not what `export` wrote; export again"
                )
        if description.program_name not in files:
            raise ValueError(f"{subject}: {DESCRIPTION_NAME} lists no {description.program_name}")
        return description


_KNOWN_LATER = ("files", "verification")

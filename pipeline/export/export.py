"""`python -m pipeline export`: a checkpoint as a program in ONNX or of torch.export, checked against the checkpoint."""

import copy
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import torch

from datamodules.batch import STREAM_CHANNELS
from datamodules.storage.atomic_write import write_folder_atomically
from lightning_modules import VideoClassifier, VideoNetwork
from lightning_modules.tasks.saved_network import plain_data
from lightning_modules.weights.checkpoint_file import public_class_path
from lightning_modules.weights.fingerprint_file import write_fingerprints
from pipeline.classify.linear_head import LinearHead, attach_head
from pipeline.classify.packed_videos import is_packed_dataset
from pipeline.classify.video_input import Preprocessing, preprocessing_of
from pipeline.cli.terminal import print_text
from pipeline.export.clip_program import ClipProgram, LinearProgram, set_precision
from pipeline.export.program_files import trace, write_onnx, write_torch
from pipeline.export.verification import compare_with_checkpoint, draw_clips, read_clips, refuse_difference
from pipeline.exported_models.exported_classifier import ExportedClassifier
from pipeline.exported_models.model_folder import (
    FINGERPRINTS_NAME,
    LINEAR_NAME,
    ModelDescription,
    ProgramFormat,
    ProgramPrecision,
)
from pipeline.exported_models.open_model import is_model_folder, open_model
from pipeline.exported_models.programs import TRUSTED_LOADER, import_onnx
from pipeline.inference.inference_options import CheckpointOptions, OverwriteOptions
from pipeline.inference.output_paths import refuse_unwritable_folder
from pipeline.inference.trained_checkpoint import TrainedCheckpoint, open_checkpoint

_LIBRARIES = {"torch": ("torch",), "onnx": ("torch", "onnx", "onnxscript", "onnxruntime")}


@dataclass(frozen=True)
class ExportOptions(CheckpointOptions, OverwriteOptions):
    """Options of `export`.

    Attributes:
        checkpoint: file that `fit` wrote, folder that `publish` wrote or hf://ORG/NAME[@REVISION], a name that
            `python -m pipeline weights list` prints, or a network of a library, such as `transformers:NAME_OR_FOLDER`.
        out: folder to write: the program, model.json with classes and clips, and what else `classify --model` needs.
        format: onnx, a program for onnxruntime and others; or torch, a program of torch.export.
        precision: what the network computes in: float32, or float16, half the size, for GPUs. Pixels are normalized,
            and probabilities computed, in float32 in both.
        variable_frames: let the program take clips of any number of frames, for `evaluate --whole`; for networks that
            allow it: I3D, InceptionV1, FrameClassifier, and those of yours that can be traced so. Tracing takes longer.
        linear: weights.safetensors of `linear`, fitted on features of this checkpoint, to take the place of the
            network's own classifier.
        videos: video files, folders of them, or the folder of a packed dataset: on two clips of four of these videos
            the program is compared with the checkpoint; default: those that the checkpoint was trained on, if they
            are where they were; else synthetic clips.
    """

    checkpoint: Path
    out: Path
    format: ProgramFormat = "onnx"
    precision: ProgramPrecision = "float32"
    variable_frames: bool = False
    linear: Path | None = None
    videos: list[str] | None = None


def export(options: ExportOptions) -> None:
    """Export a checkpoint as a program that takes uint8 clips and gives probabilities, without this project.

    The program has normalization, network, and softmax or sigmoid in it. At the end it is run and compared with the
    checkpoint; where its probabilities differ by more than 1e-4 (1e-2 in float16), nothing is left of it.

    Args:
        options: checkpoint, format and clips to compare on.

    Raises:
        FileNotFoundError: the checkpoint, the linear classifier or a video does not exist.
        ImportError: the packages of the extra `export` are not installed.
        ValueError: the checkpoint cannot be opened or traced, `out` is there, or the program differs.
    """
    _refuse_existing(options.out, options.overwrite)
    for package in _LIBRARIES[options.format][1:]:
        import_onnx(package, f"format={options.format!r}")
    reference, trained, preprocessing = _open(options)
    if isinstance(reference, VideoClassifier) and reference.labels_frames:
        raise ValueError(
            f"checkpoint {trained.name!r}: labels every frame, and programs give one label a clip; export a network of "
            "readout=mean or readout=last"
        )
    frames, size = preprocessing.shape.num_frames, preprocessing.transform.crop_size
    videos = options.videos or trained_on(trained)
    clips = read_clips(videos, preprocessing) if videos else draw_clips(frames, size, preprocessing.stream)
    description = _describe(reference, trained, preprocessing, options)
    program = _program_of(reference, trained, options.precision)
    exported = trace(
        program, _example(frames, size, STREAM_CHANNELS[preprocessing.stream]), description.variable_frames
    )
    with write_folder_atomically(options.out) as folder:
        (write_onnx if options.format == "onnx" else write_torch)(exported, description, folder)
        states = [None if known is None else known.state() for known in trained.fingerprints]
        write_fingerprints(folder / FINGERPRINTS_NAME, states)
        if options.linear is not None:
            shutil.copyfile(options.linear, folder / LINEAR_NAME)
        description.write(folder, {})
        model = cast(ExportedClassifier, open_model(folder, [TRUSTED_LOADER]).model)
        try:
            found = compare_with_checkpoint(model, reference, clips)
        except Exception as error:  # of any class: a layer that torch lacks in half precision, a size that was fixed
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"format={options.format!r}, precision={options.precision!r}: the program does not run here, so it "
                f"cannot be compared ({reason}); nothing was written; choose another format or precision"
            ) from error
        refuse_difference(found, description, options.checkpoint)
        description.write(folder, {**found._asdict(), "runtime": model.runtime})
    num_bytes = sum(path.stat().st_size for path in options.out.iterdir())
    shape = ", ".join(map(str, description.input_shape))
    print_text(
        f"wrote {options.out}: {description.program_name}, {num_bytes / 1e6:.1f} MB, {options.precision}: uint8 clips "
        f"({shape}) to probabilities of {len(description.classes)} classes"
    )
    print_text(
        f"largest difference from the checkpoint: {found.largest_difference:.1e}, on {found.num_clips} clips "
        f"({found.source})"
    )


def _open(options: ExportOptions) -> tuple[VideoClassifier | LinearHead, TrainedCheckpoint, Preprocessing]:
    """Opens what is exported: the network or the linear classifier on it, the checkpoint, and the clips for it."""
    kind = VideoClassifier if options.linear is None else VideoNetwork
    trained = open_checkpoint(options.checkpoint, options.allow, kind)
    trained.model.requires_grad_(False)
    if options.linear is not None:
        head, preprocessing = attach_head(options.linear, trained, "auto")
        return head, trained, preprocessing
    return cast(VideoClassifier, trained.model), trained, preprocessing_of(trained, 2, "auto")


def trained_on(trained: TrainedCheckpoint) -> list[str]:
    """The folder of the dataset that a checkpoint was trained on, if it is there; else nothing."""
    root = trained.dataset.get("root")
    return [root] if root and is_packed_dataset(root) else []


def _program_of(
    reference: VideoClassifier | LinearHead, trained: TrainedCheckpoint, precision: ProgramPrecision
) -> torch.nn.Module:
    network = trained.model if precision == "float32" else copy.deepcopy(trained.model)
    set_precision(network, precision)
    if isinstance(reference, LinearHead):
        return LinearProgram(network, reference).eval()
    return ClipProgram(cast(VideoClassifier, network)).eval()


def _example(num_frames: int, crop_size: int, channels: int) -> torch.Tensor:
    """Clips to trace with; their number is that of no other axis, which could be taken for it."""
    number = next(number for number in (2, 5, 7, 11) if number not in (num_frames, crop_size, channels))
    return torch.zeros((number, num_frames, crop_size, crop_size, channels), dtype=torch.uint8)


def _describe(
    reference: VideoClassifier | LinearHead,
    trained: TrainedCheckpoint,
    preprocessing: Preprocessing,
    options: ExportOptions,
) -> ModelDescription:
    is_linear = isinstance(reference, LinearHead)
    shape, transform = preprocessing.shape, preprocessing.transform
    clips: dict[str, Any] = {
        **{name: getattr(shape, name) for name in ("num_frames", "frame_interval", "fps", "short_videos", "segments")},
        "crop_size": transform.crop_size,
        "resize": transform.resize,
        "still": preprocessing.sampler.still,
    }
    averaged: Literal["logits", "features"] = "features" if is_linear else "logits"
    return ModelDescription(
        format=options.format,
        precision=options.precision,
        classes=list(reference.class_names),
        task=reference.task,
        clips=plain_data(trained.clips | clips),
        variable_frames=options.variable_frames or preprocessing.sampler.method == "whole",
        averaged=averaged,
        checkpoint={
            "name": trained.published or trained.path.name,
            "sha256": trained.sha256,
            "network": public_class_path(type(trained.model)),
            "linear_sha256": reference.sha256 if isinstance(reference, LinearHead) else None,
            "dataset": plain_data({name: trained.dataset[name] for name in trained.dataset if name != "root"}),
        },
        versions={name: version(name) for name in _LIBRARIES[options.format]},
    )


def _refuse_existing(out: Path, overwrite: bool) -> None:
    refuse_unwritable_folder(out)
    if out.exists() and any(out.iterdir()) and not (overwrite and is_model_folder(out)):
        what = "is an exported model; give --overwrite to replace it" if is_model_folder(out) else "is not empty"
        raise ValueError(f"out={str(out)!r}: {what}, or choose another folder")

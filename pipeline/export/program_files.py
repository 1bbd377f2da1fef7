"""Writes a network as a program: by torch.export, and from that in ONNX."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pipeline.exported_models.model_folder import DESCRIPTION_NAME, ModelDescription
from pipeline.exported_models.programs import import_onnx

_MAX_PROTOBUF_BYTES = 2**31 - 2**26  # an ONNX file is below 2 GB; what is larger keeps its weights beside it


def trace(program: nn.Module, clips: Tensor, variable_frames: bool) -> ExportedProgram:
    """Traces a program of any number of clips.

    Args:
        program: module of the outputs of uint8 clips (N, T, H, W, C), in evaluation mode.
        clips: two example clips at least: a single one would fix their number.
        variable_frames: whether the program must take clips of any number of frames.

    Raises:
        ValueError: the network cannot be traced, or only for the number of clips, or of frames, of the example.
    """
    shapes = {"clips": {0: Dim.AUTO, 1: Dim.AUTO if variable_frames else Dim.STATIC}}
    try:
        with torch.no_grad(), _without_notes():
            exported = torch.export.export(program, (clips,), dynamic_shapes=shapes)
    except Exception as error:  # of any class, from the network's own code or from torch
        first_line = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"torch.export cannot trace this network ({type(error).__name__}: {first_line}); its forward pass must not "
            "depend on the values of pixels, nor call what is not of torch"
        ) from error
    [traced] = [node for node in exported.graph.nodes if node.op == "placeholder" and node.name == "clips"]
    number, frames = traced.meta["val"].shape[:2]
    if isinstance(number, int):
        raise ValueError(
            "the network computes with the number of clips as if it were a constant, and so would the program: take it "
            "from the shape of a tensor, and do not loop over clips or split them"
        )
    if variable_frames and isinstance(frames, int):
        raise ValueError(
            f"variable_frames: this network can be traced for clips of {frames} frames alone; leave the option out"
        )
    return exported


def write_torch(exported: ExportedProgram, description: ModelDescription, folder: Path) -> None:
    """Writes a program of torch.export, with the description among its extra files."""
    [text] = description.metadata.values()
    torch.export.save(exported, folder / description.program_name, extra_files={DESCRIPTION_NAME: text})


def write_onnx(exported: ExportedProgram, description: ModelDescription, folder: Path) -> None:
    """Writes a program in ONNX, with the description in its metadata.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ValueError: an operation of the network has no counterpart in ONNX.
    """
    for package in ("onnx", "onnxscript"):
        import_onnx(package, "format='onnx'")
    try:
        with torch.no_grad(), _without_notes():
            program = torch.onnx.export(
                exported,
                dynamo=True,
                input_names=["clips"],
                output_names=[*description.outputs],
                verbose=False,
            )
    except Exception as error:  # of any class
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ValueError(
            f"format='onnx': torch.onnx cannot translate this network ({lines[-1] if lines else error}); give --format "
            "torch"
        ) from error
    assert program is not None
    _name_axes(program.model.graph, description)
    program.model.metadata_props.update(description.metadata)
    num_bytes = sum(value.nbytes for value in exported.state_dict.values())
    program.save(folder / description.program_name, external_data=num_bytes > _MAX_PROTOBUF_BYTES)


def _name_axes(graph: Any, description: ModelDescription) -> None:
    """Gives the axes of input and outputs the names and sizes of the description."""
    ir = import_onnx("onnx_ir", "format='onnx'")
    shapes = {"clips": description.input_shape, **description.outputs}
    for value in (*graph.inputs, *graph.outputs):
        sizes = [
            named if isinstance(named, str) and not isinstance(found, int) else found
            for named, found in zip(shapes[value.name], value.shape, strict=True)
        ]
        value.shape = ir.Shape(sizes)


@contextmanager
def _without_notes() -> Iterator[None]:
    """Context without the exporter's notes on versions, optional packages and its own deprecations."""
    names = ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

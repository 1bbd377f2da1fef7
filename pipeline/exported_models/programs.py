"""Programs of exported models: clips to probabilities, by onnxruntime or by torch.export's own loader."""

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.exported_models.model_folder import ModelDescription

TRUSTED_LOADER = "torch.export"  # to be allowed by name
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class Program(Protocol):
    """A loaded program."""

    @property
    def runtime(self) -> str:
        """What runs it, with version and device."""

    def __call__(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips uint8 (N, T, H, W, C) to the two outputs of `ModelDescription`, float32, on the clips' device."""


def open_program(folder: Path, description: ModelDescription, allow: Sequence[str] = ()) -> Program:
    """Loads the program of a folder.

    Args:
        folder: the folder, whose files have been checked.
        description: its model.json.
        allow: contains `torch.export` where programs of that format are trusted.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: the format is not trusted, or the program cannot be loaded.
    """
    path = folder / description.program_name
    if description.format == "onnx":
        return OnnxProgram(path, [*description.outputs])
    if TRUSTED_LOADER not in allow:
        raise ValueError(
            f"model={str(folder)!r}: a program of torch.export can execute code when it is opened; if you trust its "
            f"source, give --allow {TRUSTED_LOADER}, or export it as onnx"
        )
    return TorchProgram(path)


def import_onnx(package: str, option: str) -> Any:
    """Imports `onnx`, `onnxscript` or `onnxruntime`.

    Args:
        package: name of the package.
        option: the option that needs it, with its value, for the error.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        hint = "pip install 'action-recognition-pipeline[export]'"
        raise ImportError(f"{option}: {package} cannot be imported here ({error}); {hint}") from error


class OnnxProgram:
    """A program in ONNX, run by onnxruntime: on a GPU with the package onnxruntime-gpu, else on the CPU.

    It has as many threads as torch.

    Args:
        path: file of the program.
        outputs: names of its outputs.
    """

    def __init__(self, path: Path, outputs: Sequence[str]) -> None:
        runtime = import_onnx("onnxruntime", f"model={str(path.parent)!r}")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors; warnings are of its own optimizations
        found = runtime.get_available_providers()
        providers = [name for name in _PROVIDERS if name in found]
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's classes of errors are private
            raise ValueError(f"model={str(path)!r}: onnxruntime cannot open it ({error})") from error
        self._outputs = list(outputs)
        self.runtime = f"onnxruntime {runtime.__version__} {self._session.get_providers()[0]}"

    def __call__(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips uint8 (N, T, H, W, C) to the two outputs, float32, on the clips' device."""
        first, second = self._session.run(self._outputs, {"clips": clips.contiguous().cpu().numpy()})
        return torch.from_numpy(first).to(clips.device), torch.from_numpy(second).to(clips.device)


class TorchProgram:
    """A program of torch.export, run by torch on the device of the clips.

    Args:
        path: file of the program.
    """

    def __init__(self, path: Path) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch 2.13 of its own deprecations
                self._exported = torch.export.load(path)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"model={str(path)!r}: torch {torch.__version__} cannot open it ({error})") from error
        self._modules: dict[torch.device, torch.nn.Module] = {}
        self.runtime = f"torch.export of torch {torch.__version__}"

    def __call__(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips uint8 (N, T, H, W, C) to the two outputs, float32, on the clips' device."""
        if clips.device not in self._modules:
            self._modules[clips.device] = self._module_on(clips.device)
        with torch.no_grad():
            first, second = self._modules[clips.device](clips)
        return first, second

    def _module_on(self, device: torch.device) -> torch.nn.Module:
        from torch.export.passes import move_to_device_pass

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return move_to_device_pass(self._exported, device).module()

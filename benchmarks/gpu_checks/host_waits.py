"""Calls that make the host wait for the device, counted by the line of code that made them."""

import traceback
import warnings
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("datamodules", "lightning_modules", "pipeline")
# c10::cuda::warn_or_error_on_sync, torch 2.13: "called a synchronizing CUDA operation".
_SIGN = "synchronizing CUDA operation"


class HostWaits:
    """Context in which waits of the host are counted by `torch.cuda.set_sync_debug_mode`.

    It sees `item()`, `cpu()`, `nonzero`, copies of pageable memory and the like, in all threads; not
    `torch.cuda.synchronize` and what torch.distributed waits for. On a CPU, which never waits, it counts nothing.

    Attributes:
        places: number of waits by the line of code, the innermost one first, then the innermost one of the project.
    """

    def __init__(self) -> None:
        self.places: Counter[str] = Counter()
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> Self:
        self._filters.__enter__()
        warnings.filterwarnings("always", message=f".*{_SIGN}")
        self._show, warnings.showwarning = warnings.showwarning, self._note
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("warn")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
        self._filters.__exit__(kind, value, trace)

    def _note(self, message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
        if _SIGN not in str(message):
            self._show(message, category, filename, lineno, *rest)
            return
        ours = [
            f"{path.relative_to(_ROOT)}:{frame.lineno}"
            for frame in traceback.extract_stack()
            if (path := Path(frame.filename)).is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _PACKAGES
        ]
        innermost = Path(filename)
        place = f"{innermost.relative_to(_ROOT) if innermost.is_relative_to(_ROOT) else filename}:{lineno}"
        place = place.rpartition("site-packages/")[2]
        self.places[" < ".join(dict.fromkeys([place, *ours[-1:]]))] += 1

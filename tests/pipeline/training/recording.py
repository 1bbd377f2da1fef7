"""Callbacks that write down what each rank trained on, and what it waited for."""

import hashlib
import json
import re
import traceback
from contextlib import ExitStack
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class RecordKeys(pl.Callback):
    """One line a step in FOLDER/rank{rank}.txt: the step's number within the epoch, then the keys."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"rank{trainer.global_rank}.txt").open("a") as file:
            print(batch_idx, *batch.keys, file=file)


class RecordClips(pl.Callback):
    """One line a clip in FOLDER/rank{rank}.txt: its video's key and a digest of the pixels that were trained on."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"rank{trainer.global_rank}.txt").open("a") as file:
            for clip, video in zip(batch.clips, batch.video_index.tolist(), strict=True):
                print(batch.keys[video], hashlib.sha256(clip.numpy().tobytes()).hexdigest(), file=file)


class RecordRates(pl.Callback):
    """The learning rate that each optimizer step takes, a line each."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_before_optimizer_step(self, trainer, model, optimizer):
        with self.path.open("a") as file:
            print(optimizer.param_groups[0]["lr"], file=file)


def recorded(folder):
    """{(rank, step): keys}."""
    lines = [(int(path.stem[4:]), line.split()) for path in folder.iterdir() for line in path.open()]
    return {(rank, int(words[0])): words[1:] for rank, words in lines}


class CountWaits(pl.Callback):
    """FOLDER/rank{rank}.json: per step, the collectives, and the places that read a tensor's values on the host.

    Counted from the third step of the run on, for `steps` steps from one batch's start to another's, logging included.

    Args:
        folder: where the file goes.
        steps: number of steps.
    """

    def __init__(self, folder: str, steps: int = 4) -> None:
        self.folder, self.steps = Path(folder), steps
        self.modes = ExitStack()
        self.collectives, self.places = [], []

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if trainer.global_step == 2:
            self.modes.enter_context(_Dispatched(self))
            self.modes.enter_context(_HostReads(self))
        elif trainer.global_step == 2 + self.steps:
            self.modes.close()
            self.folder.mkdir(parents=True, exist_ok=True)
            content = {"steps": self.steps, "collectives": self.collectives, "places": self.places}
            (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(content))

    def note_place(self, what):
        """The innermost function outside of torch, unless it is one of the loader's, which reads no step's tensors."""
        frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
        [place] = [frame for frame in frames if Path(frame.filename) != Path(__file__)][-1:]
        if "/datamodules/" not in place.filename or re.search(r"/transforms/|/device_transfer\.py$", place.filename):
            self.places.append([what, Path(place.filename).name, place.name])


_READS = {"item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__float__", "__int__", "__index__", "__array__"}
_DISPATCHED_READS = {"_local_scalar_dense", "nonzero", "masked_select", "bincount"}


class _HostReads(TorchFunctionMode):
    def __init__(self, counter):
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in _READS:
            self.counter.note_place(func.__name__)
        return func(*args, **(kwargs or {}))


class _Dispatched(TorchDispatchMode):
    def __init__(self, counter):
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        if func.namespace == "c10d":
            tensors = torch.utils._pytree.tree_leaves(args)
            sizes = [[str(each.dtype), each.numel()] for each in tensors if isinstance(each, torch.Tensor)]
            self.counter.collectives.append([name, sizes])
        elif name in _DISPATCHED_READS:
            self.counter.note_place(name)
        return func(*args, **(kwargs or {}))


class RecordBytes(pl.Callback):
    """FOLDER/STRATEGY{rank}: the bytes of parameters, gradients and optimizer that this rank has, after a step."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_before_zero_grad(self, trainer, model, optimizer):
        state = [value for of_weight in optimizer.state.values() for value in of_weight.values()]
        kinds = [list(model.parameters()), [weight.grad for weight in model.parameters()], state]
        if all(kinds) and kinds[1][0] is not None:
            self.folder.mkdir(exist_ok=True)
            counts = [sum(_local(tensor).nbytes for tensor in kind) for kind in kinds]
            path = self.folder / f"{type(trainer.strategy).__name__}{trainer.global_rank}"
            path.write_text(" ".join(map(str, counts)))


def _local(tensor):
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor

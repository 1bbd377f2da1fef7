"""Callbacks that write down what each rank trained on."""

import hashlib
from pathlib import Path

import pytorch_lightning as pl


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

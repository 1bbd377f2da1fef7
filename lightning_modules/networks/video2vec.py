"""video2vec: what a video shows as one vector, learnt without labels.

After Srivastava, Mansimov, Salakhutdinov: "Unsupervised Learning of Video Representations using LSTMs", ICML 2015: the
composite model (section 2), in which one LSTM reads a sequence of frame features, and from its last state one decoder
gives the sequence back in reverse order while another predicts what comes next.
"""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from datamodules.batch import ClipBatch
from lightning_modules.layers.recurrent import Recurrence, TemporalPooling
from lightning_modules.networks.frame_sequence import FrameSequenceNetwork

State = tuple[Tensor, Tensor]
Split = Literal["train", "val", "test"]


class Video2Vec(FrameSequenceNetwork):
    """An LSTM reads frame features; its last state must tell what was read, in reverse, and what comes next.

    A clip's last `predicted_frames` are those to predict, the ones before them are read. The loss is the mean squared
    error of what was read plus that of what comes next. The targets are the features themselves, without a gradient.

    Logged for each split: `reconstruction` and `prediction`, mean squared errors a clip, and what they are to be held
    against: `reconstruction_baseline`, of the mean of the frames that were read, and `prediction_baseline`, of the last
    of them repeated.

    Endpoints: frames (N, T, D), the 2D network's features of every frame; standardized (N, T, D), where they are;
    hidden (N, T, H), the encoder's state after every frame; state (N, H), that after the last one, which is the video's
    vector. They read all frames of a clip, those that training predicts too.

    Args:
        hidden_size: H. The paper's has 2048 for features of frames.
        num_layers: stacked, in the encoder and in the decoders.
        predicted_frames: frames at the end of a clip that are predicted; 0 for an autoencoder alone. The paper reads 16
            frames and predicts 13, clips of 29.
        reconstruct: also give back what was read; false for a predictor alone.
        conditional: the decoders see the frame that they gave last, else nothing but the state that they begin with.
        standardize: give every feature mean 0 and standard deviation 1, over a batch in training, over all of training
            afterwards. Squared errors are then shares of the variance; and a 2D network that is trained along cannot
            make its features easy to predict by making them small.
        **kwargs: of `FrameSequenceNetwork`. The paper's features come from a network that was trained before and stays
            as it is (`freeze_encoder`). Classes are taken and not looked at.

    Raises:
        ValueError: nothing to learn, or a number out of range.
    """

    feature_layer = "state"

    def __init__(
        self,
        hidden_size: int = 512,
        num_layers: int = 1,
        predicted_frames: int = 5,
        reconstruct: bool = True,
        conditional: bool = False,
        standardize: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if predicted_frames < 0:
            raise ValueError(f"predicted_frames={predicted_frames}: must be at least 0")
        if not reconstruct and not predicted_frames:
            raise ValueError("reconstruct=False, predicted_frames=0: nothing to learn; set one of them")
        self.predicted_frames = predicted_frames
        if standardize:
            self.stages.add_module("standardized", Standardize(self.frame_size))
        self.stages.add_module("hidden", Recurrence(self.frame_size, hidden_size, "lstm", num_layers))
        self.stages.add_module("state", TemporalPooling("last"))
        tasks = ["reconstruction"] * reconstruct + ["prediction"] * (predicted_frames > 0)
        decoders = {task: SequenceDecoder(self.frame_size, hidden_size, num_layers, conditional) for task in tasks}
        self.stages.add_module("decoders", nn.ModuleDict(decoders))
        names = ["loss", *tasks, *(f"{task}_baseline" for task in tasks)]
        self.errors = nn.ModuleDict(
            {f"{split}_errors": nn.ModuleDict({name: MeanMetric() for name in names}) for split in ("val", "test")}
        )

    @property
    def compiled_part(self) -> nn.Module:
        """The 2D network; LSTMs have kernels of their own."""
        return cast(nn.Module, self.stages.frames)

    @property
    def endpoints_available(self) -> tuple[str, ...]:
        """Names of the stages up to the state."""
        return tuple(name for name in super().endpoints_available if name != "decoders")

    def clip_errors(self, x: Tensor) -> dict[str, Tensor]:
        """Mean squared errors of clips, by task, and those of the baselines: each float32 (N,).

        Args:
            x: normalized float (N, C, T, H, W).

        Raises:
            ValueError: no frame is left to read.
        """
        features: Tensor = self.stages[:-3](x)  # all but hidden, state and decoders
        count = features.shape[1] - self.predicted_frames
        if count < 1:
            raise ValueError(
                f"predicted_frames={self.predicted_frames}: clips have {features.shape[1]} frames, and at least one "
                "must be left to read; set num_frames of the data higher"
            )
        read, ahead = features[:, :count], features[:, count:].detach()
        state = cast(State, cast(Recurrence, self.stages.hidden).cells(read)[1])
        read = read.detach()
        targets = {"reconstruction": read.flip(1), "prediction": ahead}
        guesses = {"reconstruction": read.mean(dim=1, keepdim=True), "prediction": read[:, -1:]}
        errors = {}
        for task, decoder in cast(nn.ModuleDict, self.stages.decoders).items():
            errors[task] = _squared_error(decoder(state, targets[task].shape[1]), targets[task])
            errors[f"{task}_baseline"] = _squared_error(guesses[task], targets[task])
        return errors

    def loss_of(self, errors: dict[str, Tensor]) -> Tensor:
        """Sum of the tasks' errors, a clip: (N,)."""
        return torch.stack([errors[task] for task in cast(nn.ModuleDict, self.stages.decoders)]).sum(dim=0)

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Mean over clips of the sum of the tasks' squared errors."""
        if batch.num_videos == 0:
            return self.learn_nothing(batch, lambda x: self.loss_of(self.clip_errors(x)))
        errors = self.clip_errors(self.normalize(batch))
        loss = self.loss_of(errors).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.clips))
        means = {f"train/{name}": error.detach().mean() for name, error in errors.items()}
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=len(batch.clips))
        return loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Updates the errors of the validation split."""
        self._judge(batch, "val")

    def test_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Updates the errors of the test split."""
        self._judge(batch, "test")

    def _judge(self, batch: ClipBatch, split: Split) -> None:
        metrics = cast(nn.ModuleDict, self.errors[f"{split}_errors"])
        if batch.num_videos > 0:
            errors = self.clip_errors(self.normalize(batch))
            for name, error in (errors | {"loss": self.loss_of(errors)}).items():
                cast(MeanMetric, metrics[name]).update(error)
        for name, metric in metrics.items():
            self.log(f"{split}/{name}", cast(MeanMetric, metric), prog_bar=name == "loss", batch_size=len(batch.clips))

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """The keys of a batch's videos and their vectors, each the mean over its views: float32 (B, H)."""
        size = cast(Recurrence, self.stages.hidden).output_size
        sums = self.mean.new_zeros((batch.num_videos, size))
        if batch.num_videos > 0:
            states = self.endpoints(self.normalize(batch), ["state"])["state"].float()
            sums.index_add_(0, batch.video_index, states)
            sums /= torch.bincount(batch.video_index, minlength=batch.num_videos)[:, None]
        return {"keys": batch.keys, "rows": batch.rows, "states": sums}


class Standardize(nn.Module):
    """Every feature with mean 0 and standard deviation 1 over clips and time: (N, T, D) to (N, T, D).

    In training by the batch's own mean and deviation, in evaluation by running ones; a constant feature becomes 0.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.statistics = nn.BatchNorm1d(size, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, T, D), standardized."""
        standardized: Tensor = self.statistics(x.flatten(0, 1))
        return standardized.view_as(x)


class SequenceDecoder(nn.Module):
    """An LSTM that begins with another's last state and gives a sequence of features: (N, L, D).

    Args:
        size: D.
        hidden_size: of the LSTM.
        num_layers: as many as the other has.
        conditional: whether each step sees what the one before it gave; the first sees zeros.
    """

    def __init__(self, size: int, hidden_size: int, num_layers: int, conditional: bool) -> None:
        super().__init__()
        self.conditional = conditional
        # An LSTM wants an input: without what it gave before, a single zero.
        self.cells = nn.LSTM(size if conditional else 1, hidden_size, num_layers, batch_first=True)
        self.output = nn.Linear(hidden_size, size)

    def forward(self, state: State, length: int) -> Tensor:
        """The sequence of a length that follows from a state, the last hidden state and cell of the other LSTM."""
        count = state[0].shape[1]
        if not self.conditional:
            given: Tensor = self.output(self.cells(state[0].new_zeros(count, length, 1), state)[0])
            return given
        steps = [state[0].new_zeros(count, 1, self.output.out_features)]
        for _ in range(length):
            hidden, state = self.cells(steps[-1], state)
            steps.append(self.output(hidden))
        return torch.cat(steps[1:], dim=1)


def _squared_error(given: Tensor, targets: Tensor) -> Tensor:
    """Mean over time and features: (N, L, D) or (N, 1, D), and (N, L, D), to float32 (N,)."""
    return (given.float() - targets.float()).square().flatten(1).mean(dim=1)

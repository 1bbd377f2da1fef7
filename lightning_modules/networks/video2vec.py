"""Video2Vec: unsupervised learning of a video's representation as one vector.

After Srivastava, Mansimov, Salakhutdinov: "Unsupervised Learning of Video Representations using LSTMs", ICML 2015: the
composite model (section 2), in which an LSTM encodes a sequence of frame features, and from its last state one decoder
reconstructs the sequence in reverse order while another predicts the following frames.
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
    """An LSTM autoencoder and predictor of frame features; its last state is the video's vector.

    The last `predicted_frames` of a clip are predicted, from the frames before them, which are also reconstructed. The
    loss is the sum of the mean squared errors of reconstruction and prediction. The targets are the features, detached.

    Logged for each split: `reconstruction` and `prediction`, mean squared errors per clip, and baselines to compare
    them with: `reconstruction_baseline`, the error of the mean of the input frames, and `prediction_baseline`, the
    error of repeating the last one.

    Endpoints: frames (N, T, D), the 2D network's features of every frame; standardized (N, T, D), with
    `standardize`; hidden (N, T, H), the encoder's state after every frame; state (N, H), its last state, which is the
    video's vector. They cover all frames of a clip, also those that training predicts.

    Args:
        hidden_size: H, size of the LSTMs' state; the paper uses 2048 for features of frames.
        num_layers: number of stacked layers, in the encoder and in the decoders.
        predicted_frames: number of frames at the end of a clip that are predicted; 0 for an autoencoder only; the
            paper reads 16 frames and predicts 13, clips of 29.
        reconstruct: reconstruct the input; false for a predictor only.
        conditional: decoders receive their previous output as input; otherwise only their initial state.
        standardize: as in `FrameSequenceNetwork`; squared errors are then fractions of the variance, and a 2D network
            that is trained too cannot reduce them by shrinking its features.
        **kwargs: arguments of `FrameSequenceNetwork`; the paper's frame features come from a pretrained, frozen
            network (`freeze_encoder`); classes are accepted and ignored.

    Raises:
        ValueError: no loss is left, or an argument is out of range.
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
        super().__init__(standardize=standardize, **kwargs)
        if predicted_frames < 0:
            raise ValueError(f"predicted_frames={predicted_frames}: must be at least 0")
        if not reconstruct and not predicted_frames:
            raise ValueError("reconstruct=False, predicted_frames=0: nothing to learn; set one of them")
        self.predicted_frames = predicted_frames
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
    def endpoints_available(self) -> tuple[str, ...]:
        """Names of the stages up to the state."""
        return tuple(name for name in super().endpoints_available if name != "decoders")

    def clip_errors(self, x: Tensor) -> dict[str, Tensor]:
        """Mean squared errors of clips by task, and those of the baselines: each float32 (N,).

        Args:
            x: normalized float (N, C, T, H, W).

        Raises:
            ValueError: no input frame is left.
        """
        features = self.frame_features(x)
        count = features.shape[1] - self.predicted_frames
        if count < 1:
            raise ValueError(
                f"predicted_frames={self.predicted_frames}: clips have {features.shape[1]} frames, and at least one "
                "must be left to read; set num_frames of the data higher"
            )
        inputs, following = features[:, :count], features[:, count:].detach()
        state = cast(State, cast(Recurrence, self.stages.hidden).cells(inputs)[1])
        inputs = inputs.detach()
        targets = {"reconstruction": inputs.flip(1), "prediction": following}
        baselines = {"reconstruction": inputs.mean(dim=1, keepdim=True), "prediction": inputs[:, -1:]}
        errors = {}
        for task, decoder in cast(nn.ModuleDict, self.stages.decoders).items():
            errors[task] = _squared_error(decoder(state, targets[task].shape[1]), targets[task])
            errors[f"{task}_baseline"] = _squared_error(baselines[task], targets[task])
        return errors

    def loss_of(self, errors: dict[str, Tensor]) -> Tensor:
        """Sum of the tasks' errors of each clip: (N,)."""
        return torch.stack([errors[task] for task in cast(nn.ModuleDict, self.stages.decoders)]).sum(dim=0)

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Mean over clips of the sum of the tasks' squared errors."""
        if batch.num_videos == 0:
            return self.zero_loss(batch, lambda x: self.loss_of(self.clip_errors(x)))
        errors = self.clip_errors(self.normalize(batch))
        loss = self.loss_of(errors).mean()
        self.log_loss(loss, len(batch.clips))
        means = {f"train/{name}": error.detach().mean() for name, error in errors.items()}
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=len(batch.clips))
        return loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Updates the errors of the validation split."""
        self._evaluate(batch, "val")

    def test_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Updates the errors of the test split."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: ClipBatch, split: Split) -> None:
        metrics = cast(nn.ModuleDict, self.errors[f"{split}_errors"])
        if batch.num_videos > 0:
            errors = self.clip_errors(self.normalize(batch))
            for name, error in (errors | {"loss": self.loss_of(errors)}).items():
                cast(MeanMetric, metrics[name]).update(error)
        for name, metric in metrics.items():
            self.log(f"{split}/{name}", cast(MeanMetric, metric), prog_bar=name == "loss", batch_size=len(batch.clips))

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """The keys of a batch's videos and their vectors, averaged over the views: float32 (B, H)."""
        size = cast(Recurrence, self.stages.hidden).output_size
        sums = self.mean.new_zeros((batch.num_videos, size))
        if batch.num_videos > 0:
            states = self.endpoints(self.normalize(batch), ["state"])["state"].float()
            sums.index_add_(0, batch.video_index, states)
            sums /= batch.views_per_video[:, None]
        return {"keys": batch.keys, "rows": batch.rows, "states": sums}


class SequenceDecoder(nn.Module):
    """An LSTM that starts from another LSTM's last state and generates a sequence of features: (N, L, D).

    Args:
        size: D, size of a feature vector.
        hidden_size: size of the LSTM's state.
        num_layers: number of layers, equal to the other LSTM's.
        conditional: whether each step receives the previous step's output; the first receives zeros.
    """

    def __init__(self, size: int, hidden_size: int, num_layers: int, conditional: bool) -> None:
        super().__init__()
        self.conditional = conditional
        # An LSTM requires an input: a single zero if not conditional.
        self.cells = nn.LSTM(size if conditional else 1, hidden_size, num_layers, batch_first=True)
        self.output = nn.Linear(hidden_size, size)

    def forward(self, state: State, length: int) -> Tensor:
        """The sequence of `length` features that follows a state, the other LSTM's last hidden and cell state."""
        count = state[0].shape[1]
        if not self.conditional:
            output: Tensor = self.output(self.cells(state[0].new_zeros(count, length, 1), state)[0])
            return output
        steps = [state[0].new_zeros(count, 1, self.output.out_features)]
        for _ in range(length):
            hidden, state = self.cells(steps[-1], state)
            steps.append(self.output(hidden))
        return torch.cat(steps[1:], dim=1)


def _squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean over time and features: (N, L, D) or (N, 1, D), and (N, L, D), to float32 (N,)."""
    return (predictions.float() - targets.float()).square().flatten(1).mean(dim=1)

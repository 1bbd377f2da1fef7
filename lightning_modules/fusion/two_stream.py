"""Two-stream networks: one network of RGB, one of optical flow, fused late.

Simonyan, Zisserman: "Two-Stream Convolutional Networks for Action Recognition in Videos", NIPS 2014; with I3D as both
networks: Carreira and Zisserman 2017, section 2.4, whose released code adds the logits of the two.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from datamodules.batch import STREAM_CHANNELS, Stream
from lightning_modules.networks.c3d import C3D
from lightning_modules.networks.cnn_lstm import CNNLSTM, FrameClassifier
from lightning_modules.networks.inception_i3d import I3D, InceptionV1
from lightning_modules.tasks.classifier import VideoClassifier

NetworkName = Literal["C3D", "I3D", "InceptionV1", "CNNLSTM", "FrameClassifier"]
_NETWORKS: dict[str, type[VideoClassifier]] = {
    network.__name__: network for network in (C3D, I3D, InceptionV1, CNNLSTM, FrameClassifier)
}
_RGB = STREAM_CHANNELS["rgb"]


class TwoStream(VideoClassifier):
    """Two networks of one kind, of RGB and of optical flow, trained in one run on `stream: both`.

    With `fusion: logits` each network learns by a loss of its own, as if trained alone, and the sum of their logits is
    classified. With `fusion: features` one linear classifier learns from the features of both, together with them.

    Endpoints: features (N, D), those of the two networks' default layers, averaged over places and concatenated;
    streams (N, 2, K), the logits of RGB and of flow, with `fusion: logits`; logits (N, K).

    Args:
        network: the two networks: C3D, I3D, InceptionV1, CNNLSTM or FrameClassifier.
        network_args: their arguments, the same for both, without those of `VideoClassifier`.
        fusion: `logits` or `features`.
        rgb_weights: initial weights of the network of RGB, as `weights` of other networks.
        flow_weights: initial weights of the network of flow; the first filters of weights for RGB are averaged.
        dropout: dropout probability before the classifier of `fusion: features`.
        **kwargs: arguments of `VideoClassifier`; `mean` and `std` have five numbers, of R, G, B, x and y.

    Raises:
        ValueError: an argument is out of range, or is none of the network's.
    """

    feature_layer = "features"

    def __init__(
        self,
        network: NetworkName = "I3D",
        network_args: dict[str, Any] | None = None,
        fusion: Literal["logits", "features"] = "logits",
        rgb_weights: str | None = None,
        flow_weights: str | None = None,
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if network not in _NETWORKS:
            raise ValueError(f"network={network!r}: must be one of {', '.join(_NETWORKS)}")
        if fusion not in ("logits", "features"):
            raise ValueError(f"fusion={fusion!r}: must be logits or features")
        arguments = dict(network_args or {})
        if "encoder_weights" in arguments or "in_channels" in arguments:
            raise ValueError("network_args: in_channels is set here, and weights are rgb_weights and flow_weights")
        if "subtract_mean_flow" in arguments:
            raise ValueError("network_args: subtract_mean_flow is an argument of TwoStream itself")
        try:
            rgb, flow = (
                _NETWORKS[network](num_classes=self.num_classes, in_channels=STREAM_CHANNELS[stream], **arguments)
                for stream in ("rgb", "flow")
            )
        except TypeError as error:
            raise ValueError(f"network_args={arguments}: {network} does not take them ({error})") from None
        if rgb.labels_frames:
            raise ValueError(f"network_args={arguments}: fusion is of clips; leave out readout=every")
        self._stream_weights = {"rgb": rgb_weights, "flow": flow_weights}
        self._fusion = fusion
        self.adopt_normalization(
            (*rgb.hparams["mean"], *flow.hparams["mean"]), (*rgb.hparams["std"], *flow.hparams["std"])
        )
        pair = StreamPair(rgb, flow, with_logits=fusion == "logits")
        self.stages = nn.Sequential()
        if fusion == "logits":
            self.stages.add_module("streams", pair)
            self.stages.add_module("logits", LogitSum())
        else:
            size = sum(_feature_size(one) for one in (rgb, flow))
            self.stages.add_module("features", pair)
            self.stages.add_module("logits", nn.Sequential(nn.Dropout(dropout), nn.Linear(size, self.num_classes)))
            for one in (rgb, flow):  # layers after the features take no part
                names = one.endpoints_available
                for name in names[names.index(one.feature_layer) + 1 :]:
                    one.stages.get_submodule(name).requires_grad_(False)

    @classmethod
    def stream_of(cls, init_args: Mapping[str, Any]) -> Stream:
        """What the clips are of: both streams."""
        return "both"

    @classmethod
    def clip_settings_of(cls, init_args: Mapping[str, Any]) -> dict[str, Any]:
        """Options of the data module for the clips that the two networks were made for."""
        network = _NETWORKS.get(init_args.get("network") or "I3D")
        return {} if network is None else network.clip_settings_of(dict(init_args.get("network_args") or {}))

    @property
    def _pair(self) -> "StreamPair":
        return cast(StreamPair, self.stages[0])

    @property
    def compiled_part(self) -> nn.Module:
        """Both networks in one graph; a recurrent network, which torch does not compile, breaks it."""
        return self._pair

    @property
    def endpoints_available(self) -> tuple[str, ...]:
        """Names of the endpoints, in order."""
        return ("features", "streams", "logits") if self._fusion == "logits" else ("features", "logits")

    def named_features(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yields the name and output of every endpoint; each network is run once."""
        features, logits = self._pair.run(x)
        yield "features", features
        if self._fusion == "features":
            yield "logits", self.stages[-1](features)
        else:
            yield "streams", logits
            yield "logits", self.stages[-1](logits)

    def loss_and_logits(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the two networks' losses where logits are fused, else the loss of their classifier."""
        if self._fusion == "features":
            return super().loss_and_logits(x, targets)
        streams = self._pair(x)
        loss: Tensor = (self.loss(streams[:, 0], targets) + self.loss(streams[:, 1], targets)) / 2
        return loss, self.stages[-1](streams)

    def setup(self, stage: str) -> None:
        """Loads the initial weights of the two networks, unless the run resumes."""
        super().setup(stage)
        if stage == TrainerFn.FITTING and not self.resumes:
            for name, weights in self._stream_weights.items():
                if weights is not None:
                    part: VideoClassifier = getattr(self._pair, name)
                    part.load_initial_weights(weights)
                    self.trained_before = [*self.trained_before, *part.trained_before]


class StreamPair(nn.Module):
    """The two networks: normalized clips (N, 5, T, H, W) to logits (N, 2, K), or to features (N, D).

    Args:
        rgb: the network of the first three channels.
        flow: the network of the other two.
        with_logits: whether the output is logits.
    """

    def __init__(self, rgb: VideoClassifier, flow: VideoClassifier, with_logits: bool) -> None:
        super().__init__()
        self.rgb, self.flow = rgb, flow
        self.with_logits = with_logits

    def forward(self, x: Tensor) -> Tensor:
        """Runs both networks as far as they are needed."""
        if self.with_logits:
            return torch.stack([self.rgb.clip_logits(x[:, :_RGB]), self.flow.clip_logits(x[:, _RGB:])], dim=1)
        features, _ = self.run(x)
        return features

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, D) and, if `with_logits`, logits (N, 2, K) of both networks; else no logits."""
        features, logits = [], []
        for network, part in ((self.rgb, x[:, :_RGB]), (self.flow, x[:, _RGB:])):
            for name, output in network.named_features(part):
                if name == network.feature_layer:
                    features.append(output.flatten(2).mean(2) if output.ndim > 2 else output)
                    if not self.with_logits:
                        break
            logits.append(output)
        return torch.cat(features, dim=1), torch.stack(logits, dim=1) if self.with_logits else x.new_empty(0)


class LogitSum(nn.Module):
    """Logits of streams, (N, S, K), to their sum, (N, K)."""

    def forward(self, x: Tensor) -> Tensor:
        """Adds up the streams."""
        return x.sum(dim=1)


def _feature_size(network: VideoClassifier) -> int:
    """Size of a network's default features: that of its classifier's input."""
    layers = [layer for layer in network.stages[-1].modules() if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Conv3d))]
    return int(layers[-1].weight.shape[1])

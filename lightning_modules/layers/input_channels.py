"""Input channels of networks: RGB, optical flow, or both; their normalization, and RGB weights adapted to flow.

Wang, Xiong, Wang, Qiao, Lin, Tang, Van Gool: "Temporal Segment Networks", ECCV 2016, section 3.2, cross modality
pre-training: the first filters of a network for RGB are averaged over the channels, and the average is repeated for
every channel of flow.
"""

from collections.abc import Mapping

from torch import Tensor

from datamodules.batch import FLOW_MEAN, FLOW_STD, STREAM_CHANNELS, ClipBatch, Stream

_RGB, _FLOW = STREAM_CHANNELS["rgb"], STREAM_CHANNELS["flow"]


def stream_of_channels(in_channels: int) -> Stream:
    """The stream that a network of this many input channels takes: `rgb` or `flow`.

    Raises:
        ValueError: neither 3 nor 2.
    """
    if in_channels not in (_RGB, _FLOW):
        raise ValueError(f"in_channels={in_channels}: must be 3, for RGB, or 2, for optical flow")
    return "rgb" if in_channels == _RGB else "flow"


def channel_normalization(
    in_channels: int,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.5, 0.5, 0.5),
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the input: of RGB those given, of flow those that scale 20 pixels to 1.

    Raises:
        ValueError: `in_channels` is neither 3 nor 2.
    """
    if stream_of_channels(in_channels) == "flow":
        return (FLOW_MEAN,) * _FLOW, (FLOW_STD,) * _FLOW
    return mean, std


def refuse_other_channels(batch: ClipBatch, num_channels: int) -> None:
    """Refuses clips of another stream than the network takes.

    Raises:
        ValueError: the clips have another number of channels.
    """
    found = batch.clips.shape[-1]
    if found != num_channels and num_channels > 1:  # one number for all channels serves any
        streams = {channels: stream for stream, channels in STREAM_CHANNELS.items()}
        raise ValueError(
            f"the clips have {found} channels (stream {streams.get(found, 'unknown')}), and the network takes "
            f"{num_channels} (stream {streams.get(num_channels, 'unknown')}): set data.init_args.stream, or the "
            "network's in_channels, so that they agree"
        )


def average_input_filters(state: Mapping[str, Tensor], in_channels: int) -> dict[str, Tensor]:
    """The state dict of a network for RGB as one for `in_channels` channels: first filters averaged over R, G and B.

    Args:
        state: the state dict; filters over three channels, (D, 3, [T,] H, W), are those of the first convolution.
        in_channels: number of channels of the other network.
    """
    adapted = dict(state)
    for key, value in state.items():
        if value.ndim >= 4 and value.shape[1] == _RGB:
            adapted[key] = value.mean(1, keepdim=True).repeat(1, in_channels, *[1] * (value.ndim - 2))
    return adapted

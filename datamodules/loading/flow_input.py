"""Input of clips of RGB, optical flow or both: of a packed dataset its stored flow, of plain files computed flow."""

from typing import cast, get_args

import numpy as np

from datamodules.batch import Stream
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.optical_flow.flow_estimation import FlowMethod, flow_library
from datamodules.optical_flow.frame_source import ComputedFlow, FrameSource, PackedFlow


def open_frames(index: DatasetIndex, row: int, stream: Stream) -> FrameSource:
    """What the frames of a video are decoded from: its bytes, or with them or in their place those of its flow.

    The flow of plain files is computed as their manifest says under `encode`: `flow`, the method, and `short_side`.

    Raises:
        ShardFormatError: the shard is missing, or shorter than the index says.
    """
    if stream == "rgb":
        return index.read_video(row)
    entry = index.entry(row)
    if index.has_shards:
        needs_video = stream == "both" or entry.variable_rate
        return PackedFlow(stream, index.read_flow(row), index.read_video(row) if needs_video else None)
    encode = index.manifest.encode
    method, short_side = flow_method_of(encode.get("flow")), encode.get("short_side")
    return ComputedFlow(stream, index.read_video(row), entry.num_frames, method, short_side)


def flow_method_of(recorded: str | None) -> FlowMethod:
    """The method that a dataset or checkpoint records; `dis` where none is."""
    return cast(FlowMethod, recorded) if recorded in get_args(FlowMethod) else "dis"


def refuse_without_flow(index: DatasetIndex, stream: Stream) -> None:
    """Refuses clips of optical flow where there is none.

    Raises:
        FlowUnavailableError: flow has to be computed, and its library does not import.
        ValueError: the dataset has no flow, or some of its videos have none.
    """
    if stream == "rgb":
        return
    if not index.has_shards:
        flow_library(flow_method_of(index.manifest.encode.get("flow")))
        return
    rows = np.arange(len(index))
    count = int((np.asarray(index.column("flow_size", rows)) == 0).sum()) if index.has_flow else len(index)
    if count:
        which = "has no optical flow" if count == len(index) else f"has no optical flow of {count} videos"
        raise ValueError(f"stream={stream!r}: {index.root} {which}; pack it into another folder with --flow")

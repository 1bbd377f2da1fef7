"""Sides of `benchmarks.loading.loader` that need nothing of this project, run by an interpreter with their packages.

    python benchmarks/loading/loader_peers.py '{"side": "decord", "videos": [...], "tar": ..., "frames": 16, ...}'

Says `ready` (or why not), then reads a number of clips from each line of standard input, loads batches until it has at
least so many, and answers with a line: clips, seconds of the clock, seconds of the processor.
"""

import io
import itertools
import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any


def bare_decoding(job: dict[str, Any]) -> Iterator[int]:
    """The limit: FFmpeg decodes from the key frame before a random window to its end; nothing is done with the frames.

    The files are open and their packets in memory before the clock starts.
    """
    import av

    videos = []
    for path in job["videos"]:
        container = av.open(path)
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        packets = [packet for packet in container.demux(stream) if packet.size]
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        videos.append((container, stream.codec_context, packets, keys))
    for _, decoder, packets, keys in _endless(videos):
        start = random.randint(0, max(0, len(packets) - job["frames"]))
        end = min(len(packets), start + job["frames"])
        decoder.flush_buffers()
        for packet in packets[max(key for key in keys if key <= start) : end]:
            decoder.decode(packet)
        decoder.decode(None)
        yield 1


def mmaction2(job: dict[str, Any]) -> Iterator[int]:
    """mmaction2's training pipeline of its I3D and C3D configurations (they differ from ours in nothing else)."""
    import mmaction.datasets  # noqa: F401 (registers the transforms)
    from mmcv.transforms import Compose
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import init_default_scope

    init_default_scope("mmaction")
    if job["size"] == 224:
        crop = [
            {"type": "MultiScaleCrop", "input_size": 224, "scales": (1, 0.8), "random_crop": False,
             "max_wh_scale_gap": 0},
            {"type": "Resize", "scale": (224, 224), "keep_ratio": False},
        ]  # fmt: skip
    else:
        crop = [{"type": "RandomCrop", "size": job["size"]}]
    pipeline = Compose(
        [
            {"type": "DecordInit", "io_backend": "disk"},
            {"type": "SampleFrames", "clip_len": job["frames"], "frame_interval": 1, "num_clips": 1},
            {"type": "DecordDecode"},
            {"type": "Resize", "scale": (-1, job["short_side"])},
            *crop,
            {"type": "Flip", "flip_ratio": 0.5},
            {"type": "FormatShape", "input_format": "NCTHW"},
            {"type": "PackActionInputs"},
        ]
    )
    for paths in _batches(job):
        items = [{"filename": path, "label": 0, "start_index": 0, "modality": "RGB"} for path in paths]
        yield len(pseudo_collate([pipeline(item) for item in items])["inputs"])


def decord_clip(data: bytes, job: dict[str, Any]) -> Any:
    """A random window, cropped and mirrored: uint8 (T, S, S, 3)."""
    import decord
    import torch

    reader = decord.VideoReader(io.BytesIO(data), ctx=decord.cpu(0), num_threads=1)
    start = random.randint(0, max(0, len(reader) - job["frames"]))
    indices = [min(number, len(reader) - 1) for number in range(start, start + job["frames"])]
    return _crop(torch.from_numpy(reader.get_batch(indices).asnumpy()), job)


def webdataset(job: dict[str, Any]) -> Iterator[int]:
    """Webdataset as its documentation shows: a tar, shuffled, decoded by a function of the user's (decord), batched."""
    import torch
    import webdataset as wds

    def clip(data: bytes) -> Any:
        return decord_clip(data, job)

    dataset = (
        wds.WebDataset(job["tar"], shardshuffle=False)
        .shuffle(100)
        .to_tuple("mp4", "json")
        .map_tuple(clip, lambda label: label)
    )
    while True:
        for batch in dataset.batched(job["batch"], collation_fn=lambda rows: torch.stack([row[0] for row in rows])):
            yield len(batch)


def torchcodec(job: dict[str, Any]) -> Iterator[int]:
    """Torchcodec's own sampler of random clips, on the bytes of a file, with the faster of its two ways to seek."""
    import torch
    from torchcodec.decoders import VideoDecoder
    from torchcodec.samplers import clips_at_random_indices

    contents = {path: open(path, "rb").read() for path in job["videos"]}  # noqa: SIM115, PTH123
    for paths in _batches(job):
        clips = []
        for path in paths:
            decoder = VideoDecoder(
                contents[path], dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate"
            )
            taken = clips_at_random_indices(decoder, num_clips=1, num_frames_per_clip=job["frames"])
            clips.append(_crop(taken.data[0], job))
        yield len(torch.stack(clips))


def _crop(clip: Any, job: dict[str, Any]) -> Any:
    """A random square of a clip (T, H, W, C) that has the right short side already, mirrored or not."""
    height, width = clip.shape[1:3]
    top, left = random.randint(0, height - job["size"]), random.randint(0, width - job["size"])
    clip = clip[:, top : top + job["size"], left : left + job["size"]]
    return clip.flip(2) if random.random() < 0.5 else clip


def _endless(items: list[Any]) -> Iterator[Any]:
    while True:
        random.shuffle(items)
        yield from items


def _batches(job: dict[str, Any]) -> Iterator[list[str]]:
    paths = _endless(list(job["videos"]))
    while True:
        yield list(itertools.islice(paths, job["batch"]))


SIDES = {"bare": bare_decoding, "mmaction2": mmaction2, "webdataset": webdataset, "torchcodec": torchcodec}


def answer(batches: Iterator[int]) -> None:
    """Loads what standard input asks for, until it ends."""
    next(batches)  # imports, first use
    print("ready", flush=True)
    for line in sys.stdin:
        wanted, clips = int(line), 0
        began, used = time.perf_counter(), time.process_time()
        while clips < wanted:
            clips += next(batches)
        print(json.dumps([clips, time.perf_counter() - began, time.process_time() - used]), flush=True)


def main() -> None:
    """Runs one side; what keeps it from running is said in one line."""
    job = json.loads(sys.argv[1])
    random.seed(0)
    try:
        if job["side"] != "bare":
            import torch

            torch.set_num_threads(1)
        batches = SIDES[job["side"]](job)
        answer(batches)
    except Exception as error:
        print(f"not measured: {type(error).__name__}: {str(error).strip().splitlines()[0]}", flush=True)
        raise


if __name__ == "__main__":
    main()

"""`python -m pipeline pack`: labelled videos to shards, index and manifest; refused ones to a quarantine list."""

import time
from collections.abc import Sequence
from concurrent.futures import as_completed
from functools import partial
from pathlib import Path

from datamodules.annotations.readers import AnnotationFormat
from pipeline.packing.output_folder import PackError
from pipeline.packing.pack_run import SHARD_BYTES, finish, prepare
from pipeline.packing.pack_summary import print_summary, show_progress
from pipeline.packing.shard_builder import PartResult, run_part
from pipeline.packing.shard_plan import PackSettings, ShardPart
from pipeline.processes.killable_pool import KillablePool
from pipeline.processes.killable_process import ProcessUnavailable


def pack(
    out: Path,
    annotations: list[Path] | None = None,
    videos: Path | None = None,
    format: AnnotationFormat = "auto",
    split: str | None = None,
    name: str | None = None,
    classes: Path | None = None,
    short_side: int | list[int] = 256,
    fps: float | None = None,
    crf: int = 23,
    key_frame_interval: int = 16,
    fast_decode: bool = True,
    square_pixels: bool = False,
    copy: bool = False,
    min_frames: int = 1,
    videos_per_shard: int = 128,
    shard_bytes: int = SHARD_BYTES,
    seed: int = 0,
    processes: int | None = None,
    timeout: float = 300.0,
    retry_quarantined: bool = False,
    strict: bool = False,
) -> None:
    """Turn labelled videos into WebDataset shards with an index, for training.

    Every frame of every video is decoded; a video that cannot be is left out and listed with the reason in
    out/quarantine.csv. The rest is encoded for training: smaller, with a key frame every 16 frames, quick to
    decode, without sound. The same input and options give the same bytes whatever the number of processes. Run again
    after an interruption, it goes on where it was.

    Args:
        out: folder to make: shards, index.parquet, dataset.json, quarantine.csv.
        annotations: file or files of the list, or the folder of the official lists of UCF101 or HMDB51; leave it out
            for folders named after classes.
        videos: folder of the videos; default: the folder of the first list.
        format: of the lists: kinetics (label, youtube_id, time_start, time_end, split), ucf101 (classInd, trainlist and
            testlist), hmdb51 ({class}_test_split{1,2,3}.txt), mmaction (lines of path and number of the class), csv
            (CSV or Parquet: path, label, group, and fold or split), folders (split/class/video), or auto: by the
            columns or names.
        split: split of all videos, in place of what the lists say.
        name: of the dataset, beginning of the shards' names; default: the name of the folder `out`.
        classes: text file of class names, one a line, in the order of the labels; default: as the official list numbers
            them, or by value where all are numbers, or alphabetical. For mmaction this is the label map; without one,
            the folders are the classes.
        short_side: pixels of the shorter side; smaller videos keep their size. Several make as many renditions from one
            decoding: the largest in `out`, every other one, say of 128, a dataset of the same videos in out/short128.
        fps: frames per second: each frame is the one that the source shows in the middle of its time, which leaves
            frames out or repeats them. Default: each video's own, and every frame; those of a variable rate at their
            own times.
        crf: x264's constant rate factor, 0 (lossless) to 51: 6 less double the bytes.
        key_frame_interval: frames from one key frame to the next. A random clip decodes half as many before its start;
            8 make the videos a fifth larger than 16, 4 half as large again.
        fast_decode: leave out what takes H.264 the longest to decode (CABAC, deblocking): clips load up to twice as
            fast, the videos are an eighth larger.
        square_pixels: scale videos whose pixels are not square, so that they are; default: pixels are kept as stored,
            with their shape in the file and, as pixel_aspect, in the index.
        copy: store the original bytes, once every frame was decoded, instead of encoding them.
        min_frames: videos with fewer frames are refused.
        videos_per_shard: at most so many videos in a shard.
        shard_bytes: at most about so many bytes in a shard, as guessed from the sizes of the files before any is opened
            (see pipeline/packing/size_estimates.py). webdataset's own examples have shards of about 1 GB.
        seed: of the order of the videos in the shards.
        processes: that decode and encode; default: one for each processor.
        timeout: seconds without a frame read or decoded after which a video is refused as hanging; a long one
            may take as long as it likes.
        retry_quarantined: try the videos that an earlier run refused again.
        strict: make no dataset of videos that the split guard reports: a group, the same bytes, or nearly the same
            content on both sides of a split. They are warned of and listed in out/split_guard.csv in any case.

    Raises:
        AnnotationError: the lists are missing or malformed.
        PackError: `out` holds something else, is in use, or has no room left; a label is unknown; every video was
            refused; `strict`, and something is on both sides of a split.
    """
    began = time.monotonic()
    if processes is not None and processes < 1:
        raise PackError(f"processes={processes}: must be at least 1")
    with prepare(
        out,
        annotations,
        videos,
        format,
        split,
        name,
        classes,
        short_side,
        fps,
        crf,
        key_frame_interval,
        fast_decode,
        square_pixels,
        copy,
        min_frames,
        videos_per_shard,
        shard_bytes,
        seed,
        timeout,
        retry_quarantined,
        strict,
    ) as run:
        results = _run_parts(run.parts, run.settings, processes)
        manifest = finish(run, results)
    print_summary(manifest, results, out, time.monotonic() - began, run.refused)


def _run_parts(parts: Sequence[ShardPart], settings: PackSettings, processes: int | None) -> list[PartResult]:
    """All parts, each in the thread of one long-lived decoding process; in the order of the parts."""
    with (
        show_progress(sum(len(part.records) for part in parts)) as meter,
        KillablePool(processes, settings.timeout) as pool,
    ):
        futures = [pool.submit(partial(run_part, part, settings, meter.add)) for part in parts]
        try:
            for future in as_completed(futures):
                future.result()
        except ProcessUnavailable as error:
            raise PackError(f"decoding processes do not run: {error}") from None
        return [future.result() for future in futures]

"""Options of `pack`, documented here for the command line, the runs on a cluster and callers in Python."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from datamodules.annotations.list_format import ListOptions
from datamodules.encoding.transcoding import EncodeProfile
from datamodules.list_formats.formats import AnnotationFormat, describe_formats
from datamodules.optical_flow.flow_estimation import FlowMethod
from datamodules.options import Options
from datamodules.splits.division_options import DivisionOptions
from pipeline.cli.arguments import call_from_command_line
from pipeline.packing.output_folder import PackError


@dataclass(frozen=True, kw_only=True)
class EncodingOptions(Options):
    """How videos are encoded.

    Attributes:
        short_side: pixels of the shorter side; smaller videos keep their size. Several sizes give as many renditions
            from one decoding: the largest in `out`, each smaller one, such as 128, a dataset in out/short128.
        fps: frames per second: each frame is the one that the source shows in the middle of its time, which leaves
            frames out or repeats them. Default: every frame at the video's own rate, and with a variable rate at its
            own presentation timestamp.
        crf: x264's constant rate factor, 0 (lossless) to 51: lowering it by 6 doubles the bytes.
        key_frame_interval: frames from one key frame to the next. A random clip decodes half as many before its start;
            an interval of 8 makes videos a fifth larger than 16, an interval of 4 half as large again.
        fast_decode: encode without CABAC and deblocking, which take H.264 the longest to decode: clips load up to twice
            as fast, the videos are an eighth larger.
        square_pixels: scale videos with non-square pixels to square ones; default: pixels are kept as stored, with
            their shape in the file and, as pixel_aspect, in the index.
        copy: store the original bytes, after every frame was decoded, instead of encoding.
        flow: store the optical flow of consecutive frames too, for `data.init_args.stream: flow` or `both`.
        flow_method: how it is estimated: `dis`, with OpenCV; `tvl1` as for I3D, with OpenCV's contributed modules,
            a hundred times slower; or `raft`, where torchvision imports, on a GPU if there is one.
    """

    short_side: int | list[int] = 256
    fps: float | None = None
    crf: int = 23
    key_frame_interval: int = 16
    fast_decode: bool = True
    square_pixels: bool = False
    copy: bool = False
    flow: bool = False
    flow_method: FlowMethod = "dis"

    def profiles(self) -> list[EncodeProfile]:
        """One encoding profile for each rendition, from larger to smaller; none with `copy`.

        Raises:
            PackError: there is no size, a size is given twice, or an option of encoding is given beside `copy`.
            ValueError: an option out of range.
        """
        short_sides = [self.short_side] if isinstance(self.short_side, int) else list(self.short_side)
        shown = " ".join(map(str, short_sides))
        if not short_sides:
            raise PackError("short_side is empty: give the pixels of the shorter side")
        if len(set(short_sides)) < len(short_sides):
            raise PackError(f"short_side={shown}: give each size once")
        encode = EncodeProfile(
            fps=self.fps,
            crf=self.crf,
            key_frame_interval=self.key_frame_interval,
            fast_decode=self.fast_decode,
            square_pixels=self.square_pixels,
        )
        profiles = [replace(encode, short_side=side) for side in sorted(short_sides, reverse=True)]
        if not self.copy:
            return profiles
        if self.flow:
            raise PackError("flow: is computed for the videos that pack encodes, and --copy stores them as they are")
        requested = {**profiles[0].as_dict(), "short_side": shown}
        defaults = {**EncodeProfile().as_dict(), "short_side": str(EncodeProfile.short_side)}
        for setting in requested:
            if requested[setting] != defaults[setting]:
                raise PackError(
                    f"{setting}={requested[setting]}: --copy stores videos as they are; leave one of the two out"
                )
        return []


@dataclass(frozen=True, kw_only=True)
class ShardOptions(Options):
    """Size of the shards.

    Attributes:
        videos_per_shard: maximum number of videos in a shard.
        shard_bytes: maximum number of bytes in a shard, estimated from the file sizes before any video is opened
            (see pipeline/packing/size_estimates.py). webdataset's own examples have shards of about 1 GB.
        seed: seed of the order of the videos in the shards, and of a division into splits.
    """

    videos_per_shard: int = 128
    shard_bytes: int = 2**30
    seed: int = 0

    def check(self) -> None:
        """Refuses shards without a video."""
        for name, value in (("videos_per_shard", self.videos_per_shard), ("shard_bytes", self.shard_bytes)):
            if value < 1:
                raise PackError(f"{name}={value}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class RefusalOptions(Options):
    """Videos that are refused.

    Attributes:
        min_frames: videos that would be stored with fewer frames are refused.
        timeout: seconds without a frame read or decoded after which a video is refused as hanging; the total time of a
            video is not limited.
        retry_quarantined: try the videos that an earlier run refused again.
    """

    min_frames: int = 1
    timeout: float = 300.0
    retry_quarantined: bool = False

    def check(self) -> None:
        """Refuses a time limit in which nothing can be read."""
        if not self.timeout > 0:
            raise PackError(f"timeout={self.timeout}: must be above 0 seconds")


@dataclass(frozen=True)
class PackOptions(  # the last base's fields come first
    RefusalOptions, ShardOptions, EncodingOptions, DivisionOptions, ListOptions
):
    """Options of `pack`.

    Attributes:
        out: folder of the dataset: shards, index.parquet, dataset.json, quarantine.csv.
        annotations: file or files of the list, or the folder of the official lists of UCF101 or HMDB51; leave it out
            for folders named after classes.
        videos: folder of the videos; default: the folder of the first list.
        format: format of the lists; auto: detected from their columns, names of files, or keys. With --help, three
            lines of a list in this format are shown.
        name: name of the dataset and prefix of its shards' names; default: the name of the folder `out`.
        classes: text file of class names, one a line, in the order of the labels; default: the order of the official
            list, or by value where all are numbers, or alphabetical. For mmaction this is the label map; without one,
            the folders are the classes.
        timelines: store whole files with the segments of the list as labels by time, for networks that label every
            frame, instead of a video a segment; where segments of different classes overlap, frames have several
            labels.
        background: with `timelines`, the class of frames in no segment, where a frame has one class; null: they have no
            label, and do not count.
        strict: make no dataset if the split guard finds a group, the same bytes, or nearly the same content on both
            sides of a split; in any case findings are warned of and listed in out/split_guard.csv.
        processes: number of processes of this machine that decode and encode; default: one for each processor.
    """

    out: Path
    annotations: list[Path] | None = None
    videos: Path | None = None
    format: AnnotationFormat = "auto"
    name: str | None = None
    classes: Path | None = None
    timelines: bool = False
    background: str | None = "background"
    strict: bool = False
    processes: int | None = None

    def check(self) -> None:
        """Refuses a run without a process."""
        if self.processes is not None and self.processes < 1:
            raise PackError(f"processes={self.processes}: must be at least 1")
        if self.background == "":
            raise PackError("background='': give a class name, or null for frames without a label")
        if not self.timelines and self.background != PackOptions.background:
            raise PackError(f"background={self.background}: is for --timelines; add it, or leave this out")

    @classmethod
    def help_appendix(cls, arguments: Sequence[str]) -> str:
        """Three lines of a list in the format that the arguments name, else the formats."""
        names = [word.removeprefix("--format=") for word in arguments if word.startswith("--format=")]
        names += [after for word, after in pairwise(arguments) if word == "--format"]
        return describe_formats(names[-1] if names else "auto")


def parse_pack_options(arguments: Sequence[str]) -> PackOptions:
    """Parses the arguments after the verb into options, with defaults for options that are not given.

    Raises:
        ArgumentError: An option is missing, or of the wrong type.
        ValueError: An option is unknown, or out of range.
    """
    options: PackOptions = call_from_command_line(PackOptions, arguments, "python -m pipeline pack")
    return options

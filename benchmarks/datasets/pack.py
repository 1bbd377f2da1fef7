"""How many videos/s does packing encode on a core, beside the ffmpeg command line doing the same encode?

Three sides take turns over the same videos: `ffmpeg`, one thread, with the same x264 settings and size; `transcode`,
which is what `pack` does to a video, and which also counts and checks its frames and packets and hashes eight frames a
second; and the whole verb, one process, with its child process, shards, index and split guard. Then the verb with 1 and
2 processes.

    python benchmarks/datasets/pack.py --rounds 5
"""

import argparse
import contextlib
import io
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import av

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading, sample_folder
from benchmarks.turns import Spent, count, ratio, take_turns
from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset
from datamodules.encoding.transcoding import EncodeProfile, target_size, transcode
from datamodules.video.probing import probe
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions

FFMPEG, TRANSCODE, VERB = "ffmpeg", "transcode", "pack, 1 process"


def ffmpeg_command(video: Path, out: Path, profile: EncodeProfile) -> list[str]:
    """The same encode on the command line, one thread everywhere."""
    info, interval = probe(str(video)), profile.key_frame_interval
    width, height = target_size(info.width, info.height, profile.short_side)
    x264 = f"keyint={interval}:min-keyint={interval}:scenecut=0:bframes=0:open-gop=0:cpu-independent=1:threads=1"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-threads", "1", "-i", str(video), "-an", "-filter_threads"]
    command += ["1", "-vf", f"scale={width}:{height}:flags=area,format=yuv420p", "-c:v", "libx264", "-threads", "1"]
    command += ["-tune", "fastdecode"] if profile.fast_decode else []
    return [*command, "-preset", profile.preset, "-crf", str(profile.crf), "-x264-params", x264, str(out)]


def ways_to_encode(videos: list[Path], folder: Path, profile: EncodeProfile) -> dict[str, Callable[[], object]]:
    """The sides, each over all videos."""
    commands = [ffmpeg_command(video, folder / f"{number}.mp4", profile) for number, video in enumerate(videos)]

    def by_ffmpeg() -> None:
        for command in commands:
            subprocess.run(command, check=True)

    def by_transcode() -> None:
        for number, video in enumerate(videos):
            (folder / f"{number}-ours.mp4").write_bytes(transcode(str(video), profile).data)

    ways: dict[str, Callable[[], object]] = {TRANSCODE: by_transcode, VERB: packer(videos, folder, profile, 1)}
    return {FFMPEG: by_ffmpeg} | ways if shutil.which("ffmpeg") else ways


def packer(videos: list[Path], folder: Path, profile: EncodeProfile, processes: int) -> Callable[[], object]:
    """The whole verb, from folders of classes; twice as many shards as processes that may be busy."""

    def run() -> None:
        out = folder / "packed"
        shutil.rmtree(out, ignore_errors=True)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            pack(
                PackOptions(
                    out,
                    videos=folder / "videos",
                    split="train",
                    short_side=profile.short_side,
                    videos_per_shard=max(1, len(videos) // 4),
                    processes=processes,
                )
            )

    return run


def check(folder: Path, count: int) -> None:
    """Ends where the two encodes are not of the same length, size and number of frames; says how large they are."""
    sizes = []
    for number in range(count):
        theirs, ours = (probe(str(folder / f"{number}{suffix}.mp4")) for suffix in ("", "-ours"))
        if (theirs.width, theirs.height) != (ours.width, ours.height) or theirs.num_frames != ours.num_frames:
            raise SystemExit(f"video {number} differs: ffmpeg {theirs}, ours {ours}")
        sizes.append([(folder / f"{number}{suffix}.mp4").stat().st_size for suffix in ("", "-ours")])
    theirs_bytes, ours_bytes = (sum(column) for column in zip(*sizes, strict=True))
    if abs(theirs_bytes - ours_bytes) > 0.02 * theirs_bytes:
        raise SystemExit(f"not the same encode: ffmpeg wrote {theirs_bytes} bytes, transcode {ours_bytes}")
    print(f"ffmpeg wrote {theirs_bytes / 1e6:.2f} MB, transcode {ours_bytes / 1e6:.2f} MB")


def print_table(spent: dict[str, list[Spent]], against: str, videos: int) -> None:
    """A row a side: videos a second, and times as many as `against`."""
    print("| side | videos/processor second | ratio | videos/s by the clock | ratio |\n" + "| --- " * 5 + "|")
    for side, rounds in spent.items():
        cells = [side]
        for what in ("processor", "wall"):
            rate = videos / statistics.median(getattr(one, what) for one in rounds)
            cells += [f"{rate:.2f}", "" if side == against else ratio(spent[against], rounds, what)]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sample = sample_folder() / "videos"
    parser.add_argument("--videos", type=Path, default=sample, help="folders of classes; made where not there")
    parser.add_argument("--limit", type=positive, help="take no more videos than that, the smallest files first")
    parser.add_argument("--short-side", type=positive, default=256)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--processes", type=positive, nargs="*", default=[1, 2])
    options = parser.parse_args()
    print_heading("av")
    try:
        profile = EncodeProfile(short_side=options.short_side)
    except ValueError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.videos.is_dir():
            print(f"{options.videos} is not there: made videos instead")
            synthetic = SyntheticDatasetOptions(train=2, val=0, test=0, num_frames=250, width=640, height=360)
            make_synthetic_dataset(folder / "made", synthetic)
            options.videos = folder / "made" / "videos"
        videos = sorted(options.videos.rglob("*.mp4"), key=lambda video: video.stat().st_size)[: options.limit]
        for video in videos:
            place = folder / "videos" / "train" / video.parent.name / video.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(video.resolve())
        version = ""
        if shutil.which("ffmpeg"):
            version = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True).stdout.split(" Copy")[0]
        libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
        print(f"libavcodec {libavcodec}; {version or 'no ffmpeg'}; {count(len(videos), 'video')}")
        ways = ways_to_encode(videos, folder, profile)
        spent = take_turns(ways, options.rounds)
        if FFMPEG in ways:
            check(folder, len(videos))
        print_table(spent, FFMPEG if FFMPEG in ways else TRANSCODE, len(videos))
        if len(options.processes) > 1:
            scaling = {count(each, "process"): packer(videos, folder, profile, each) for each in options.processes}
            print_table(take_turns(scaling, options.rounds, warm_up=0), next(iter(scaling)), len(videos))


if __name__ == "__main__":
    main()

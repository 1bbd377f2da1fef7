"""Segments of a long recording: what cutting one takes, by where it lies, and beside decoding from the beginning.

    OMP_NUM_THREADS=1 python benchmarks/datasets/segments.py --minutes 60

Makes a recording of the first video of the sample of Kinetics (`$SHARED_DIR/data/kinetics_sample`, else
`../shared/data/kinetics_sample`; a made video where it is not there), scaled to 640x360 and encoded as on the web:
H.264 with B-frames and a key frame every 10 s. Its first minute is repeated to the length; with `--container mpegts`
the minutes are joined as by `cat`, so that the clock starts again in each, and in `avi` frames have no times. Segments
of 4 s, the same frames in several minutes, take turns, each decoded, scaled to short side 128 and encoded as by `pack`.
Their seek table is there already; what reading it takes is given beside. The last segment is also cut by decoding from
the beginning.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading, sample_folder
from benchmarks.turns import count, load, ratio, spend, spread, take_turns
from datamodules.annotations.segments import Segment
from datamodules.encoding.rendition_encoder import encode_renditions
from datamodules.encoding.segments import transcode_segment
from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset
from datamodules.encoding.transcoding import EncodeProfile, read_pixel_aspect
from datamodules.video.seek_table import read_seek_table
from datamodules.video.video_container import iterate_frames

RATE, KEYS_S, SEGMENT_S = 25, 10, 4
OFFSET_S = 3  # from a minute's first key frame to the segment: the same frames in each minute
PROFILES = (EncodeProfile(short_side=128),)


def first_frames(folder: Path, number: int) -> Iterator[av.VideoFrame]:
    """The frames of a real video, again from its beginning where it ends."""
    sample = sample_folder() / "videos"
    if not sample.is_dir():
        print(f"{sample} is not there: a made video instead")
        options = SyntheticDatasetOptions(seed=1, train=0, val=0, num_frames=150, width=456, height=256)
        make_synthetic_dataset(folder, options)
    video = min((sample if sample.is_dir() else folder / "videos").glob("*/*.mp4"))
    left = number
    while left:
        for frame in islice(iterate_frames(video), left):
            left -= 1
            yield frame


def make_recording(path: Path, container: str, minutes: int, height: int, folder: Path) -> None:
    """One minute encoded, its packets repeated; of transport streams the whole file."""
    minute, width = io.BytesIO(), height * 16 // 9 // 2 * 2
    with av.open(minute, "w", format=container) as output:
        stream = output.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = RATE * KEYS_S, 2
        for number, frame in enumerate(first_frames(folder, 60 * RATE)):
            scaled = frame.reformat(width, height, "yuv420p")
            scaled.pts, scaled.time_base, scaled.pict_type = number, Fraction(1, RATE), 0
            output.mux(stream.encode(scaled))
        output.mux(stream.encode(None))
    if container == "mpegts":
        path.write_bytes(minute.getvalue() * minutes)
        return
    minute.seek(0)
    with av.open(minute) as source, av.open(str(path), "w", format=container) as output:
        packets = [packet for packet in source.demux(video=0) if packet.size]
        stream = output.add_stream_from_template(source.streams.video[0])
        ticks = round(60 / packets[0].time_base)
        for number in range(minutes):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts = packet.pts + number * ticks, packet.dts + number * ticks
                copy.duration, copy.time_base, copy.stream = packet.duration, packet.time_base, stream
                copy.is_keyframe = packet.is_keyframe
                output.mux(copy)


def cut_from_beginning(path: Path, segment: Segment) -> bytes:
    """The same video, with every frame before it decoded."""
    frames = read_seek_table(path).frames
    first, stop = segment.locate(frames)
    decoded = islice(iterate_frames(path), first, stop)
    return encode_renditions(
        decoded, frames.part(first, stop), lambda shown: read_pixel_aspect(str(path), shown), PROFILES
    )[0].data


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=positive, default=60, help="length of the recording")
    parser.add_argument("--container", choices=["mp4", "avi", "mpegts"], default="mp4")
    parser.add_argument("--height", type=positive, default=360, help="of the recording, in pixels; even")
    parser.add_argument("--places", type=positive, default=5, help="segments, evenly spread from first to last")
    parser.add_argument("--rounds", type=positive, default=7)
    options = parser.parse_args()
    print_heading("av", "numpy")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        make_recording(path, options.container, options.minutes, options.height, Path(folder) / "made")
        minutes = [
            round((options.minutes - 1) * number / max(1, options.places - 1)) for number in range(options.places)
        ]
        starts = {f"in minute {minute}": 60.0 * minute + OFFSET_S for minute in dict.fromkeys(minutes)}
        segments = {name: Segment(start, start + SEGMENT_S) for name, start in starts.items()}
        ways = {
            name: lambda segment=segment: transcode_segment(str(path), PROFILES, segment)
            for name, segment in segments.items()
        }
        spent = take_turns(ways, options.rounds)
        names = list(segments)
        print(
            f"\n{count(options.minutes, 'minute')} of {options.container}, {path.stat().st_size / 1e6:.0f} MB, "
            f"segments of {SEGMENT_S} s, {count(options.rounds, 'round')}, {load()}\n"
        )
        print("| segment | processor, s | times the first |\n| --- | --- | --- |")
        for name in names:
            seconds = spread([one.processor for one in spent[name]])
            print(f"| {name} | {seconds} | {ratio(spent[name], spent[names[0]])} |")
        table = spend(lambda: read_seek_table(path))
        whole = spend(lambda: cut_from_beginning(path, segments[names[-1]]))
        again = spend(ways[names[-1]])
        assert cut_from_beginning(path, segments[names[0]]) == ways[names[0]]()[0].data, "the same bytes"
        times = whole.processor / again.processor
        print(f"| {names[-1]}, from the beginning | {whole.processor:.2f} | {times:.1f} times the one above |")
        print(f"| the seek table, once a file | {table.processor:.2f} | |")


if __name__ == "__main__":
    main()

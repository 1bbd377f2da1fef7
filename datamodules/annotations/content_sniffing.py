"""Content sniffing: detects videos by their content, for files without a video suffix.

Folders of videos also have pictures, lists, archives and audio, and videos without a suffix or with an unusual one. The
first bytes identify text, pictures, archives and audio; all other files are opened with FFmpeg's demuxers, which read a
bounded number of bytes, without decoding.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.container

_HEAD_BYTES = 4096
_MAX_READ_BYTES = 2**26  # read from a file at most: the index of an hour of mp4 is some 4 MB, at the file's end
_THREADS = 16  # concurrent reads, for network file systems
_BATCH = 64
_TEXT_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_OTHER_SIGNATURES: tuple[tuple[int, bytes], ...] = (  # offset and bytes of common kinds, which FFmpeg need not open
    (0, b"\xff\xd8\xff"),  # JPEG
    (0, b"BM"),
    (0, b"II*\0"),  # TIFF
    (0, b"MM\0*"),
    (0, b"PK\x03\x04"),  # zip, npz, docx, torch
    (0, b"\x1f\x8b"),  # gzip
    (0, b"7z\xbc\xaf"),
    (0, b"Rar!"),
    (0, b"%PDF"),
    (0, b"\x93NUMPY"),
    (0, b"\x89HDF"),
    (0, b"PAR1"),
    (0, b"SQLite"),
    (0, b"\x7fELF"),
    (0, b"ID3"),  # mp3
    (0, b"fLaC"),
    (8, b"WAVE"),
    (8, b"WEBP"),
    (0, b"\0\x05\x16\x07"),  # AppleDouble: metadata that macOS writes beside a file, with the file's suffix
    (257, b"ustar"),
)
# FFmpeg's demuxers of files with moving pictures; without those of pictures, sound and subtitles, and those that open
# other files or addresses (playlists, session descriptions, concat).
_VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,asf_o,flv,live_flv,kux,mpeg,mpegts,mpegvideo,m4v,h261,h263,h264,"
    "hevc,vvc,evc,obu,av1,ivf,vc1,vc1test,cavsvideo,avs2,avs3,dirac,mxf,mxg,gxf,nsv,nut,nuv,ogg,rm,r3d,roq,rpl,swf,dv,"
    "dhav,wtv,dxa,ea,film_cpk,filmstrip,flic,gif,apng,idcin,ipmovie,ipu,jv,lmlm4,lvf,mlv,moflex,mtv,mv,mvi,pva,psxstr,"
    "pmp,rl2,siff,smjpeg,smk,thp,tmv,ty,vivo,vividas,vmd,wc3movie,wsvqa,xmv,yop,yuv4mpegpipe,bink,bethsoftvid,c93,"
    "cine,dsicin,avs,bfi,bmv,hnm,iv8,gdv,sga,tiertexseq,argo_brp,viv,cdxl"
)
_DEMUXER_OPTIONS = {
    "format_whitelist": _VIDEO_FORMATS,
    "protocol_whitelist": "data",
    "formatprobesize": str(2**16),
    "probesize": str(2**20),
}
_PICTURE_BRANDS = (
    "heic",
    "heix",
    "heim",
    "heis",
    "mif1",
    "avif",
    "miaf",
)  # of ISO/IEC 23008-12, stills in an mp4's form


def are_videos(paths: Sequence[str]) -> list[bool | None]:
    """`is_video` of several files, concurrently; None for files that cannot be read."""
    if not paths:
        return []
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    with ThreadPoolExecutor(min(_THREADS, len(batches))) as pool:
        return [
            result
            for results in pool.map(lambda batch: [_is_video_or_unreadable(path) for path in batch], batches)
            for result in results
        ]


def is_video(path: str) -> bool:
    """Whether a file has moving pictures, by its container; nothing is decoded.

    Pictures are not videos, animated ones (GIF, PNG, AVIF) are; audio with a cover picture is not. Pipes, sockets and
    devices are never opened.

    Raises:
        OSError: the file cannot be read.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116, a str of 300,000
        return False
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if _header_excludes_video(head):
            return False
        file.seek(0)
        try:
            with av.open(
                _BoundedFile(file), mode="r", options=_DEMUXER_OPTIONS, metadata_errors="replace"
            ) as container:
                return _has_moving_pictures(container)
        except Exception:  # PyAV raises its own types, ValueError, UnicodeDecodeError, ...
            return False


def _is_video_or_unreadable(path: str) -> bool | None:
    try:
        return is_video(path)
    except OSError:
        return None


def _header_excludes_video(head: bytes) -> bool:
    """Whether the first bytes alone show that a file is not a video: empty, text, or another kind's signature."""
    if any(head.startswith(signature, offset) for offset, signature in _OTHER_SIGNATURES):
        return True
    if head.startswith(b"\x89PNG"):
        return b"acTL" not in head  # the animation chunk precedes the picture
    return not head.startswith(b"YUV4MPEG2") and head.translate(None, _TEXT_CONTROLS) == head


def _has_moving_pictures(container: av.container.InputContainer) -> bool:
    """Whether one of the streams is a video and not a picture."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        return False
    still = container.metadata.get("major_brand") in _PICTURE_BRANDS or container.format.name in ("gif", "apng")
    return not still or len(list(islice(_packets(container, streams[0]), 2))) == 2


def _packets(container: av.container.InputContainer, stream: Any) -> Iterator[Any]:
    return (packet for packet in container.demux(stream) if packet.size)


class _BoundedFile:
    """A file object that ends after a bounded number of bytes read, whatever the content requests."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._remaining = _MAX_READ_BYTES

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._remaining))
        self._remaining -= len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

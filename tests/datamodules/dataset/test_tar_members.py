"""Which samples are in a tar: those that webdataset itself yields, whatever the members are called."""

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_expander

from datamodules.dataset.foreign_tar import TarLayout, read_foreign_tar
from datamodules.dataset.tar_members import iterate_members, iterate_samples
from datamodules.storage.errors import ShardFormatError

FOLDERS = ["", "a/", "A/", "./", "../", "a.b/", "__m__/", "__m/", "m__/", ".h/", "é/", "\udce9/", "l" * 120 + "/"]
STEMS = ["k", "K", "__k", "__k__", "k__", "__", "-k", "=k", "", "a b", " k ", "t\tt", "n\nn", "[k]", ":k:", "k'\"\\"]
STEMS += ["ключ", "e\u0301", "\u202ek", "\udce9\udcff", "x" * 300]
ENDS = ["", ".", ".mp4", ".MP4", ".json", ".txt", ".cls", ".Cls", ".v1.mp4", ".v1.json", "..mp4", ".mp4__", ".__key__"]
NAMES = st.builds("".join, st.tuples(*map(st.sampled_from, (FOLDERS, STEMS, ENDS)))).filter(bool)
TYPES = st.sampled_from([tarfile.REGTYPE] * 8 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
# Samples as they are meant, and between them whatever may be in a tar.
MEANT = st.builds(
    lambda folder, stem, ends: [(folder + stem + end, tarfile.REGTYPE) for end in ends],
    st.sampled_from(FOLDERS),
    st.sampled_from([stem for stem in STEMS if stem]),
    st.sampled_from([(".cls", ".mp4"), (".mp4",), (".json", ".MP4", ".txt"), (".left.mp4", ".right.mp4")]),
)
MEMBERS = st.lists(MEANT | st.tuples(NAMES, TYPES).map(lambda one: [one]), max_size=8).map(
    lambda groups: [member for group in groups for member in group]
)


def write_members(path: Path, members: Iterable[tuple[str, bytes]], form: int) -> None:
    with tarfile.open(path, "w", format=form) as tar:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "elsewhere" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            content = b'{"label": 1}' if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def webdatasets_samples(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as stream:
        files = tar_file_expander([{"url": "x", "stream": stream}])
        return list(group_by_keys(files, handler=lambda error: True))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=MEMBERS, form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
@example([("__NrybzYzUg_1.mp4", tarfile.REGTYPE), ("__NrybzYzUg_1.cls", tarfile.REGTYPE)], tarfile.PAX_FORMAT)
@example([("__note__", tarfile.REGTYPE), ("__m__/a.mp4", tarfile.REGTYPE), ("__m__.mp4", tarfile.REGTYPE)], 1)
@example([("a.mp4", tarfile.REGTYPE), ("b.mp4", tarfile.REGTYPE), ("a.cls", tarfile.REGTYPE)], 1)
@example([("a.mp4", tarfile.REGTYPE), ("nothing", tarfile.REGTYPE), ("a.cls", tarfile.REGTYPE)], 1)
@example([("a.mp4", tarfile.REGTYPE), ("a.MP4", tarfile.REGTYPE)], 1)
@example([("a.mp4", tarfile.REGTYPE), ("A.cls", tarfile.REGTYPE)], 1)
def test_the_samples_are_those_that_webdataset_yields(
    tmp_path: Path, members: Sequence[tuple[str, bytes]], form: int
) -> None:
    path = tmp_path / "some-train.tar"
    write_members(path, members, form)
    theirs = webdatasets_samples(path)
    passed_over: list[str] = []
    ours = list(iterate_samples(path, passed_over))
    assert [sample.key for sample in ours] == [sample["__key__"] for sample in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.extensions == [name for name in other if name not in ("__key__", "__url__")]
        assert all(one.texts[extension] == other[extension] for extension in one.texts)
    num_files = sum(kind == tarfile.REGTYPE for _, kind in members)
    taken = sum(len(sample.extensions) for sample in ours) + sum(bool(sample.repeated_member) for sample in ours)
    assert taken + len(passed_over) <= num_files
    # none is lost on the way to index.parquet and quarantine.csv, and none is in both
    read = read_foreign_tar(path, TarLayout("cls"))
    keys = [sample.key for sample in read.samples] + [refusal.key for refusal in read.refused]
    assert len(keys) == len(set(keys))
    assert set(keys) == {sample["__key__"] for sample in theirs}


def test_a_prefix_tells_keys_of_different_tars_apart(tmp_path: Path) -> None:
    layout = TarLayout("cls", key_prefix="shard")
    keys = set()
    for number in range(2):
        path = tmp_path / f"a.b-train-{number}.tar"
        write_members(path, [(f"f/0{end}", tarfile.REGTYPE) for end in (".mp4", ".cls")] + [("1.mp4", b"0")], 1)
        read = read_foreign_tar(path, layout)
        assert [sample.key for sample in read.samples] == [sample.group for sample in read.samples]
        keys |= {one.key for one in (*read.samples, *read.refused)}
    assert keys == {f"a.b-train-{number}/{key}" for number in range(2) for key in ("f/0", "1")}
    with pytest.raises(ValueError, match="key_prefix='x'"):
        TarLayout("cls", key_prefix="x")


@pytest.mark.parametrize(
    ("mode", "program"), [("w:gz", "gunzip --keep"), ("w:bz2", "bunzip2 --keep"), ("w:xz", "unxz --keep")]
)
def test_a_compressed_tar_is_called_so(tmp_path: Path, mode: str, program: str) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, mode) as tar:
        tar.addfile(tarfile.TarInfo("a.mp4"))
    with pytest.raises(ShardFormatError, match=f"is compressed with .*{program} a.tar"):
        list(iterate_members(path))


def test_a_file_with_holes_is_left_out(tmp_path: Path) -> None:
    """A sparse member, as GNU tar writes it: 1 KiB of data at the end of 1 MiB."""
    member = tarfile.TarInfo("a.mp4")
    member.type, member.size = tarfile.GNUTYPE_SPARSE, 1024
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386 : 386 + 24] = b"%011o\0%011o\0" % (2**20 - 1024, 1024)  # where its data belongs, how much there is
    header[482:495] = b"\0" + b"%011o\0" % 2**20  # no more such, and the size with holes
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    label = tarfile.TarInfo("a.cls")
    label.size = 1
    tail = label.tobuf(tarfile.GNU_FORMAT) + b"1".ljust(512, b"\0")
    path = tmp_path / "a-train.tar"
    path.write_bytes(bytes(header) + b"v" * 1024 + tail + bytes(10240))
    [theirs] = webdatasets_samples(path)
    assert len(theirs["mp4"]) == 2**20
    read = read_foreign_tar(path, TarLayout("cls"))
    assert [(refusal.key, refusal.reason) for refusal in read.refused] == [("a", "sparse")]

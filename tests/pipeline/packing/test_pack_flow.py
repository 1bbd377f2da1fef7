"""`pack --flow`: stored beside the videos, indexed, the same bytes however it is packed, verified and recovered."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.optical_flow.flow_levels import flow_displacements
from datamodules.optical_flow.flow_video import encode_flow, read_flow
from pipeline.__main__ import main
from pipeline.dataset_tools.index import index
from pipeline.packing.output_folder import PackError
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from tests.moving_textures import MOTIONS, moving_video
from tests.pipeline.gray_videos import digests

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("moving")
    lines = ["path,label,split"]
    for name, motion in MOTIONS.items():
        for number, split in enumerate(("train", "test")):
            (root / f"{name}{number}.mp4").write_bytes(moving_video(motion, 5 + number, seed=number))
            lines.append(f"{name}{number}.mp4,{name},{split}")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


def pack_flow(originals: Path, out: Path, **options: object) -> Path:
    pack(PackOptions(out, [originals / "list.csv"], flow=True, **{"videos_per_shard": 2, "processes": 1} | options))  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="module")
def packed(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight moving textures with their flow, at short sides 64 and 32. Read-only."""
    return pack_flow(originals, tmp_path_factory.mktemp("packed") / "out", short_side=[64, 32])


def test_the_flow_of_every_video_is_that_of_its_stored_frames(packed: Path) -> None:
    for folder, speed in ((packed, 3.0), (packed / "short32", 1.5)):
        found = DatasetIndex.open(folder)
        assert found.has_flow
        for row in range(len(found)):
            entry = found.entry(row)
            data = found.read_flow(row)
            assert hashlib.sha256(data).hexdigest() == entry.flow_sha256
            assert data == encode_flow(found.read_video(row), "dis")
            flow = flow_displacements(read_flow(data, range(entry.num_frames - 1)))
            assert flow.shape[1:3] == (entry.height, entry.width)
            expected = np.float32(MOTIONS[found.classes[entry.label]]) / 3 * speed
            assert np.abs(flow[:, 12:-12, 12:-12].mean((0, 1, 2)) - expected).max() < 0.2
    assert (found.manifest.encode["flow"], list(found.manifest.versions)[-1]) == ("dis", "opencv")


def test_bytes_do_not_depend_on_processes_or_an_interruption(originals: Path, packed: Path, tmp_path: Path) -> None:
    again = pack_flow(originals, tmp_path / "out", short_side=[64, 32], processes=2)
    assert digests(again) == digests(packed)
    shards = sorted(again.glob("*.tar"))
    shards[0].unlink()
    (again / "short32" / shards[1].name).write_bytes(b"damaged")
    pack_flow(originals, again, short_side=[64, 32])
    assert digests(again) == digests(packed)
    assert digests(again / "short32") == digests(packed / "short32")


def test_another_tool_reads_the_same_tars(packed: Path) -> None:
    samples = list(webdataset.WebDataset(sorted(map(str, packed.glob("*.tar"))), shardshuffle=False))
    assert len(samples) == 8
    assert {"flow.mp4", "mp4", "json"} <= samples[0].keys()


def test_the_index_is_made_of_the_tars_alone(packed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "out"
    copy.mkdir()
    for shard in packed.glob("*.tar"):
        shutil.copy(shard, copy)
    index([str(copy)])
    original, found = (pq.read_table(folder / "index.parquet") for folder in (packed, copy))
    assert found.equals(original)
    index([str(copy)], out=tmp_path / "foreign", label_from="json:label", split="train")
    foreign = DatasetIndex.open(tmp_path / "foreign")
    assert (len(foreign), foreign.has_flow) == (8, False)


@pytest.fixture
def look(packed: Path, tmp_path: Path, capsys: Capture) -> Callable[[Callable[[DatasetIndex, Path], None]], str]:
    """What verify --full says of a copy that was spoiled."""

    def run(spoil: Callable[[DatasetIndex, Path], None]) -> str:
        data = shutil.copytree(packed, tmp_path / "data")
        spoil(DatasetIndex.open(data), data)
        main(["verify", "--data", str(data), "--full", "--processes", "1"])
        return "".join(capsys.readouterr())

    return run


def test_verify_passes_whole_flow(look: Callable[[Callable[[DatasetIndex, Path], None]], str]) -> None:
    assert "all is well with 8 shards and 8 videos" in look(lambda found, data: None)


def test_verify_finds_damaged_flow(look: Callable[[Callable[[DatasetIndex, Path], None]], str]) -> None:
    def flip(found: DatasetIndex, data: Path) -> None:
        entry = found.entry(3)
        path = data / entry.shard
        content = bytearray(path.read_bytes())
        content[entry.flow_offset + entry.flow_size // 2] ^= 0xFF
        path.write_bytes(content)

    text = look(flip)
    assert "optical flow" in text
    assert "2 things are wrong" in text  # and the shard's checksum


def test_verify_finds_flow_at_a_wrong_place(look: Callable[[Callable[[DatasetIndex, Path], None]], str]) -> None:
    def move(found: DatasetIndex, data: Path) -> None:
        table = pq.read_table(data / "index.parquet")
        column = table.schema.get_field_index("flow_offset")
        offsets = table.column("flow_offset").to_numpy().copy()
        offsets[0] += 512
        moved = table.set_column(column, "flow_offset", [offsets])
        pq.write_table(moved, data / "index.parquet")

    text = look(move)
    assert "no file begins at byte" in text or "have flow outside of their shard" in text
    assert "index --shards" in text


def test_flow_of_copies_is_refused(originals: Path, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="flow: is computed for the videos that pack encodes"):
        pack_flow(originals, tmp_path / "out", copy=True)


def test_flow_packed_otherwise_is_refused(originals: Path, packed: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(packed, tmp_path / "out")
    with pytest.raises(PackError, match="flow 'dis' there, 'tvl1' now"):
        pack_flow(originals, copy, short_side=[64, 32], flow_method="tvl1")

"""Which rendition of a dataset is read: by name, by what frames are resized to, from folders and URLs."""

from pathlib import Path

import pytest

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.manifest import Manifest, Rendition
from datamodules.dataset.renditions import choose_rendition, open_rendition
from datamodules.storage.errors import ShardFormatError
from pipeline.dataset_tools.synthesize import SynthesizeOptions, synthesize
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from tests.datamodules.storage.flaky_server import serving


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Motion videos at short sides 48, 32 and 24. Read-only."""
    folder = tmp_path_factory.mktemp("sizes")
    synthesize(SynthesizeOptions(folder / "videos", 1, train=2, val=1, test=1, num_frames=16, width=64, height=48))
    lists = [folder / "videos" / f"{split}.csv" for split in ("train", "val", "test")]
    pack(PackOptions(folder / "shards", lists, folder / "videos", short_side=[48, 32, 24], processes=1))
    return folder / "shards"


def manifest(*sides: int, **encode: object) -> Manifest:
    renditions = [Rendition(side, f"short{side}" if i else ".") for i, side in enumerate(sides)]
    return Manifest("d", [], [], {}, [], encode, {}, "", renditions=renditions)


@pytest.mark.parametrize(
    ("wanted", "resize", "folder"),
    [
        ("auto", None, "."),
        ("auto", 300, "."),
        ("auto", 256, "."),
        ("auto", 129, "."),
        ("auto", 128, "short128"),
        ("auto", (128, 171), "short128"),
        ("auto", [171, 128], "short128"),
        ("auto", 65, "short128"),
        ("auto", 32, "short64"),
        (256, 32, "."),
        (64, None, "short64"),
    ],
)
def test_the_choice_by_hand(wanted: object, resize: object, folder: str) -> None:
    assert choose_rendition(manifest(256, 128, 64), wanted, resize, "d").folder == folder  # type: ignore[arg-type]


def test_what_there_is_not_is_listed() -> None:
    with pytest.raises(ValueError, match=r"rendition=100: d has 256, 128; name one of these, or auto"):
        choose_rendition(manifest(256, 128), 100, None, "d")
    with pytest.raises(ValueError, match=r"rendition=100: d has 256; name one of these, or auto"):
        choose_rendition(manifest(short_side=256), 100, None, "d")
    with pytest.raises(ValueError, match=r"rendition=100: d holds its videos as they came, in one size; set auto"):
        choose_rendition(manifest(copy=True), 100, None, "d")
    assert choose_rendition(manifest(short_side=256), 256, None, "d").folder == "."
    assert choose_rendition(manifest(copy=True), "auto", 64, "d").folder == "."


def heights(data: ShardedVideoDataModule) -> set[int]:
    return set(data.index.column("height", data.index.rows("all")).tolist())


def test_the_data_module_reads_the_rendition_that_fits(sizes: Path) -> None:
    for options, side in (
        ({}, 48),
        ({"resize": 24}, 24),
        ({"resize": (28, 30)}, 32),
        ({"rendition": 32}, 32),
        ({"resize": 24, "rendition": 48}, 48),
    ):
        data = ShardedVideoDataModule(str(sizes), crop_size=16, num_workers=0, decoder="pyav", **options)  # type: ignore[arg-type]
        assert heights(data) == {side}
        assert data.identity["rendition"] == side
        assert data.identity["identity"] == data.index.identity
        assert data.identity["family"] == DatasetIndex.open(sizes).identity
    with pytest.raises(ValueError, match=r"rendition=96: .* has 48, 32, 24; name one of these, or auto"):
        ShardedVideoDataModule(str(sizes), rendition=96).setup("fit")
    alone = ShardedVideoDataModule(str(sizes / "short24"), rendition=24)
    assert (heights(alone), alone.identity["family"]) == ({24}, DatasetIndex.open(sizes).identity)


def test_a_rendition_at_a_url(sizes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with serving(sizes) as server:
        data = ShardedVideoDataModule(server.url, resize=32, num_workers=0)
        assert data.index.read_video(3) == DatasetIndex.open(sizes / "short32").read_video(3)
        names = [name for name, *_ in server.served]
    assert names.count("dataset.json") == 2  # of the largest, and of this one: the only index that is read
    read = sum(size for name, _, size in server.served if name == "index.parquet")
    assert read < 2 * (sizes / "short32" / "index.parquet").stat().st_size


def test_a_folder_of_other_videos_is_no_rendition(sizes: Path, tmp_path: Path, motion_dataset: Path) -> None:
    (tmp_path / "dataset.json").write_bytes((sizes / "dataset.json").read_bytes())
    (tmp_path / "short24").symlink_to(motion_dataset)
    with pytest.raises(ShardFormatError, match="short24: is no rendition of the dataset in"):
        open_rendition(tmp_path, 24, None)

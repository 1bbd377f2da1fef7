"""hf:// by the client of the Hugging Face Hub, against a server on loopback that speaks its endpoints."""

import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.storage.errors import ShardFormatError, ShardUnavailableError
from datamodules.storage.remote_files import RemoteFiles, RetryPolicy

ONCE = RetryPolicy(tries=1)
ROOT = "hf://datasets/lab/motion"


@pytest.fixture
def dataset(hub, motion_dataset):
    """The hub with the dataset, tagged v1."""
    files = {path.name: path.read_bytes() for path in motion_dataset.iterdir() if path.is_file()}
    hub.commit("datasets/lab/motion", files, tag="v1")
    return hub


@pytest.mark.parametrize("root", [ROOT, f"{ROOT}@v1"])
def test_videos_come_by_range_in_a_request_each(dataset, motion_dataset, root):
    local = DatasetIndex.open(motion_dataset)
    index = DatasetIndex.open(root, retry_policy=ONCE)
    expected = [local.read_video(row) for row in range(len(local))]
    assert index.read_video(0) == expected[0]
    dataset.requests.clear()
    dataset.file_bytes = 0
    assert [index.read_video(row) for row in range(len(index))] == expected
    assert len(dataset.requests) == len(index)
    assert dataset.file_bytes == sum(map(len, expected))
    index.expect(range(len(index)))
    assert [index.read_video(row) for row in range(len(index))] == expected


def test_the_size_of_a_replaced_file_is_the_new_one(dataset):
    files = RemoteFiles(ROOT, ONCE)
    before = files.read_file("dataset.json")
    dataset.commit("datasets/lab/motion", {"dataset.json": before + b" "})
    assert files.read_file("dataset.json") == before + b" "


def test_a_folder_of_a_repository_is_a_dataset_too(dataset, motion_dataset):
    files = {f"packed/{path.name}": path.read_bytes() for path in motion_dataset.iterdir() if path.is_file()}
    dataset.commit("datasets/lab/many", files)
    index = DatasetIndex.open("hf://datasets/lab/many/packed", retry_policy=ONCE)
    assert index.read_video(3) == DatasetIndex.open(motion_dataset).read_video(3)


def test_what_is_not_there_is_one_sentence(dataset):
    for root in ("hf://datasets/lab/nothing", f"{ROOT}@v9", f"{ROOT}/folder"):
        with pytest.raises(ShardFormatError, match=r"dataset\.json: its size: there is no such file") as caught:
            DatasetIndex.open(root, retry_policy=ONCE)
        assert "\n" not in str(caught.value)
    index = DatasetIndex.open(ROOT, retry_policy=ONCE)
    shard = index.entry(0).shard
    dataset.commit("datasets/lab/motion", {shard: b"short"})
    with pytest.raises(ShardUnavailableError, match=r"416|bytes came"):
        index.read_video(0)


def test_a_private_dataset_needs_the_token(dataset, motion_dataset, monkeypatch):
    dataset.private.add("datasets/lab/motion")
    assert DatasetIndex.open(ROOT, retry_policy=ONCE).read_video(0) == DatasetIndex.open(motion_dataset).read_video(0)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        ShardUnavailableError, match=r"check the address and your access \(HF_TOKEN, or `hf auth"
    ) as caught:
        DatasetIndex.open(ROOT, retry_policy=ONCE)
    assert "\n" not in str(caught.value)


def test_a_hub_that_is_not_there_is_one_sentence(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ShardUnavailableError, match=r"could not be read in 1 tries .*, the network and your access"):
        DatasetIndex.open(ROOT, retry_policy=ONCE)

"""Sharded checkpoints on a real process group of one rank: read whole, damaged, and made to execute something."""

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from lightning_modules.layers.parameter_sharding import shard_parameters
from lightning_modules.weights.sharded_checkpoint import (
    CONTENT_NAME,
    checkpoint_sha256,
    find_shard_damage,
    is_sharded_checkpoint,
    read_whole_checkpoint,
    take_out_shards,
    with_shards_folder,
    write_shards,
)
from tests.process_group import one_rank, rank_variables  # noqa: F401 # fixtures

SHARDS = "shards-1"


def network() -> nn.Module:
    network = nn.Module()
    network.stages = nn.Sequential(nn.Conv3d(3, 5, 3), nn.ReLU(), nn.BatchNorm3d(5))
    network.training_step = network.stages.forward
    return network


def save(folder: Path, network: nn.Module) -> dict:
    """A checkpoint of a network and of the optimizer's first step; returns the content with its shards."""
    mesh = init_device_mesh("cpu", (1,))
    shard_parameters(network, mesh)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network.stages(torch.ones(2, 3, 4, 4, 4)).square().mean().backward()
    optimizer.step()
    content = {"state_dict": network.state_dict(), "optimizer_states": [optimizer.state_dict()], "epoch": 3}
    (folder / SHARDS).mkdir(parents=True)
    plain, shards = take_out_shards(content)
    write_shards(folder / SHARDS, shards)
    torch.save(with_shards_folder(plain, SHARDS), folder / CONTENT_NAME)
    return content


def test_it_is_read_as_one_file_would_be(one_rank: None, tmp_path: Path) -> None:  # noqa: F811
    content = save(tmp_path / "one", network())
    assert is_sharded_checkpoint(tmp_path / "one")
    assert find_shard_damage(tmp_path / "one") is None
    read = read_whole_checkpoint(tmp_path / "one", "it")
    assert read.keys() == content.keys()
    for name, weight in content["state_dict"].items():
        whole = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
        assert torch.equal(read["state_dict"][name], whole), name
    momenta = [state["momentum_buffer"] for state in read["optimizer_states"][0]["state"].values()]
    assert [momentum.shape for momentum in momenta] == [(5, 3, 3, 3, 3), (5,), (5,), (5,)]
    assert read["optimizer_states"][0]["param_groups"] == content["optimizer_states"][0]["param_groups"]


def test_its_digest_is_that_of_all_files(one_rank: None, tmp_path: Path) -> None:  # noqa: F811
    save(tmp_path / "one", network())
    before = checkpoint_sha256(tmp_path / "one")
    [shard] = (tmp_path / "one" / SHARDS).glob("*.distcp")
    shard.write_bytes(shard.read_bytes() + b"more")
    assert checkpoint_sha256(tmp_path / "one") != before
    assert checkpoint_sha256(shard) == hashlib.sha256(shard.read_bytes()).hexdigest()


def test_damage_is_found_in_every_file(one_rank: None, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "one"
    save(folder, network())
    for path in (folder / CONTENT_NAME, *(folder / SHARDS).iterdir()):
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], b""):
            path.write_bytes(damaged)
            assert find_shard_damage(folder), f"{path.name} of {len(damaged)} bytes"
            with pytest.raises(ValueError, match="it: "):
                read_whole_checkpoint(folder, "it")
        path.write_bytes(whole)
    [shard] = (folder / SHARDS).glob("*.distcp")
    content = bytearray(shard.read_bytes())
    weights = read_whole_checkpoint(folder, "it")["state_dict"]["stages.0.weight"].numpy().tobytes()
    content[content.index(weights) + 17] ^= 1  # one bit of a weight
    shard.write_bytes(content)
    assert "checksum" in str(find_shard_damage(folder))
    shard.unlink()
    assert "No such file" in str(find_shard_damage(folder))


class Bomb:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_it_is_executed(one_rank: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    save(tmp_path / "one", network())
    (tmp_path / "one" / SHARDS / ".metadata").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match=r"asks for builtins\.print, and only tensors are admitted"):
        read_whole_checkpoint(tmp_path / "one", "it")
    assert find_shard_damage(tmp_path / "one")
    assert "executed" not in capsys.readouterr().out


def test_a_part_that_is_elsewhere_is_refused(one_rank: None, tmp_path: Path) -> None:  # noqa: F811
    save(tmp_path / "one", network())
    table = tmp_path / "one" / SHARDS / ".metadata"
    metadata = pickle.loads(table.read_bytes())
    for part in metadata.storage_data.values():
        part.relative_path = "../elsewhere"
    table.write_bytes(pickle.dumps(metadata))
    with pytest.raises(ValueError, match="elsewhere is outside of the folder"):
        read_whole_checkpoint(tmp_path / "one", "it")

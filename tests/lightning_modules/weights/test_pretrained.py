"""Published checkpoints: got, verified, read without trust, every key matched or named."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_modules import C3D, CNNLSTM, I3D, InceptionV1, VideoClassifier
from lightning_modules.weights.checkpoint_file import read_checkpoint
from lightning_modules.weights.download import CACHE_VARIABLE, fetch, find_published
from lightning_modules.weights.key_mapping import KEY_MAPPINGS, find_key_mapping, state_from_flax
from lightning_modules.weights.pretrained import read_weights
from lightning_modules.weights.published_checkpoints import PUBLISHED
from lightning_modules.weights.safe_pickle import read_arrays
from pipeline.inference.weights import convert


def random_like(shapes):
    generator = torch.Generator().manual_seed(0)
    return {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}


def googlenet_state():
    """Names and shapes of torchvision's GoogLeNet with its two auxiliary classifiers, written down once."""
    lines = (Path(__file__).parent / "googlenet_keys.txt").read_text().splitlines()
    shapes = {
        key: [int(size) for size in sizes.split("x") if size]
        for key, _, sizes in (line.partition(" ") for line in lines)
    }
    return random_like(shapes)


def c3d_state(naming):
    """The tensors of a C3D of width 64 and 487 classes under somebody else's names; tiny where size does not matter."""
    convolutions = [(64, 3), (128, 64), (256, 128), (256, 256), (512, 256), (512, 512), (512, 512), (512, 512)]
    names = {
        "layers": ["conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b"],
        "sequential": [f"features.{place}" for place in (0, 3, 6, 8, 11, 13, 16, 18)],
        "mmaction": [f"conv{name}.conv" for name in ("1a", "2a", "3a", "3b", "4a", "4b", "5a", "5b")],
    }[naming]
    fc = {
        "layers": ["fc6", "fc7", "fc8"],
        "sequential": ["classifier.0", "classifier.3", "classifier.6"],
        "mmaction": ["fc6", "fc7"],
    }
    shapes = {}
    for name, (outputs, inputs) in zip(names, convolutions, strict=True):
        shapes |= {f"{name}.weight": (outputs, inputs, 3, 3, 3), f"{name}.bias": (outputs,)}
    for name, (outputs, inputs) in zip(fc[naming], [(4096, 8192), (4096, 4096), (487, 4096)], strict=False):
        shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    return {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}


def save(state, path):
    torch.save({key: value.clone() for key, value in state.items()}, path)
    return path


def test_googlenet_fits_key_by_key(tmp_path):
    state = googlenet_state()
    model = InceptionV1.from_pretrained(save(state, tmp_path / "googlenet.pth"))
    assert (model.num_classes, model.hparams["padding"], model.hparams["bn_scale"]) == (1000, "symmetric", True)
    assert model.hparams["dropout"] == 0.2
    assert model.mean.tolist() == model.std.tolist() == [0.5] * 3
    ours, theirs = model.stages.state_dict(), {key: value for key, value in state.items() if not key.startswith("aux")}
    # Both list their layers in the order of the forward pass, and a module's branches from left to right.
    for (mine, value), (name, published) in zip(ours.items(), theirs.items(), strict=True):
        assert mine.rpartition(".")[2] == name.rpartition(".")[2]
        assert torch.equal(value, published.view_as(value).to(value.dtype)), (mine, name)


def test_i3d_takes_googlenet_inflated_with_a_new_classifier(tmp_path):
    state = googlenet_state()
    path = save(state, tmp_path / "googlenet.pth")
    model = I3D.from_pretrained(path, num_classes=2)
    first = model.stages.state_dict()["Conv3d_1a_7x7.conv.weight"]
    torch.testing.assert_close(first[:, :, 3], state["conv1.conv.weight"] / 7)
    assert model.num_classes == 2
    with pytest.raises(
        ValueError, match=r"the weights want bn_scale=True \(here False\); set the model's arguments so"
    ):
        I3D.from_pretrained(path, bn_scale=False)


@pytest.fixture(scope="module")
def c3d_shapes():
    return {key: value.shape for key, value in C3D(num_classes=487).stages.state_dict().items()}


@pytest.mark.parametrize("naming", ["layers", "sequential", "mmaction"])
def test_c3d_in_three_namings(tmp_path, naming, c3d_shapes):
    state = c3d_state(naming)
    renamed = find_key_mapping(state, "c3d.pth").rename(state, "c3d.pth")
    assert len(renamed) == len(state)
    for mine, value in zip(c3d_shapes, state.values(), strict=naming != "mmaction"):  # both in the order of the layers
        assert renamed[mine] is value, mine
    told = read_weights(save(state, tmp_path / "c3d.pth"))
    assert told.class_path == "lightning_modules.C3D"
    expected = {key for key in c3d_shapes if naming != "mmaction" or not key.startswith("logits")}
    assert {key: value.shape for key, value in told.state.items()} == {key: c3d_shapes[key] for key in expected}
    assert told.init_args.get("num_classes") == (None if naming == "mmaction" else 487)


def test_every_naming_is_tested_here():
    """Or in test_mobilenet_v2.py and test_efficientnet_lite.py of tests/lightning_modules/networks."""
    assert len(KEY_MAPPINGS) == 7


def test_piergiajs_names_and_missing_counters(tmp_path, i3d_weights):
    told = read_weights("i3d-kinetics400-rgb")
    theirs = {
        key.replace("Logits.conv", "logits.conv3d").replace(".conv.", ".conv3d."): value
        for key, value in told.state.items()
    }
    theirs = {key: value for key, value in theirs.items() if not key.endswith("num_batches_tracked")}
    again = read_weights(save(theirs, tmp_path / "rgb_imagenet.pt"))
    assert told.state.keys() == again.state.keys()
    assert all(torch.equal(value, again.state[key]) for key, value in told.state.items())
    for wrong in ({"padding": "symmetric"}, {"mean": (0.4, 0.5, 0.5)}, {"std": (0.4, 0.5, 0.5)}):
        with pytest.raises(ValueError, match=rf"the weights want {next(iter(wrong))}="):
            I3D.from_pretrained(tmp_path / "rgb_imagenet.pt", **wrong)
    converted = convert(str(tmp_path / "rgb_imagenet.pt"), tmp_path / "converted.ckpt")
    assert read_checkpoint(converted)["datamodule_hyper_parameters"]["fps"] == 25
    theirs["Mixed_9z.b0.conv3d.weight"] = torch.zeros(1)
    theirs["surplus"] = torch.zeros(1)
    with pytest.raises(
        ValueError, match="looks like I3D as in piergiaj/pytorch-i3d, but 1 of its keys are not known: surplus"
    ):
        read_weights(save(theirs, tmp_path / "wrong.pt"))
    del theirs["surplus"], theirs["Mixed_5c.b0.conv3d.weight"]
    with pytest.raises(ValueError, match=r"do not fit: .*Mixed_5c.b0.conv.weight.*Mixed_9z.b0.conv.weight"):
        I3D.from_pretrained(save(theirs, tmp_path / "wrong.pt"))


def test_arrays_of_flax_by_hand():
    """Kernels (T, H, W, C, D) become (D, C, T, H, W); every branch and statistic keeps its own numbers."""
    kernel = np.arange(2 * 3 * 4 * 5 * 6.0).reshape(2, 3, 4, 5, 6)
    one, three = "Conv3d_0a_1x1", "Conv3d_0b_3x3"
    branches = (f"0/{one}", f"1/{one}", f"1/{three}", f"2/{one}", f"2/{three}", "3/Conv3d_0b_1x1")
    mixed = {f"Branch_{name}": {"Conv_0": {"kernel": np.full((1,) * 5, n)}} for n, name in enumerate(branches)}
    norm, head = np.arange(6.0).reshape(1, 1, 1, 1, 6), {"Conv_0": {"bias": np.arange(3.0)}}
    first = {"Conv_0": {"kernel": kernel}, "BatchNorm_0": {"bias": norm}}
    tree = {
        "params": {"Conv3d_1a_7x7": first, "Mixed_3b": mixed, "Logits/Conv3d_0c_1x1": head},
        "batch_stats": {"Conv3d_1a_7x7": {"BatchNorm_0": {"mean": norm + 10, "var": norm + 20}}},
    }
    state = state_from_flax(tree, "some.file")
    found = find_key_mapping(state, "some.file").rename(state, "some.file")
    weight = found.pop("Conv3d_1a_7x7.conv.weight")
    assert weight.shape == (6, 5, 2, 3, 4)
    assert all(weight[d, c, t, h, w] == kernel[t, h, w, c, d] for t, h, w, c, d in np.ndindex(*kernel.shape))
    assert {name: value.flatten().tolist() for name, value in found.items()} == {
        **{f"Mixed_3b.{name}.conv.weight": [n] for n, name in enumerate(("b0", "b1a", "b1b", "b2a", "b2b", "b3b"))},
        "Conv3d_1a_7x7.bn.bias": [0, 1, 2, 3, 4, 5],
        "Conv3d_1a_7x7.bn.running_mean": [10, 11, 12, 13, 14, 15],
        "Conv3d_1a_7x7.bn.running_var": [20, 21, 22, 23, 24, 25],
        "Conv3d_1a_7x7.bn.weight": [1] * 6,
        "Conv3d_1a_7x7.bn.num_batches_tracked": [0],
        "Logits.conv.bias": [0, 1, 2],
    }


def test_the_published_i3d_by_name(i3d_weights):
    model = VideoClassifier.from_pretrained("i3d-kinetics400-rgb")
    assert type(model) is I3D
    assert (len(model.class_names), model.class_names[5]) == (400, "archery")
    fine_tuned = I3D.from_pretrained("i3d-kinetics400-rgb", num_classes=2, dropout=0.2)
    assert fine_tuned.class_names == ["0", "1"]
    assert fine_tuned.hparams["dropout"] == 0.2
    assert torch.equal(fine_tuned.stages.Mixed_5c.b0.conv.weight, model.stages.Mixed_5c.b0.conv.weight)
    with pytest.raises(
        ValueError,
        match=r"weights of lightning_modules.I3D, not of lightning_modules.C3D",
    ):
        C3D.from_pretrained("i3d-kinetics400-rgb")


def test_our_own_checkpoint_with_other_classes(tmp_path):
    model = CNNLSTM(class_names=["a", "b"], channels=(4,), hidden_size=3)
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "own.ckpt")
    same = VideoClassifier.from_pretrained(tmp_path / "own.ckpt")
    assert same.class_names == ["a", "b"]
    other = CNNLSTM.from_pretrained(tmp_path / "own.ckpt", num_classes=5)
    assert other.num_classes == 5
    ours, theirs = (list(each.stages.hidden.parameters()) for each in (model, other))
    assert all(torch.equal(one, another) for one, another in zip(ours, theirs, strict=True))


def test_names_that_nobody_published(tmp_path):
    with pytest.raises(ValueError, match=r"weights 'i3d': no file of that name, .* known are i3d-kinetics400-rgb, "):
        VideoClassifier.from_pretrained("i3d")
    with pytest.raises(FileNotFoundError, match="no such file"):
        VideoClassifier.from_pretrained(tmp_path / "i3d.pt")
    assert len({row.name for row in PUBLISHED}) == len({row.file for row in PUBLISHED}) == len(PUBLISHED)


def test_a_damaged_file_in_the_cache_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    row = find_published("i3d-kinetics400-rgb")
    (tmp_path / row.file).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="it is damaged or not the same file; remove it and try again"):
        fetch(row)


@pytest.fixture
def server(tmp_path):
    """A web server in a process of its own, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    code = (
        "import functools, http.server as h; handler = functools.partial(h.SimpleHTTPRequestHandler, directory=%r);"
        "server = h.ThreadingHTTPServer(('127.0.0.1', 0), handler); "
        "print(server.server_port, flush=True); server.serve_forever()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code % str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}", folder
    process.terminate()
    process.wait()


def test_a_file_is_got_once_verified_and_kept(tmp_path, monkeypatch, server):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    url, folder = server
    (folder / "weights.pt").write_bytes(b"weights")
    digest = "9c9d18c6a7ae1e6fa5e0a5a5ad2cd8d1a2e6fd5c5d2b9bd5d1f8bc4d3a6d9b0e"
    row = replace(find_published("i3d-kinetics400-rgb"), url=f"{url}/weights.pt", file="weights.pt", sha256=digest)
    with pytest.raises(ValueError, match=f"has sha256 .*, published was {digest}"):
        fetch(row)
    assert list((tmp_path / "cache").iterdir()) == []
    path = fetch(replace(row, sha256=""))
    assert path.read_bytes() == b"weights"
    (folder / "weights.pt").unlink()
    assert fetch(replace(row, sha256="")) == path
    with pytest.raises(OSError, match=f"{url}/absent cannot be got .*404.*put it to {tmp_path / 'cache' / 'absent'}"):
        fetch(replace(row, url=f"{url}/absent", file="absent"))


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    "content",
    [Evil(), {"a": Evil()}, np.array([Evil()], dtype=object), np.ma.array([1.0])],
    ids=["object", "in a dict", "in an array", "masked array"],
)
def test_a_pickle_of_anything_but_arrays_is_refused(tmp_path, content, capsys):
    path = tmp_path / "evil.pickle"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"evil.pickle: (cannot be read as a pickle of arrays|holds)"):
        read_arrays(path)
    with pytest.raises(ValueError, match=r"holds more than plain data and tensors.*nothing of it was executed"):
        read_weights(path)
    assert "executed" not in capsys.readouterr().out


def test_arrays_are_read(tmp_path):
    tree = {"a": {"b": np.arange(6.0, dtype="float32").reshape(2, 3)}, "c": [1, "two", None, (np.float32(3.0).item(),)]}
    path = tmp_path / "arrays.pickle"
    path.write_bytes(pickle.dumps(tree))
    read = read_arrays(path)
    np.testing.assert_array_equal(read["a"]["b"], tree["a"]["b"])
    assert read["c"] == tree["c"]


def test_a_truncated_file_is_one_sentence(tmp_path):
    whole = save(c3d_state("mmaction"), tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"weights '.*cut.pth': the file is cut off or damaged; copy it again"):
        read_weights(tmp_path / "cut.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no weights by name"):
        read_weights(tmp_path / "list.pth")
    torch.save({"encoder.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(
        ValueError, match=r"weights of an unknown network \(its keys begin with encoder.weight\); known are: I3D"
    ):
        read_weights(tmp_path / "other.pth")

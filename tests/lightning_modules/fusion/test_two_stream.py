"""Two-stream networks: sums by hand, losses of their own, features of both, and a run through every verb."""

import json
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer

from datamodules.batch import ClipBatch
from lightning_modules import C3D, FrameClassifier, TwoStream
from lightning_modules.layers.compilation import compile_network
from pipeline.__main__ import main
from tests.lightning_modules.layers.test_compilation import backend, counters  # noqa: F401 # a fixture
from tests.pipeline.conftest import fit
from tests.pipeline.training.test_launchers import PYTHON, TWO, run
from tests.pipeline.training.test_lightning_cli import weights

SMALL = {"width": 4, "crop_size": 32, "batch_norm": True, "dropout": 0.0}


def make(**kwargs):
    torch.manual_seed(0)
    return TwoStream(network="C3D", network_args=SMALL, num_classes=3, **kwargs)


def clips():
    levels = torch.randint(1, 256, (4, 16, 32, 32, 5), generator=torch.Generator().manual_seed(0))
    batch = ClipBatch.from_clips_of_videos([one[None].to(torch.uint8) for one in levels])
    return batch._replace(labels=torch.tensor([0, 1, 2, 0]), keys=["a", "b", "c", "d"])


def test_the_logits_are_the_sum_of_two_networks():
    model, batch = make().eval(), clips()
    x = model.normalize(batch)
    rgb, flow = model.stages.streams.rgb, model.stages.streams.flow
    torch.testing.assert_close(x[:, :3], rgb.normalize(batch._replace(clips=batch.clips[..., :3])))
    torch.testing.assert_close(x[:, 3:], flow.normalize(batch._replace(clips=batch.clips[..., 3:])))
    found = model.endpoints(x, model.endpoints_available)
    assert list(found) == ["features", "streams", "logits"]
    fc6 = [one.endpoints(part, ["fc6"])["fc6"] for one, part in ((rgb, x[:, :3]), (flow, x[:, 3:]))]
    torch.testing.assert_close(found["features"], torch.cat(fc6, dim=1))
    torch.testing.assert_close(found["logits"], rgb.clip_logits(x[:, :3]) + flow.clip_logits(x[:, 3:]))
    torch.testing.assert_close(model(batch), found["logits"])


def test_the_mean_is_subtracted_of_flow_and_not_of_rgb():
    model, plain, batch = make(subtract_mean_flow=True), make(), clips()
    x, as_it_was = model.normalize(batch), plain.normalize(batch)
    torch.testing.assert_close(x[:, :3], as_it_was[:, :3])
    torch.testing.assert_close(x[:, 3:], as_it_was[:, 3:] - as_it_was[:, 3:].mean((3, 4), keepdim=True))
    with pytest.raises(ValueError, match="subtract_mean_flow is an argument of TwoStream itself"):
        TwoStream(network="C3D", network_args=SMALL | {"subtract_mean_flow": True}, num_classes=3)


def test_features_are_means_over_places_and_one_classifier_s_input():
    torch.manual_seed(0)
    model, batch = TwoStream(network="I3D", fusion="features", num_classes=3).eval(), clips()
    assert model.endpoints_available == ("features", "logits")
    batch = batch._replace(clips=batch.clips[:2, :10], video_index=batch.video_index[:2])
    x = model.normalize(batch)
    with torch.no_grad():
        found = model.endpoints(x, model.endpoints_available)
        rgb, flow = (
            network.endpoints(part, ["Mixed_5c"])["Mixed_5c"].mean((2, 3, 4))
            for network, part in ((model.stages.features.rgb, x[:, :3]), (model.stages.features.flow, x[:, 3:]))
        )
        torch.testing.assert_close(found["features"], torch.cat([rgb, flow], dim=1))
        torch.testing.assert_close(found["logits"], model.stages.logits[1](found["features"]))
        torch.testing.assert_close(model.clip_logits(x), found["logits"])


def test_of_each_network_all_up_to_its_features_learns():
    model = make(fusion="features", dropout=0.25)
    assert model.stages.logits[0].p == 0.25
    for network in (model.stages.features.rgb, model.stages.features.flow):
        trained = {name.split(".")[0] for name, one in network.stages.named_parameters() if one.requires_grad}
        assert trained == set(network.endpoints_available) - {"fc7", "logits"} - {f"pool{place}" for place in range(6)}


@pytest.mark.parametrize("resumes", [False, True])
def test_each_network_begins_with_its_own_weights(resumes, tmp_path):
    """Checkpoints of another number of classes; the last layer stays as it is, and a run that resumes loads nothing."""
    others = {"rgb": C3D(num_classes=2, **SMALL), "flow": C3D(num_classes=2, in_channels=2, **SMALL)}
    paths = {}
    for name, other in others.items():
        other.trained_before = [{name: torch.zeros(1)}]  # fingerprints of the videos of an earlier training
        trainer = Trainer(logger=False, accelerator="cpu", default_root_dir=tmp_path)
        trainer.strategy.connect(other)
        trainer.save_checkpoint(paths.setdefault(f"{name}_weights", str(tmp_path / f"{name}.ckpt")))
    model = make(freeze=["streams.rgb.stages.conv1a"], **paths)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.resumes = resumes
    model.trainer = Trainer(logger=False, accelerator="cpu", default_root_dir=tmp_path)
    model.setup("fit")
    for name, other in others.items():
        part = model.stages.streams.get_submodule(name)
        for key, value in other.state_dict().items():
            kept = resumes or "logits" in key
            expected = before[f"stages.streams.{name}.{key}"] if kept else value
            assert torch.equal(part.state_dict()[key], expected), key
    assert not model.stages.streams.rgb.stages.conv1a[0].weight.requires_grad
    known = [name for earlier in model.trained_before for name in earlier or ()]
    assert known == ([] if resumes else ["rgb", "flow"])


def test_clips_are_those_of_the_networks():
    settings = FrameClassifier.clip_settings_of({"encoder": "mobilenet_v2"})
    arguments = {"network": "FrameClassifier", "network_args": {"encoder": "mobilenet_v2"}}
    assert settings["crop_size"] == 224
    assert TwoStream.clip_settings_of(arguments) == settings
    assert TwoStream.clip_settings_of({"network": "VGG"}) == {} == TwoStream.clip_settings_of({})
    assert TwoStream.stream_of(arguments) == "both"


def test_each_network_learns_as_if_alone():
    model, batch = make(), clips()
    model.log = model.log_dict = lambda *args, **kwargs: None
    model.training_step(batch, 0).backward()
    together = model.stages.streams.flow.stages.conv1a[0].weight.grad.clone()
    model.zero_grad()
    x = model.normalize(batch)[:, 3:]
    alone = model.stages.streams.flow
    (model.loss(alone.clip_logits(x), batch.labels) / 2).backward()
    torch.testing.assert_close(alone.stages.conv1a[0].weight.grad, together, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("fusion", ["logits", "features"])
def test_every_trained_parameter_gets_a_gradient(fusion):
    model, batch = make(fusion=fusion), clips()
    model.log = model.log_dict = lambda *args, **kwargs: None
    model.training_step(batch, 0).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == trained
    assert any("flow.stages.conv1a" in name for name in trained)
    assert model.eval()(batch).shape == (4, 3)


@pytest.mark.parametrize("fusion", ["logits", "features"])
def test_both_networks_are_compiled_in_one_graph(fusion, backend):  # noqa: F811
    model, batch = make(fusion=fusion), clips()
    model.log = model.log_dict = lambda *args, **kwargs: None
    compile_network(model.compiled_part, torch.device("cpu"), backend)
    backend.graphs.clear()  # that of the trial
    backend.runs.clear()
    for _ in range(2):
        model.training_step(batch, 0).backward()
    assert backend.runs == [0, 0]
    assert not counters["graph_break"]
    layers = [layer for network in model.children() for layer in network.modules() if not list(layer.children())]
    operations, is_dynamic = backend.graphs[0]
    assert operations > len(layers) / 2
    assert not is_dynamic


def test_arguments_are_one_sentence():
    with pytest.raises(ValueError, match=r"network_args=\{'depth': 3\}: C3D does not take them"):
        TwoStream(network="C3D", network_args={"depth": 3}, num_classes=2)
    with pytest.raises(ValueError, match="fusion is of clips; leave out readout=every"):
        TwoStream(network="CNNLSTM", network_args={"readout": "every"}, num_classes=2)
    with pytest.raises(ValueError, match="network='VGG': must be one of C3D, I3D"):
        TwoStream(network="VGG", num_classes=2)
    with pytest.raises(ValueError, match=r"have 2 channels \(stream flow\), and the network takes 5 \(stream both\)"):
        make()(clips()._replace(clips=clips().clips[..., 3:]))


@pytest.mark.slow
def test_a_run_trains_both_and_is_evaluated(flow_dataset: Path, tmp_path: Path) -> None:
    words = ["--model=TwoStream", "--model.network=C3D", f"--model.network_args={json.dumps(SMALL)}"]
    checkpoint = fit(flow_dataset, tmp_path / "fit", model=words)
    model = TwoStream.load(checkpoint)
    assert isinstance(model.stages.streams.flow, C3D)
    common = ["--checkpoint", str(checkpoint), "--data", str(flow_dataset), "--split", "test", "--num-clips", "1"]
    assert main(["evaluate", *common, "--out", str(tmp_path / "results")]) == 0
    assert json.loads((tmp_path / "results" / "report.json").read_text())["num_videos"] == 8
    video = str(flow_dataset.parent / "videos" / "move_right5.mp4")
    assert main(["classify", video, "--checkpoint", str(checkpoint), "--top", "1"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["logits", "features"])
def test_two_ranks_learn_as_one(fusion: str, flow_dataset: Path, tmp_path: Path) -> None:
    """Two steps of 2 x 4 videos, and of 1 x 8; `features` leaves the layers after fc6 without gradients."""
    network = SMALL | {"batch_norm": False}  # a rank's batch norms see its own videos
    words = ["fit", "--model=TwoStream", "--model.network=C3D", f"--model.network_args={json.dumps(network)}"]
    words += [
        f"--model.fusion={fusion}",
        "--model.dropout=0",
        "--model.learning_rate=0.01",
        "--data=ShardedVideoDataModule",
    ]
    words += [f"--data.root={flow_dataset}", "--data.crop_size=32", "--data.flip_probability=0", "--data.num_workers=0"]
    words += ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.logger=false"]
    ranks = {"one": ["--data.batch_size=8"], "two": ["--data.batch_size=4", *TWO]}
    run(*([*PYTHON, *words, *more, f"--trainer.default_root_dir={tmp_path / name}"] for name, more in ranks.items()))
    one, two = (weights(tmp_path / name / "last.ckpt") for name in ranks)
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a C++ compiler at work
def test_a_compiled_run_learns_the_same(flow_dataset: Path, tmp_path: Path) -> None:
    network = {"channels": [4, 8], "dropout": 0}
    words = ["--model=TwoStream", "--model.network=FrameClassifier", f"--model.network_args={json.dumps(network)}"]
    plain = weights(fit(flow_dataset, tmp_path / "plain", model=words))
    counters.clear()
    compiled = weights(fit(flow_dataset, tmp_path / "compiled", model=[*words, "--model.compile=true"]))
    assert counters["stats"]["calls_captured"] > 20  # layers of both
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(value, compiled[name], rtol=1e-3, atol=1e-4)

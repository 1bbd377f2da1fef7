"""Video networks of transformers: the library's numbers, from a folder, whole in a checkpoint, and trained in part."""

import copy
import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import Trainer

from lightning_modules import PretrainedVideoNetwork, VideoClassifier
from lightning_modules.networks.pretrained_video_network import _classifier
from tests.lightning_modules.clip_batches import moving_bars
from tests.video_transformers import CROP_SIZE, FAMILIES, NUM_FRAMES, save_video_transformer

CLIPS = (3, NUM_FRAMES, CROP_SIZE, CROP_SIZE)
CLASSES = ["down", "up", "still"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """For each family, and with and without a classifier, a folder and the library's network."""
    root = tmp_path_factory.mktemp("networks")
    return {
        (family, trained): (
            root / f"{family}-{trained}",
            save_video_transformer(root / f"{family}-{trained}", family, CLASSES if trained else None),
        )
        for family in FAMILIES
        for trained in (True, False)
    }


def network_of(folders, family, trained=True, **options):
    return PretrainedVideoNetwork(f"transformers:{folders[family, trained][0]}", **options)


def fitted(model, tmp_path, batch, **options):
    """The model after one epoch of one batch, and its checkpoint."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path, max_epochs=1, **quiet, **options)
    trainer.fit(model, torch.utils.data.DataLoader([batch], batch_size=None))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_output_is_the_librarys_own(folders, family):
    x = torch.randn(2, *CLIPS)
    with torch.inference_mode():
        theirs = folders[family, True][1](x.transpose(1, 2), output_hidden_states=True)
        model = PretrainedVideoNetwork.open_pretrained(f"transformers:{folders[family, True][0]}")
        ours = model.endpoints(x, model.endpoints_available)
        for found, expected in zip(theirs.hidden_states, ("embed", "layer_1", "layer_2"), strict=True):
            torch.testing.assert_close(ours[expected], found, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours["logits"], theirs.logits, atol=1e-5, rtol=0)
        assert model.class_names == CLASSES
        without = folders[family, False][1](x.transpose(1, 2))
        bare = PretrainedVideoNetwork.open_pretrained(f"transformers:{folders[family, False][0]}", False)
        tokens = bare.endpoints(x, ["tokens", "pooled"])
    torch.testing.assert_close(tokens["tokens"], without.last_hidden_state, atol=1e-5, rtol=0)
    assert tokens["pooled"].shape == (2, 24)
    assert bare.endpoints_available[-1] == "pooled"


def test_a_checkpoint_is_whole_and_a_resumed_run_reads_no_folder(folders, tmp_path):
    """The folder is gone when the checkpoint is opened; the weights of training were those of the folder."""
    shutil.copytree(folders["videomae", True][0], tmp_path / "copy")
    model = PretrainedVideoNetwork(f"transformers:{tmp_path / 'copy'}", class_names=CLASSES, learning_rate=1e-9)
    checkpoint = fitted(model, tmp_path, moving_bars(4, num_frames=NUM_FRAMES, size=CROP_SIZE))
    shutil.rmtree(tmp_path / "copy")
    loaded = VideoClassifier.load(checkpoint)
    x = torch.randn(2, *CLIPS)
    with torch.inference_mode():
        expected = folders["videomae", True][1](x.transpose(1, 2)).logits
        torch.testing.assert_close(loaded.clip_logits(x), expected, atol=1e-4, rtol=0)
    resumed = PretrainedVideoNetwork(**loaded.hparams)
    resumed.resumes = True
    fitted(resumed, tmp_path / "again", moving_bars(4, num_frames=NUM_FRAMES, size=CROP_SIZE))


@pytest.mark.parametrize(("family", "classes"), [("videomae", 5), ("vjepa2", 5), ("vjepa2", 3)])
def test_a_classifier_for_other_classes_is_new_and_all_else_is_kept(folders, family, classes):
    model = network_of(folders, family, num_classes=classes)
    fresh = model.stages.logits[1].weight.clone()
    model.load_library_weights()
    assert torch.equal(model.stages.logits[1].weight, fresh) == (classes != 3)
    trained = folders[family, True][1]
    kept = trained.fc_norm.bias if family == "videomae" else trained.pooler.query_tokens
    own = model.stages.pooled.norm.bias if family == "videomae" else model.stages.pooled.query_tokens
    torch.testing.assert_close(own, kept)


@pytest.mark.parametrize("head", ["linear", "mlp", "attentive"])
def test_heads_on_a_network_without_one(folders, head):
    model = network_of(folders, "vjepa2", False, num_classes=2, head=head, probe_depth=2).train()
    drawn = copy.deepcopy([*model.stages.pooled.parameters(), *model.stages.logits.parameters()])
    model.load_library_weights()
    loaded = [*model.stages.pooled.parameters(), *model.stages.logits.parameters()]
    assert all(map(torch.equal, loaded, drawn)), "by the seed of the network, whatever was drawn in between"
    assert model.clip_logits(torch.randn(2, *CLIPS)).shape == (2, 2)
    assert model.stages.get_submodule("logits")[-1].in_features == 24
    assert (
        (len(model.stages.pooled.self_attention_layers) == 1)
        if head == "attentive"
        else not list(model.stages.pooled.parameters())
    )


def test_a_head_with_a_hidden_layer_by_its_equation_and_dropout_before_the_last():
    """W (gelu(V x + v)) + w; the last layer begins small, and its bias as nothing."""
    torch.manual_seed(0)
    hidden, gelu, dropout, last = _classifier(40, 50, "mlp", 1.0)
    assert last.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not last.bias.any()
    x = torch.randn(3, 40)
    torch.testing.assert_close(gelu(hidden(x)), F.gelu(x @ hidden.weight.T + hidden.bias))
    assert not last(dropout.train()(gelu(hidden(x)))).any()
    dropout, last = _classifier(40, 50, None, 0.3)
    assert dropout.p == 0.3


def test_low_rank_updates_have_the_scale_and_the_layers_asked_for(folders):
    def scales(**options):
        model = network_of(folders, "vivit", num_classes=2, weights="none", **options)
        return {name.split(".")[-1]: module.scaling["default"] for name, module in model.named_modules()
                if hasattr(module, "lora_A")}  # fmt: skip

    assert scales(lora_rank=4) == {"q_proj": 1, "v_proj": 1}
    assert scales(lora_rank=4, lora_alpha=8.0, lora_targets=["k_proj"]) == {"k_proj": 2}


def test_learning_rates_fall_by_layer_from_the_head_to_the_patches(folders):
    """BEiT: decay ** (L + 1 - i), with L = 2 layers."""
    model = network_of(folders, "timesformer", num_classes=2, layer_decay=0.5, learning_rate_scale={"logits": 10})
    scales = model.optimization.learning_rate_scale
    assert scales == {"embed": 0.125, "layer_1": 0.25, "layer_2": 0.5, "tokens": 1.0, "pooled": 1.0, "logits": 10.0}


def test_low_rank_updates_train_with_the_head_alone_and_begin_as_nothing(folders, tmp_path):
    model = network_of(folders, "vivit", class_names=CLASSES, lora_rank=2, learning_rate=0.1)
    model.load_library_weights()
    x = torch.randn(1, *CLIPS)
    with torch.inference_mode():
        expected = folders["vivit", True][1](x.transpose(1, 2)).logits
        torch.testing.assert_close(model.eval().clip_logits(x), expected, atol=1e-5, rtol=0)
    scaling = [one.scaling["default"] for one in model.modules() if hasattr(one, "lora_A")]
    assert scaling == [1.0] * 4  # alpha is the rank, where it is not given
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    checkpoint = fitted(model, tmp_path, moving_bars(4, num_frames=NUM_FRAMES, size=CROP_SIZE))
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert {name for name in changed if ".lora_" not in name} == {"stages.logits.1.weight", "stages.logits.1.bias"}
    assert sum(".lora_B" in name for name in changed) == 4  # queries and values of two layers
    torch.testing.assert_close(VideoClassifier.load(checkpoint).clip_logits(x), model.eval().clip_logits(x))


def test_low_rank_updates_of_frozen_layers_are_not_trained(folders, tmp_path):
    model = network_of(folders, "vivit", class_names=CLASSES, lora_rank=2, learning_rate=0.1, freeze=["layer_1"])
    before = {name: parameter.clone() for name, parameter in model.named_parameters() if ".lora_" in name}
    fitted(model, tmp_path, moving_bars(4, num_frames=NUM_FRAMES, size=CROP_SIZE))
    after = dict(model.named_parameters())
    changed = {name for name, parameter in before.items() if not torch.equal(parameter, after[name])}
    assert {name.split(".")[1] for name in before} == {"layer_1", "layer_2"}
    assert {name.split(".")[1] for name in changed} == {"layer_2"}


def test_stochastic_depth_leaves_the_first_layer_and_evaluation_alone(folders):
    for family in FAMILIES:
        model = network_of(folders, family, num_classes=2, drop_path=0.9)
        model.load_library_weights()
        x = torch.randn(64, *CLIPS)
        with torch.inference_mode():
            still = model.eval().endpoints(x, ["layer_1", "layer_2"])
            drawn = model.train().endpoints(x, ["layer_1", "layer_2"])
            torch.testing.assert_close(drawn["layer_1"], still["layer_1"])
            assert not torch.allclose(drawn["layer_2"], still["layer_2"])
            kept = [torch.equal(a, b) for a, b in zip(drawn["layer_2"], drawn["layer_1"], strict=True)]
        assert family == "timesformer" or sum(kept) > 32, family  # both branches dropped: 81 %


def test_recomputed_layers_give_the_same_gradients(folders):
    from lightning_modules.layers.execution_options import recompute_activations

    gradients = []
    for recomputed in (False, True):
        model = network_of(folders, "timesformer", num_classes=2).train()
        model.load_library_weights()
        torch.manual_seed(0)
        torch.nn.init.normal_(model.stages.logits[1].weight)
        recompute_activations(model, model.stages, recomputed)
        torch.manual_seed(1)
        model.clip_logits(torch.randn(2, *CLIPS)).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("family", ["videomae", "timesformer", "vjepa2"])
def test_other_clips_resize_what_the_family_resizes(folders, family):
    model = network_of(folders, family, num_classes=3, num_frames=8, crop_size=64)
    model.load_library_weights()
    assert model.clip_logits(torch.randn(1, 3, 8, 64, 64)).shape == (1, 3)
    assert PretrainedVideoNetwork.clip_settings_of(model.hparams)["crop_size"] == 64
    if family == "timesformer":
        found = model.stages.embed.embeddings
        own = folders[family, True][1].timesformer.embeddings
        torch.testing.assert_close(found.time_embeddings[0, ::2], own.time_embeddings[0])
        torch.testing.assert_close(found.position_embeddings[0, 0], own.position_embeddings[0, 0])
        torch.testing.assert_close(found.position_embeddings[0, [1, 4, 13, 16]], own.position_embeddings[0, 1:])


def test_preprocessing_is_read_as_the_library_applies_it(tmp_path):
    """ViViT's preprocessor maps pixels to [-1, 1] before it subtracts the mean; 2 p - 1 - 0.5 is (p - 0.75) / 0.5."""
    size = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    normalization = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 127.5}
    save_video_transformer(tmp_path, "vivit", CLASSES, size | normalization | {"do_normalize": True})
    arguments = {"network": f"transformers:{tmp_path}"}
    expected = {"num_frames": 4, "frame_interval": 2, "crop_size": 32, "resize": 40}
    assert PretrainedVideoNetwork.clip_settings_of(arguments) == expected
    model = PretrainedVideoNetwork(**arguments)
    assert model.hparams["mean"] == pytest.approx([0.75] * 3)
    assert model.std.tolist() == pytest.approx([0.25] * 3)


@pytest.mark.parametrize(
    ("family", "options", "taken"),
    [
        ("vivit", {}, "resize=36, mean=[0.5, 0.5, 0.5] and std=[0.5, 0.5, 0.5]"),
        ("timesformer", {"crop_size": 64}, "resize=64, mean=[0.45, 0.45, 0.45] and std=[0.225, 0.225, 0.225]"),
    ],
)
def test_what_stands_for_a_preprocessor_is_told_once(folders, tmp_path, caplog, family, options, taken):
    batch = moving_bars(2, num_frames=NUM_FRAMES, size=options.get("crop_size", CROP_SIZE))
    model = network_of(folders, family, class_names=CLASSES, **options)
    name = model.hparams["network"]
    with caplog.at_level("INFO", logger="pytorch_lightning"):
        fitted(model, tmp_path, batch)
        resumed = PretrainedVideoNetwork(**model.hparams)
        resumed.resumes = True
        fitted(resumed, tmp_path / "again", batch)
        save_video_transformer(tmp_path / "whole", family, CLASSES, {"image_mean": [0.4] * 3})
        whole = PretrainedVideoNetwork(f"transformers:{tmp_path / 'whole'}", class_names=CLASSES, **options)
        fitted(whole, tmp_path / "other", batch)
    lines = [line for line in caplog.messages if "preprocessor_config" in line]
    assert lines == [
        f"network={name}: has no preprocessor_config.json; where you give none, {taken} are taken, those of {family} "
        "in general"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 5}, "num_frames=5: must be a multiple of 2"),
        ({"crop_size": 64, "family": "vivit"}, "position embeddings for num_frames=4, crop_size=32 alone"),
        ({"layer_decay": 0}, "layer_decay=0: must be above 0"),
        ({"drop_path": 1}, "drop_path=1: must be in"),
        ({"lora_rank": 1, "lora_targets": ["nothing"]}, r"lora_targets=\['nothing'\].*linear layers: .*query"),
        ({"network": "resnet50"}, "must be transformers:NAME_OR_FOLDER or torchvision:NAME"),
    ],
)
def test_what_a_network_cannot_have_is_one_sentence(folders, options, message):
    family = options.pop("family", "videomae")
    arguments = {"network": f"transformers:{folders[family, True][0]}", "num_classes": 3} | options
    with pytest.raises(ValueError, match=message):
        PretrainedVideoNetwork(**arguments)


def test_clips_of_another_shape_are_one_sentence(folders):
    model = network_of(folders, "videomae", num_classes=3)
    with pytest.raises(ValueError, match=r"clips of 8 frames of 32 x 32 pixels: this network takes num_frames=4"):
        model.clip_logits(torch.randn(1, 3, 8, 32, 32))


def test_what_cannot_be_read_is_one_sentence_and_never_random(folders, tmp_path, monkeypatch):
    folder = folders["videomae", True][0]
    with pytest.raises(ValueError, match="no classifier"):
        PretrainedVideoNetwork.open_pretrained(f"transformers:{folders['videomae', False][0]}")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        PretrainedVideoNetwork(f"transformers:{tmp_path / 'nowhere'}")
    shutil.copytree(folder, tmp_path / "bin")
    (tmp_path / "bin" / "model.safetensors").rename(tmp_path / "bin" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no weights as safetensors"):
        PretrainedVideoNetwork.open_pretrained(f"transformers:{tmp_path / 'bin'}")
    (tmp_path / "bin" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"has no config\.json"):
        PretrainedVideoNetwork(f"transformers:{tmp_path / 'bin'}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"cannot be read .*give a name on the hub that can be reached"):
        PretrainedVideoNetwork("transformers:nobody/nothing")


def test_v_jepa_2_1_is_not_run_as_v_jepa_2(folders, tmp_path):
    shutil.copytree(folders["vjepa2", False][0], tmp_path / "newer")
    path = tmp_path / "newer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_rope_interleave": True}))
    with pytest.raises(ValueError, match=r"newer: V-JEPA 2\.1, which transformers would run as V-JEPA 2"):
        PretrainedVideoNetwork(f"transformers:{tmp_path / 'newer'}", num_classes=2)
    (tmp_path / "vjepa2_1_vitl.pt").touch()
    with pytest.raises(ValueError, match=r"vjepa2_1_vitl\.pt: is a file; give a name on the hub, or a folder"):
        PretrainedVideoNetwork(f"transformers:{tmp_path / 'vjepa2_1_vitl.pt'}", num_classes=2)


def test_weights_that_lack_a_part_are_refused(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folders["videomae", True][0], tmp_path / "cut")
    path = tmp_path / "cut" / "model.safetensors"
    state = {key: value for key, value in load_file(path).items() if "layer.1.attention" not in key}
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"its weights lack videomae\.encoder\.layer\.1\.attention"):
        PretrainedVideoNetwork.open_pretrained(f"transformers:{tmp_path / 'cut'}")

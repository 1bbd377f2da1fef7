"""`PretrainedVideoNetwork`: video transformers and 3D networks of transformers and torchvision as a classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info
from torch import nn

from lightning_modules.layers.attentive_pooling import AttentivePooler
from lightning_modules.layers.low_rank_adaptation import add_low_rank_updates, with_low_rank_updates
from lightning_modules.networks.library_networks import (
    PRETRAINED,
    RANDOM,
    TRANSFORMERS_PREFIX,
    TransformersSource,
    import_library,
)
from lightning_modules.networks.video_libraries import TORCHVISION_PREFIX, adapter_of, describe_network, module_of
from lightning_modules.tasks.classifier import VideoClassifier
from lightning_modules.tasks.optimization import OptimizationOptions, decayed_scales
from lightning_modules.video_adapters import torchvision_adapter, transformers_adapter
from lightning_modules.video_adapters.network_description import NetworkParts
from lightning_modules.video_adapters.token_pooling import MeanPooling, TokenSequence
from lightning_modules.weights.pretrained import Weights, load_pretrained, read_weights

Head = Literal["linear", "mlp", "attentive"]

_LAYERS = "layer_"
_HEAD_STAGES = ("pooled", "logits")


class PretrainedVideoNetwork(VideoClassifier):
    """A video network of transformers or torchvision with its own layers, and a head.

    Of transformers: VideoMAE, TimeSformer, ViViT and V-JEPA 2; of torchvision: r3d_18, mc3_18, r2plus1d_18, s3d,
    mvit_v2_s and swin3d_t. `fit` gives the data module the clips that the network was made for, where neither the
    command line nor the configuration does. Checkpoints hold the network's configuration, and open without a hub.

    Endpoints: embed and layer_1 to layer_L, the tokens after them, (N, L, D), or (N, D, T', H', W') of networks that
    keep places; tokens, after the last norm; pooled (N, D), the vector that is classified; logits (N, K).

    Args:
        network: `transformers:NAME_OR_FOLDER`, a name on the hub or a folder that `save_pretrained` wrote; or
            `torchvision:NAME`.
        network_config: the network's description, which `fit` writes into checkpoints; not to be given.
        revision: branch, tag or commit on the hub, or name of torchvision's weights; default: the main one.
        num_frames: frames of a clip, if other than the network's own.
        crop_size: height and width of a clip, if other than the network's own.
        head: `linear`; `mlp`, with a hidden layer of D; `attentive`, a query that attends to the tokens, as V-JEPA 2 is
            evaluated; default: the network's own, which is attentive for V-JEPA 2 and linear for all others.
        probe_depth: blocks of an attentive head, of which the last is the query's: 4 in V-JEPA 2's evaluation; those of
            a network's own attentive head are given by it.
        dropout: dropout probability before the classifier.
        drop_path: stochastic depth of the last layer, falling linearly to 0 in the first; default: the network's own.
        layer_decay: factor of the learning rate from each layer to the one before it: `layer_decay ** (L + 1 - i)` in
            layer i of L, 0 the embedding, L + 1 what follows the last layer (Bao et al. 2022, BEiT); 1 is no decay.
            Entries of `learning_rate_scale` are multiplied with it.
        lora_rank: rank of low-rank updates (LoRA) that are trained instead of the layers, which are frozen; 0: none.
        lora_alpha: the updates are multiplied by `lora_alpha / lora_rank`; default: the rank.
        lora_targets: names of the linear layers to update; default: those of queries and values.
        mean: as for `VideoNetwork`; default: the network's own.
        std: as for `mean`.
        weights: `pretrained`, the network's own weights; `none`, random ones; or a checkpoint of this class. A run that
            resumes, and all that opens a checkpoint, load none. The classifier is loaded if the number of classes is
            equal.
        **kwargs: arguments of `VideoClassifier`; without classes, those of the network's own classifier.

    Raises:
        ImportError: the library is not installed.
        OSError: the network cannot be read.
        ValueError: not a video network, or an argument that it cannot have.
    """

    feature_layer = "pooled"

    def __init__(
        self,
        network: str,
        network_config: dict[str, Any] | None = None,
        revision: str | None = None,
        num_frames: int | None = None,
        crop_size: int | None = None,
        head: Head | None = None,
        probe_depth: int = 4,
        dropout: float = 0.0,
        drop_path: float | None = None,
        layer_decay: float = 1.0,
        lora_rank: int = 0,
        lora_alpha: float | None = None,
        lora_targets: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        weights: str | None = PRETRAINED,
        **kwargs: Any,
    ) -> None:
        if not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay={layer_decay}: must be above 0 and at most 1")
        if drop_path is not None and not 0 <= drop_path < 1:
            raise ValueError(f"drop_path={drop_path}: must be in [0, 1)")
        if lora_rank < 0:
            raise ValueError(f"lora_rank={lora_rank}: must be at least 0")
        description = describe_network(network, network_config, revision)
        mean, std = list(mean or description.mean), list(std or description.std)
        weights = None if weights == RANDOM else weights
        if kwargs.get("num_classes") is None and kwargs.get("class_names") is None:
            kwargs["class_names"] = description.class_names and list(description.class_names)
        super().__init__(mean=mean, std=std, weights=weights, **kwargs)
        self.hparams["network_config"] = description.plain  # for the checkpoint, as are mean and std
        self.hparams["mean"], self.hparams["std"] = mean, std
        self.description = description
        parts = self._construct_parts(num_frames, crop_size)
        if drop_path is not None:
            adapter_of(description).add_stochastic_depth(parts, description.architecture, drop_path)
        self.stages = nn.Sequential()
        for name, stage in parts.stages.items():
            self.stages.add_module(name, stage)
        self._keeps_pooling = head is None or (head == "attentive") == parts.has_attentive_head
        pooling = parts.pooling if self._keeps_pooling else _other_pooling(parts, head, probe_depth)
        self.stages.add_module("pooled", pooling)
        self.stages.add_module("logits", _classifier(parts.size, self.num_classes, head, dropout))
        self.hparams["head"] = head or ("attentive" if parts.has_attentive_head else "linear")
        if lora_rank:
            self._add_low_rank_updates(lora_rank, lora_alpha or lora_rank, lora_targets)

    @classmethod
    def open_pretrained(cls, network: str, needs_classifier: bool = True) -> Self:
        """A network of a library as it was published, with its own classifier and classes, in evaluation mode.

        Args:
            network: as the argument of the class.
            needs_classifier: whether to refuse a network without a classifier; otherwise it lacks the stage `logits`,
                and `pooled` is the mean of the tokens, or the first one.

        Raises:
            ImportError: the library is not installed.
            OSError: the network cannot be read.
            ValueError: not a video network, no classifier, or no safetensors.
        """
        description = describe_network(network, None, None)
        has_classifier = description.class_names is not None
        if needs_classifier and not has_classifier:
            raise ValueError(
                f"{network}: was not trained to tell classes and has no classifier; train one with `fit`, or with "
                "`features` and `linear`"
            )
        own: dict[str, Any] = {} if has_classifier else {"head": "linear", "num_classes": 2}  # removed below
        model = cls(network, description.plain, **own)
        model.load_library_weights()
        if not has_classifier:
            del model.stages.logits
        return model.eval()

    @property
    def weights_file(self) -> Path:
        """The file of the network's own weights."""
        name, revision = self.hparams["network"], self.hparams["revision"]
        if name.startswith(TORCHVISION_PREFIX):
            library = import_library("torchvision.models", f"network={name}")
            return torchvision_adapter.weights_file(library, name.removeprefix(TORCHVISION_PREFIX), revision)
        return TransformersSource("network", name.removeprefix(TRANSFORMERS_PREFIX), revision).weights_file()

    @classmethod
    def clip_settings_of(cls, init_args: Mapping[str, Any]) -> dict[str, Any]:
        """Options of the data module for the clips that the network of these arguments was made for."""
        description = describe_network(init_args["network"], init_args.get("network_config"), init_args.get("revision"))
        return description.with_clips(init_args.get("num_frames"), init_args.get("crop_size")).clip_settings

    @property
    def optimization(self) -> OptimizationOptions:
        """The options of optimizer and schedule, with the decay of the learning rate by layer."""
        options = super().optimization
        decay = self.hparams["layer_decay"]
        if decay == 1:
            return options
        names = self.endpoints_available
        num_layers = sum(name.startswith(_LAYERS) for name in names)
        decays = {name: decay ** (num_layers + 1 - min(place, num_layers + 1)) for place, name in enumerate(names)}
        return replace(options, learning_rate_scale=decayed_scales(decays, options.learning_rate_scale or {}))

    def setup(self, stage: str) -> None:
        """Tells what stands for the configuration of a preprocessor that is not there, unless the run resumes."""
        super().setup(stage)
        own = self.description
        if stage == TrainerFn.FITTING and not self.resumes and not own.has_preprocessing:
            clips = own.with_clips(self.hparams["num_frames"], self.hparams["crop_size"])
            rank_zero_info(
                f"network={self.hparams['network']}: has no preprocessor_config.json; where you give none, "
                f"resize={clips.resize}, mean={list(own.mean)} and std={list(own.std)} are taken, those of "
                f"{own.architecture} in general"
            )

    def load_initial_weights(self, weights: str) -> None:
        """Loads the network's own weights, or those of a checkpoint.

        Raises:
            FileNotFoundError: no such file.
            OSError: the network's own cannot be read.
            ValueError: weights that do not fit.
        """
        if weights == PRETRAINED:
            self.load_library_weights()
            return
        read = read_weights(weights)
        own = {key: value for key, value in self.stages.state_dict().items() if not key.startswith("logits.")}
        adapted = replace(read, state=with_low_rank_updates(read.state, own)) if self.hparams["lora_rank"] else read
        self.trained_before = load_pretrained(self, adapted, self.keeps_classifier_of(read))

    def keeps_classifier_of(self, weights: Weights) -> bool:
        """Whether the classifier of weights is of this network's form, number of classes and task."""
        return super().keeps_classifier_of(weights) and weights.init_args.get("head") == self.hparams["head"]

    def load_library_weights(self) -> None:
        """Loads the network's own weights; its classifier too if form and number of classes are this network's.

        Raises:
            ImportError: the library is not installed.
            OSError: the weights cannot be read.
            ValueError: no safetensors, or weights that lack a part.
        """
        parts, missing = self._load_parts()
        state = {
            f"{name}.{key}": value for name, stage in parts.stages.items() for key, value in stage.state_dict().items()
        }
        is_drawn = parts.has_attentive_head and self.description.class_names is None  # the file has no such pooling
        if self._keeps_pooling and not is_drawn:
            state |= {f"pooled.{key}": value for key, value in parts.pooling.state_dict().items()}
        if self._keeps_library_classifier(parts):
            assert parts.classifier is not None
            state |= {f"logits.1.{key}": value for key, value in parts.classifier.items()}
        if missing:
            raise ValueError(f"{self.hparams['network']}: its weights lack {', '.join(sorted(missing)[:5])}")
        own = self.stages.state_dict()
        state = with_low_rank_updates(transformers_adapter.resize_positions(state, own), own)
        self.stages.load_state_dict({key: value for key, value in own.items() if _is_head(key)} | state, strict=True)

    def _keeps_library_classifier(self, parts: NetworkParts) -> bool:
        is_own_head = self._keeps_pooling and self.hparams["head"] != "mlp"
        return is_own_head and parts.classifier is not None and len(parts.classifier["weight"]) == self.num_classes

    def _construct_parts(self, num_frames: int | None, crop_size: int | None) -> NetworkParts:
        own = self.description
        adapter = adapter_of(own)
        library = import_library(module_of(own), f"network={own.library}:{own.architecture}")
        parts: NetworkParts = adapter.take_apart(
            adapter.construct(library, own, num_frames, crop_size), own.architecture
        )
        return parts

    def _load_parts(self) -> tuple[NetworkParts, set[str]]:
        """The parts of the pretrained network, and the names of the weights that it lacks and that are needed."""
        name, revision = self.hparams["network"], self.hparams["revision"]
        architecture = self.description.architecture
        if name.startswith(TORCHVISION_PREFIX):
            library = import_library("torchvision.models", f"network={name}")
            network = torchvision_adapter.load(library, name.removeprefix(TORCHVISION_PREFIX), revision)
            return torchvision_adapter.take_apart(network, architecture), set()
        source = TransformersSource("network", name.removeprefix(TRANSFORMERS_PREFIX), revision)
        has_classifier = self.description.class_names is not None
        network, missing = source.load("AutoModelForVideoClassification" if has_classifier else "AutoModel")
        parts = transformers_adapter.take_apart(network, architecture)
        return parts, transformers_adapter.needed(missing)

    def _add_low_rank_updates(self, rank: int, alpha: float, targets: Sequence[str] | None) -> None:
        family = transformers_adapter.FAMILIES.get(self.description.architecture)
        if targets is None and family is None and self.description.architecture not in ("mvit_v2_s", "swin3d_t"):
            raise ValueError(f"lora_rank={rank}: {self.description.architecture} has no attention; give lora_targets")
        names = list(targets or (("qkv",) if family is None else family.lora_targets))
        peft = import_library("peft", f"lora_rank={rank}")
        add_low_rank_updates(self.stages, peft, rank, alpha, names, _HEAD_STAGES)


def _other_pooling(parts: NetworkParts, head: Head | None, depth: int) -> nn.Module:
    if head == "attentive":
        return nn.Sequential(TokenSequence(), AttentivePooler(parts.size, parts.num_heads, depth))
    return MeanPooling()


def _classifier(size: int, num_classes: int, head: Head | None, dropout: float) -> nn.Sequential:
    hidden = [nn.Linear(size, size), nn.GELU()] if head == "mlp" else []
    last = nn.Linear(size, num_classes)
    nn.init.trunc_normal_(last.weight, std=0.02)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*hidden, nn.Dropout(dropout), last)


def _is_head(key: str) -> bool:
    return key.split(".")[0] in _HEAD_STAGES

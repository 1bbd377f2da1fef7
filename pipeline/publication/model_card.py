"""The model card: README.md of a model repository, in the form of the Hugging Face Hub.

Metadata, as YAML between two lines of `---`, then text, whose parts are those of Mitchell et al. 2019, Model Cards for
Model Reporting (https://arxiv.org/abs/1810.03993): what the model is, intended use, data, training, evaluation, limits.
"""

import re
from collections.abc import Sequence
from typing import Any

import yaml

from datamodules.storage.plain_text import printable
from lightning_modules import VideoClassifier, VideoNetwork
from lightning_modules.weights.model_repository import FINGERPRINTS_NAME, ModelConfig
from pipeline.publication.card_metadata import LIBRARY, CardTexts, card_metadata
from pipeline.publication.evaluation_results import EvaluationResults, describe_protocol, describe_rate
from pipeline.publication.training_record import TRAINING_NAME

CARD_NAME = "README.md"
LABELS_NAME = "labels.txt"
_NOT_STATED = "not stated"
_MOST_CLASSES = 50  # that a card lists
_OPTIMIZATION = ("optimizer", "learning_rate", "momentum", "weight_decay", "lr_schedule", "warmup_fraction", "weights")


def model_card(
    network: VideoNetwork, config: ModelConfig, texts: CardTexts, results: Sequence[EvaluationResults], has_record: bool
) -> str:
    """The text of README.md; the same arguments give the same text.

    Args:
        network: the network.
        config: its config.json.
        texts: what the author says.
        results: its evaluations.
        has_record: whether the folder has the configuration of the training.
    """
    sections = {
        "Use": _use(network, texts),
        "Intended use": [
            texts.intended_use
            or f"The author did not say. It {_purpose(network)}, in videos like those of its training."
        ],
        "Input": _input(network, config),
        "Classes": _classes(network),
        "Training data": _training_data(config, texts),
        "Training": _training(network, config, has_record),
        "Evaluation": _evaluation(results),
        "Limits": _limits(network, config, texts, results),
    }
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    head = f"`{config.class_path}` with {num_parameters:,} parameters. It {_purpose(network)}."
    body = [f"# {escaped(texts.title)}", "", head]
    for heading, lines in sections.items():
        body += ["", f"## {heading}", "", *lines] if lines else []
    metadata = yaml.safe_dump(card_metadata(network, config, texts, results), sort_keys=False, allow_unicode=True)
    return f"---\n{metadata}---\n\n" + "\n".join(body) + "\n"


def escaped(text: str) -> str:
    r"""Text of others, such as the name of a class, in Markdown, on one line.

    >>> escaped("a|b <c>")
    'a\\|b &lt;c>'
    """
    return re.sub(r"([\\|*_`\[\]])", r"\\\1", printable(text)).replace("<", "&lt;")


def _purpose(network: VideoNetwork) -> str:
    if not isinstance(network, VideoClassifier):
        return "computes features of short clips, or what its class is made for"
    several = getattr(network, "task", "single_label") == "multi_label"
    kind = "tells which of" if several else "tells"
    return f"{kind} {len(network.class_names)} kinds of action {'a video shows' if several else 'apart'}"


def _use(network: VideoNetwork, texts: CardTexts) -> list[str]:
    name = type(network).__name__ if type(network).__module__.startswith("lightning_modules") else "VideoNetwork"
    own = [] if name != "VideoNetwork" else [f"Its class is not part of {LIBRARY}: give `--allow` and its module."]
    commands = [f"python -m pipeline evaluate --checkpoint {texts.address} --data SHARDS --split test"]
    if isinstance(network, VideoClassifier):
        commands.insert(0, f"python -m pipeline classify VIDEOS --checkpoint {texts.address}")
    return [
        f"With {LIBRARY}; nothing is unpickled, and the weights are compared with the SHA-256 in `config.json`:",
        "",
        "```bash",
        *commands,
        "```",
        "",
        "```python",
        f"from lightning_modules import {name}",
        "",
        f'network = {name}.from_pretrained("{texts.address}")',
        "```",
        *(["", *own] if own else []),
    ]


def _input(network: VideoNetwork, config: ModelConfig) -> list[str]:
    clips = config.clips
    mean, std = ([round(number, 6) for number in value.tolist()] for value in (network.mean, network.std))
    rate = describe_rate(clips.get("fps"), clips.get("frame_interval", 1))
    resize, side = clips.get("resize"), clips.get("crop_size", "?")
    sides = [] if resize is None else [resize] if isinstance(resize, int) else resize
    kept = "resized if they are smaller" if resize is None else ""
    size = kept or f"resized to {'a short side of ' if len(sides) == 1 else ''}{' x '.join(map(str, sides))} pixels"
    rows = {
        "clip": f"{clips.get('num_frames', '?')} frames, {rate}",
        "frames": f"RGB, {size}; then the center {side} x {side}",
        "pixels": f"(x / 255 - mean) / std, mean {mean}, std {std}",
        "tensor": "float (N, C, T, H, W)",
    }
    if not clips:
        rows = {"clip": "not known; give `--num-frames` and `--crop-size`", "pixels": rows["pixels"]}
    return [*_table(("", ""), rows.items()), "", "The same, for programs, is in `preprocessing.json`."]


def _classes(network: VideoNetwork) -> list[str]:
    names = network.class_names
    if not names or not isinstance(network, VideoClassifier):
        return []
    shown = ", ".join(map(escaped, names[:_MOST_CLASSES]))
    more = f", and {len(names) - _MOST_CLASSES} more" if len(names) > _MOST_CLASSES else ""
    return [f"{shown}{more}. In the order of their labels: `{LABELS_NAME}`."]


def _training_data(config: ModelConfig, texts: CardTexts) -> list[str]:
    dataset, split_file = config.dataset, config.dataset.get("split_file")
    rows = {"source": texts.data_source or _NOT_STATED, "license": texts.data_license or _NOT_STATED}
    if dataset:
        rows = {"dataset": dataset["name"], "identity": dataset["identity"]} | rows
        fold = "" if dataset["fold"] is None else f", fold {dataset['fold']}"
        rows["split"] = f"{dataset['train_split']}{fold}"
        if split_file is not None:
            rows["split file"] = f"{split_file['name']}, SHA-256 {split_file['sha256']}"
        if dataset.get("rendition"):
            rows["rendition"] = f"short side {dataset['rendition']} pixels"
        if dataset.get("decoder"):
            rows["decoder"] = dataset["decoder"]
    else:
        rows = {"dataset": "not known"} | rows
    lines = _table(("", ""), ((name, escaped(value)) for name, value in rows.items()))
    if FINGERPRINTS_NAME in config.files:
        told = f"`{FINGERPRINTS_NAME}` has fingerprints of the training videos, from which `evaluate` knows them again."
        lines += ["", told]
    return lines


def _training(network: VideoNetwork, config: ModelConfig, has_record: bool) -> list[str]:
    checkpoint, arguments = config.checkpoint, config.init_args
    lines = []
    if has_record:
        command = f"python -m pipeline fit --config {TRAINING_NAME} --data.init_args.root SHARDS"
        lines += ["```bash", command, "```", ""]
    else:
        lines += ["The configuration of the training is not known.", ""]
    rows = {name: str(arguments[name]) for name in _OPTIMIZATION if arguments.get(name) is not None}
    rows |= {name: str(checkpoint[name]) for name in ("epoch", "global_step") if name in checkpoint}
    rows["checkpoint"] = f"{checkpoint['name']}, SHA-256 {checkpoint['sha256']}"
    if "pytorch-lightning_version" in checkpoint:
        rows["trained with"] = f"PyTorch Lightning {checkpoint['pytorch-lightning_version']}"
    rows["written with"] = ", ".join(f"{name} {version}" for name, version in config.versions.items())
    return [*lines, *_table(("", ""), ((name, escaped(value)) for name, value in rows.items()))]


def _evaluation(results: Sequence[EvaluationResults]) -> list[str]:
    if not results:
        return ["Not evaluated by the author, or not told."]
    lines: list[str] = []
    for one in results:
        provenance = one.provenance
        fold = "" if provenance.get("fold") is None else f", fold {provenance['fold']}"
        subject = f"{escaped(provenance['dataset'])}, {provenance['split']}{fold}"
        rows = [(figure.heading, _percent(figure.value), _interval(figure.interval)) for figure in one.figures]
        if one.chance is not None:
            rows.append(("chance", _percent(one.chance), ""))
        level = f"{100 * one.level:g} % interval"
        lines += [] if not lines else [""]
        lines += [f"On {one.num_videos} videos of {subject}:", "", *_table(("", "", level), rows), ""]
        kind, number = one.drawn
        lines.append(f"Intervals by bootstrap over {number} {kind}. Protocol: {escaped(describe_protocol(one))}.")
        lines.append(f"Dataset identity {provenance['dataset_identity']}. {_held_out(one)}")
        if one.missing:
            lines.append(f"{one.missing} videos could not be decoded and count as wrong.")
    return lines


def _held_out(results: EvaluationResults) -> str:
    overlap = results.provenance.get("overlap")
    if overlap is not None:
        seen = overlap["videos"] + overlap["content"]
        return f"Not held out: {seen} of these videos were in the training, and {overlap['groups']} groups."
    if not results.provenance.get("training_videos_known"):
        return "What the network was trained on is not fully known, so whether these videos are held out is not."
    return "None of these videos, nor of their groups, was found in the training."


def _limits(
    network: VideoNetwork, config: ModelConfig, texts: CardTexts, results: Sequence[EvaluationResults]
) -> list[str]:
    found = [texts.limits] if texts.limits else []
    if isinstance(network, VideoClassifier) and getattr(network, "task", "single_label") == "single_label":
        found.append("It gives one of its classes for every video, also for videos that show none of them.")
    frames, fps = config.clips.get("num_frames"), config.clips.get("fps")
    if frames and fps:
        found.append(f"A clip is {frames / fps:.3g} seconds long; what takes longer is seen in parts only.")
    elif frames:
        span = 1 + (frames - 1) * config.clips.get("frame_interval", 1)
        found.append(f"A clip spans {span} frames of the video; what takes longer is seen in parts only.")
    if not results:
        found.append("Its accuracy was not told by the author: evaluate it on videos of your own before use.")
    if any(one.provenance["dataset_identity"] == config.dataset.get("identity") for one in results):
        found.append("The figures are of the dataset that it was trained on; on videos of other sources expect less.")
    if texts.data_license is None:
        found.append("The license of the training videos is not stated: ask the author before commercial use.")
    return [f"- {line}" for line in found]


def _table(headings: Sequence[str], rows: Any) -> list[str]:
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(interval: tuple[float, float] | None) -> str:
    return "none" if interval is None else f"{_percent(interval[0])} to {_percent(interval[1])}"

"""Metadata of a model card, by which the Hugging Face Hub finds and shows a model, and what its author says of it.

The fields are those of modelcard.md of huggingface/hub-docs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_modules import VideoClassifier, VideoNetwork
from lightning_modules.networks.library_networks import TRANSFORMERS_PREFIX
from lightning_modules.weights.model_repository import ModelConfig
from pipeline.publication.evaluation_results import EvaluationResults
from pipeline.publication.licenses import hub_license

LIBRARY = "action-recognition-pipeline"


@dataclass(frozen=True, kw_only=True)
class CardTexts:
    """What only the author of a model knows; None where nothing was said.

    Attributes:
        title: name of the model.
        address: where it is opened from: `hf://ORG/NAME`, or the name of the folder.
        license: identifier of the license of the weights on the Hub; with `license_link` any name.
        license_link: file or URL of a license that the Hub does not know.
        data_license: license or terms of the training videos.
        data_source: where they are from.
        datasets: their identifiers on the Hub.
        intended_use: what the model is for.
        limits: what it is not for, or does badly.
    """

    title: str
    address: str
    license: str | None = None
    license_link: str | None = None
    data_license: str | None = None
    data_source: str | None = None
    datasets: Sequence[str] = ()
    intended_use: str | None = None
    limits: str | None = None


def card_metadata(
    network: VideoNetwork, config: ModelConfig, texts: CardTexts, results: Sequence[EvaluationResults]
) -> dict[str, Any]:
    """The metadata of a model card as plain data, in the order in which it is written.

    Args:
        network: the network.
        config: its config.json.
        texts: what the author says.
        results: its evaluations.
    """
    metadata: dict[str, Any] = {}
    if texts.license is not None:
        known = texts.license_link is None
        metadata["license"] = hub_license(texts.license) if known else "other"
        metadata |= {} if known else {"license_name": texts.license, "license_link": texts.license_link}
    metadata["library_name"] = LIBRARY
    if isinstance(network, VideoClassifier):
        metadata["pipeline_tag"] = "video-classification"
    metadata["tags"] = ["action-recognition", "video", "pytorch-lightning"]
    if texts.datasets:
        metadata["datasets"] = list(texts.datasets)
    base = _base_model(config.init_args)
    if base is not None:
        metadata["base_model"] = base
    if results:
        metadata["metrics"] = sorted({figure.metric_type for one in results for figure in one.figures})
        index = [_index_entry(one, texts) for one in results]
        metadata["model-index"] = [{"name": texts.title, "results": index}]
    return metadata


def _index_entry(results: EvaluationResults, texts: CardTexts) -> dict[str, Any]:
    """The results of an evaluation as an entry of `model-index`."""
    provenance = results.provenance
    dataset = texts.datasets[0] if texts.datasets else provenance["dataset"]
    metrics = [
        {"type": figure.metric_type, "value": round(figure.value, 6), "name": figure.heading}
        for figure in results.figures
    ]
    return {
        "task": {"type": "video-classification", "name": "Action recognition"},
        "dataset": {"type": dataset, "name": provenance["dataset"], "split": provenance["split"]},
        "metrics": metrics,
    }


def _base_model(arguments: Mapping[str, Any]) -> str | None:
    """The network of the Hub that a network or its encoder began with."""
    for name in ("network", "encoder"):
        found = re.fullmatch(rf"{TRANSFORMERS_PREFIX}([\w.-]+/[\w.-]+)", str(arguments.get(name)))
        if found:
            return found[1]
    return None

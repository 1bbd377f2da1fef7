"""The verbs of `python -m pipeline`: the module of each, and its line of help.

A verb X is the function X of its module or, where it parses its own command line, the function `main`. Modules are
imported when their verb is called.
"""

import importlib
from collections.abc import Callable
from typing import Any

LIGHTNING_VERBS = {
    "fit": "train a model from a YAML config",
    "validate": "run a checkpoint on the validation split",
    "test": "run a checkpoint on the test split",
    "predict": "run a checkpoint and write its output for every video",
}
CONFIG_VERBS = {
    "show": "write a page of clips exactly as training, test and export see them",
    "doctor": "test whether this machine is ready for a run: versions, decoder, data, disk, GPU, one real step",
}
VERBS = {
    "synthesize": "generate a Kinetics-style dataset of video files whose classes differ by motion alone",
    "pack": "turn annotations and videos into WebDataset shards with an index",
    "split": "divide a packed dataset into splits or folds, under a name, without packing again",
    "plan": "show who reads what in an epoch, on any number of ranks",
    "evaluate": "score checkpoints on a held-out split, several views a video, and report",
    "compare": "test whether one result is better than another on the same videos, and list the differences",
    "fuse": "average the scores of several results, such as two streams, and evaluate the mean",
    "review": "list the videos to label next, the least certain or most disputed ones, with a page of previews",
    "prelabel": "write predictions as what Label Studio or FiftyOne imports",
    "features": "export a named layer's features of every video",
    "classify": "classify the action in video files with a checkpoint or published weights",
    "describe": "caption video files with a checkpoint",
    "export": "write a checkpoint as an ONNX or torch.export program, checked against the checkpoint",
    "publish": "write a checkpoint as a model repository of the Hugging Face Hub, with a model card",
    "weights": "list, get and convert published checkpoints",
    "linear": "train a linear classifier on exported features and test it",
    "verify": "check a packed dataset: shards, index and manifest; with --full every frame",
    "index": "rebuild index and manifest from the shards alone, also of tars from elsewhere",
    "quarantine": "exclude videos of a packed dataset from training and evaluation",
    "stats": "show the class balance, durations, rates and sizes of a dataset",
    "summarize": "print several reports side by side",
}
RANKED_VERBS = ("evaluate", "features")  # a job runs these on all its train workers, which share the videos

_MODULES = {
    "synthesize": "pipeline.dataset_tools.synthesize",
    "pack": "pipeline.packing.pack",
    "split": "pipeline.dataset_tools.split",
    "plan": "pipeline.dataset_tools.plan",
    "evaluate": "pipeline.evaluation.evaluate",
    "compare": "pipeline.evaluation.compare",
    "fuse": "pipeline.evaluation.fuse",
    "review": "pipeline.label_tools.review",
    "prelabel": "pipeline.label_tools.prelabel",
    "features": "pipeline.features.features",
    "classify": "pipeline.classify.classify",
    "describe": "pipeline.classify.describe",
    "export": "pipeline.export.export",
    "publish": "pipeline.publication.publish",
    "weights": "pipeline.inference.weights",
    "linear": "pipeline.linear.linear",
    "verify": "pipeline.dataset_tools.verify",
    "index": "pipeline.dataset_tools.index",
    "quarantine": "pipeline.dataset_tools.quarantine",
    "stats": "pipeline.dataset_tools.stats",
    "summarize": "pipeline.evaluation.summarize",
    "show": "pipeline.dataset_tools.show",
    "doctor": "pipeline.doctor.doctor",
    **dict.fromkeys(LIGHTNING_VERBS, "pipeline.training.lightning_cli"),
}


def load_verb(verb: str) -> Callable[..., Any]:
    """Import the function of a verb: for `VERBS` the function of the same name, else `main` of the verb's module.

    Args:
        verb: One of `VERBS`, `CONFIG_VERBS` or `LIGHTNING_VERBS`.
    """
    module = importlib.import_module(_MODULES[verb])
    found: Callable[..., Any] = getattr(module, verb if verb in VERBS else "main")
    return found

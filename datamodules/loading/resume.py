"""Resume: identity and order of the training data in a checkpoint, and the check that they match the present data."""

from collections.abc import Mapping
from typing import Any

from datamodules.batch import Stream
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.split_options import SplitOptions
from datamodules.loading.data_options import DataOptions
from datamodules.sampling.batch_sampler import ResumePoint
from datamodules.sampling.order_options import OrderOptions
from datamodules.splits.split_file import PACKED
from datamodules.video.decoding import describe_decoder

_OVERRIDE_ADVICE = "or set data.init_args.resume_on_other_data=true to go on here all the same"


def dataset_state(
    index: DatasetIndex, root: object, options: SplitOptions, decoder: str, stream: Stream = "rgb"
) -> dict[str, Any]:
    """Describes the training data as plain data.

    `identity` is that of the rendition read, and must match to resume: other bytes would be another training. `family`
    is shared by all renditions of a dataset, as are the row numbers of a video, so that `evaluate` can tell which
    videos a checkpoint was trained on, whichever rendition it is scored on.

    Args:
        index: the index of the rendition that is read.
        root: folder or URL of the dataset.
        options: split and fold.
        decoder: resolved name of the decoder.
        stream: what the frames are: RGB, optical flow, or both.
    """
    return {
        "name": index.name,
        "identity": index.identity,
        "family": index.manifest.family,
        "rendition": index.manifest.encode.get("short_side"),
        "root": str(root),
        "train_split": options.train_split,
        "fold": None if options.fold is None else str(options.fold),
        "split_file": None if index.split_file is None else index.split_file._asdict(),
        "decoder": describe_decoder(decoder),
        "stream": stream,
        "flow": None if stream == "rgb" else index.manifest.encode.get("flow"),
    }


def describe_split_file(recorded: Mapping[str, str] | None) -> str:
    """Name and digest of a recorded split file; None is that of the packed splits.

    >>> describe_split_file({"name": "people", "sha256": "0123456789abcdef"}), describe_split_file(None)
    ('people (0123456789ab)', 'packed')
    """
    return PACKED if recorded is None else f"{recorded['name']} ({recorded['sha256'][:12]})"


def order_state(options: OrderOptions) -> dict[str, Any]:
    """Returns the settings that determine video order and augmentation; `scheme` is the version of the algorithm."""
    window = options.shard_window if options.shuffle == "shards" else None
    return {
        "scheme": 1,
        "seed": options.seed,
        "shuffle": options.shuffle,
        "shard_window": window,
        "class_balance": options.class_balance,
    }


def resume_point(state: Mapping[str, Any], identity: Mapping[str, Any], options: DataOptions) -> ResumePoint:
    """Returns the point at which training resumes.

    Args:
        state: state of the data module in the checkpoint.
        identity: `dataset_state` of the present data.
        options: options of the data module.

    Raises:
        ValueError: the data or their order differ, and `resume_on_other_data` is false.
    """
    if not options.resume_on_other_data:
        _check_same_data(state, identity, order_state(options), options.rendition)
    elif state["dataset"]["identity"] != identity["identity"]:  # none of these videos has been seen
        return ResumePoint(state["epoch"], 0, state["steps"])
    return ResumePoint(state["epoch"], state["consumed"], state["steps"])


def _check_same_data(
    state: Mapping[str, Any], identity: Mapping[str, Any], order: Mapping[str, Any], rendition: int | str
) -> None:
    """Compares the data of a checkpoint with those of the data module.

    Args:
        state: state of the data module in the checkpoint: `dataset`, `consumed` and `order`.
        identity: identity of the data module.
        order: settings of the present order and augmentation: scheme, seed, shuffle, shard_window, class balance.
        rendition: the rendition option.

    Raises:
        ValueError: other videos, rendition, split or fold; or another order within an epoch, in which some videos would
            be repeated and some never seen.
    """
    trained_on = state["dataset"]
    if trained_on["identity"] != identity["identity"]:
        if trained_on.get("family") == identity["family"] and trained_on["rendition"] != identity["rendition"]:
            raise ValueError(
                f"rendition={rendition}: reads short side {identity['rendition']} of {identity['name']}, and the "
                f"checkpoint was trained on {trained_on['rendition']}: set data.init_args.rendition to "
                f"{trained_on['rendition']} to resume, {_OVERRIDE_ADVICE}"
            )
        raise ValueError(
            f"the checkpoint was trained on dataset {trained_on['name']} ({trained_on['identity'][:12]}), but "
            f"root={identity['root']!r} holds {identity['name']} ({identity['identity'][:12]}): resume on the same "
            f"data, {_OVERRIDE_ADVICE}"
        )
    for name in ("train_split", "fold", "stream", "flow"):
        if trained_on.get(name, identity[name]) != identity[name]:
            raise ValueError(
                f"{name}={identity[name]}: the checkpoint was trained on {name}={trained_on[name]}; resume on that, "
                f"{_OVERRIDE_ADVICE}"
            )
    trained, present = trained_on.get("split_file"), identity["split_file"]
    if (trained or {}).get("sha256") != (present or {}).get("sha256"):
        raise ValueError(
            f"split_file={describe_split_file(present)}: the checkpoint was trained on other splits, those of "
            f"{describe_split_file(trained)}; resume on those, {_OVERRIDE_ADVICE}"
        )
    saved_order = {"class_balance": "none"} | state.get("order", order)  # absent in older checkpoints
    if state["consumed"] and saved_order != order:
        changed = [
            f"{name}={order[name]} (it was {saved_order[name]})"
            for name in order
            if order[name] != saved_order.get(name)
        ]
        raise ValueError(
            f"{', '.join(changed)}: the checkpoint is from within an epoch, and the videos that remain would come in "
            f"another order, some twice and some never: resume with what it was, {_OVERRIDE_ADVICE}"
        )

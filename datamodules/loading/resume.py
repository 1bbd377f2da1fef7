"""What a checkpoint says of the data of its run, and where it resumes on those at hand: the same, in the same order."""

from collections.abc import Mapping
from typing import Any

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.split_options import SplitOptions
from datamodules.loading.data_options import DataOptions
from datamodules.sampling.batch_sampler import ResumePoint
from datamodules.sampling.order_options import OrderOptions
from datamodules.video.decoding import describe_decoder

_WAY_OUT = "or set data.init_args.resume_on_other_data=true to go on here all the same"


def dataset_state(index: DatasetIndex, root: object, options: SplitOptions, decoder: str) -> dict[str, Any]:
    """Which data they are, as plain data.

    Its `identity` is that of the rendition which is read, and what resuming is held against: other bytes would be
    another training. `family` is the same for all renditions of a dataset, and so are the row numbers of a video: by it
    `evaluate` knows what a checkpoint has seen, whichever rendition it is scored on.

    Args:
        index: of the rendition that is read.
        root: folder or URL of the dataset.
        options: which videos are read.
        decoder: its name, resolved.
    """
    return {
        "name": index.name,
        "identity": index.identity,
        "family": index.manifest.family,
        "rendition": index.manifest.encode.get("short_side"),
        "root": str(root),
        "train_split": options.train_split,
        "fold": None if options.fold is None else str(options.fold),
        "decoder": describe_decoder(decoder),
    }


def recorded_order(options: OrderOptions) -> dict[str, Any]:
    """What the order of videos and the augmentation follow from; `scheme` changes when the arithmetic does."""
    window = options.shard_window if options.shuffle == "shards" else None
    return {"scheme": 1, "seed": options.seed, "shuffle": options.shuffle, "shard_window": window}


def resume_point(state: Mapping[str, Any], identity: Mapping[str, Any], options: DataOptions) -> ResumePoint:
    """Where a checkpoint's run is taken up.

    Args:
        state: in the checkpoint.
        identity: of the data at hand.
        options: of the data module.

    Raises:
        ValueError: the data are others, or in another order, and nobody allowed that.
    """
    if not options.resume_on_other_data:
        _refuse_other_data(state, identity, recorded_order(options), options.rendition)
    elif state["dataset"]["identity"] != identity["identity"]:  # nothing of these has been seen
        return ResumePoint(state["epoch"], 0, state["steps"])
    return ResumePoint(state["epoch"], state["consumed"], state["steps"])


def _refuse_other_data(
    state: Mapping[str, Any], here: Mapping[str, Any], order: Mapping[str, Any], rendition: int | str
) -> None:
    """Holds what a checkpoint says of its run's data against the data module's.

    Args:
        state: of the data module in the checkpoint: `dataset`, `consumed`, and `order` where it is new enough.
        here: the data module's `identity`.
        order: what the order of its videos and their augmentation follow from: scheme, seed, shuffle, shard_window.
        rendition: as it was asked for.

    Raises:
        ValueError: other videos, another rendition, split or fold of them; or another order in the middle of an epoch,
            where some videos would come twice and some never.
    """
    trained_on = state["dataset"]
    if trained_on["identity"] != here["identity"]:
        if trained_on.get("family") == here["family"] and trained_on["rendition"] != here["rendition"]:
            raise ValueError(
                f"rendition={rendition}: reads short side {here['rendition']} of {here['name']}, and the checkpoint "
                f"was trained on {trained_on['rendition']}: set data.init_args.rendition to {trained_on['rendition']} "
                f"to resume, {_WAY_OUT}"
            )
        raise ValueError(
            f"the checkpoint was trained on dataset {trained_on['name']} ({trained_on['identity'][:12]}), but "
            f"root={here['root']!r} holds {here['name']} ({here['identity'][:12]}): resume on the same data, {_WAY_OUT}"
        )
    for name in ("train_split", "fold"):
        if trained_on.get(name, here[name]) != here[name]:
            raise ValueError(
                f"{name}={here[name]}: the checkpoint was trained on {name}={trained_on[name]}; resume on that, "
                f"{_WAY_OUT}"
            )
    before = state.get("order", order)
    if state["consumed"] and before != order:
        changed = [f"{name}={order[name]} (it was {before[name]})" for name in order if order[name] != before.get(name)]
        raise ValueError(
            f"{', '.join(changed)}: the checkpoint is from within an epoch, and the videos that remain would come in "
            f"another order, some twice and some never: resume with what it was, {_WAY_OUT}"
        )

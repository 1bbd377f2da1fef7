"""Whether a checkpoint may be resumed on the data at hand: the same videos, in the same order."""

from collections.abc import Mapping
from typing import Any

_WAY_OUT = "or set data.init_args.resume_on_other_data=true to go on here all the same"


def refuse_other_data(
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

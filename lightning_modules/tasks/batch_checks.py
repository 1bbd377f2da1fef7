"""Checks of batches before a network computes on them."""

from datamodules.batch import ClipBatch


def refuse_unfinished_clips(batch: ClipBatch) -> None:
    """Refuses clips that the data module still has to convert or crop on the device.

    Raises:
        ValueError: the clips are not RGB, or still hold several crops each.
    """
    if batch.pixel_format != "rgb":
        raise ValueError(
            f"the clips are still {batch.pixel_format}, not rgb: give the trainer the data module instead of its "
            "loader, or call the data module's on_after_batch_transfer"
        )
    if batch.crops_to_cut > 1:
        raise ValueError(
            f"the clips still hold {batch.crops_to_cut} crops each: give the trainer the data module instead of "
            "its loader, or call the data module's on_after_batch_transfer"
        )

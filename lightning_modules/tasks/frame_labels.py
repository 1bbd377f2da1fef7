"""Labels of frames: which of them count, and which networks can learn them."""

from torch import Tensor


def known_frames(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The scores and labels of the frames that have a label.

    Args:
        scores: float (M, K).
        labels: int64 (M,), class indices, or with several labels (M, K), 1 or 0; -1 for frames that do not count.
    """
    known = (labels if labels.ndim == 1 else labels[:, 0]) >= 0
    return scores[known], labels[known]


def refuse_labels_by_time(network: str, labels_frames: bool, mixing: tuple[float, float, float]) -> None:
    """Refuses to train or test on labels by time what gives one label a clip, or mixes clips.

    Args:
        network: name of its class.
        labels_frames: whether the network gives a label to each frame.
        mixing: alphas of MixUp and CutMix, and the fraction of batches that are mixed.

    Raises:
        ValueError: it does not.
    """
    if not labels_frames:
        raise ValueError(
            f"{network}: gives one label a clip, and the dataset has labels by time; train a CNNLSTM with "
            "readout=every, or pack the segments as videos of their own (without --timelines)"
        )
    if mixing[0] > 0 or mixing[1] > 0:
        raise ValueError(
            f"mixup_alpha={mixing[0]}, cutmix_alpha={mixing[1]}: mix clips that have one label, and the dataset has "
            "labels by time; leave both out"
        )

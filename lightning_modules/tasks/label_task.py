"""`Task`: one class or several labels a video; names of classes, loss of scores, refusal of the other task."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

# As in `datamodules.annotations.records.Task`.
Task = Literal["single_label", "multi_label"]
_MIN_PROBABILITY = 1e-12  # lower bound of a probability before its logarithm
_DESCRIPTIONS = {"single_label": "one class a video", "multi_label": "several labels a video"}


def scores_loss(scores: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Mean loss of the scores of B videos, a scalar.

    Args:
        scores: probabilities of the classes, float (B, K).
        labels: int64 (B,); for `multi_label` (B, K), 1 or 0.
        task: what the labels are.
    """
    if task == "single_label":
        return F.nll_loss(scores.clamp_min(_MIN_PROBABILITY).log(), labels)
    positive, negative = (part.clamp_min(_MIN_PROBABILITY).log() for part in (scores, 1 - scores))
    return -(labels * positive + (1 - labels.to(scores.dtype)) * negative).mean()


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Class indices as 0 and 1 for each class, int64 (N,) to float32 (N, K), without reading them on the host."""
    zeros = torch.zeros((len(labels), num_classes), device=labels.device)
    return zeros.scatter_(1, labels[:, None], 1.0)


def refuse_other_task(subject: str, task: str, other_subject: str, other_task: str, remedy: str) -> None:
    """Raises ValueError, in one sentence, unless both have the same task.

    Args:
        subject: start of the message: the argument with its value, or what was trained.
        task: its task.
        other_subject: what it is compared with.
        other_task: the task of that.
        remedy: end of the message, what to do.
    """
    if task != other_task:
        raise ValueError(
            f"{subject} is of {_DESCRIPTIONS[task]} (task {task}), {other_subject} of {_DESCRIPTIONS[other_task]} "
            f"(task {other_task}): {remedy}"
        )


def refuse_unknown_task(task: str) -> None:
    """Raises ValueError for a task that does not exist."""
    if task not in get_args(Task):
        raise ValueError(f"task={task!r}: must be {' or '.join(get_args(Task))}")


def resolve_class_names(num_classes: int | None, class_names: Sequence[str] | None) -> list[str]:
    """The names of the K classes: those given, else their numbers.

    Raises:
        ValueError: the two arguments contradict.
    """
    if class_names is None:
        return [str(number) for number in range(num_classes or 0)]
    if num_classes is not None and num_classes != len(class_names):
        raise ValueError(f"num_classes={num_classes}, but there are {len(class_names)} class_names")
    return list(class_names)

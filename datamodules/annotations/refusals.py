"""`Refusal`: a video that is left out of a dataset, and the words by which the reasons are counted."""

from typing import NamedTuple

HANG = "hang"  # longer than the time limit; the process was killed
CRASH = "crash"  # the decoder took its process down
ERROR = "error"  # anything unforeseen; the detail says what
OUTSIDE = "outside classes"  # in a folder of videos, yet in none that names a class
NOT_TEXT = "name"  # not UTF-8, which no table can hold
ADDRESS = "address"  # of a file elsewhere, which is not fetched
BY_HAND = "by hand"  # put on the list by a person who gave no reason


class Refusal(NamedTuple):
    """A video left out.

    Attributes:
        path: The file, relative to the folder of the videos.
        key: Key of the video in the dataset.
        reason: One of a few words to count by: those of `DecodeError`, `hang`, `crash`, `error`, or a person's own.
        detail: What was seen, one line.
    """

    path: str
    key: str
    reason: str
    detail: str

"""`Refusal`: a video that is left out of a dataset, and the reasons by which refusals are counted."""

from typing import NamedTuple

HANG = "hang"  # longer than the time limit; the process was killed
CRASH = "crash"  # the decoder crashed its process
ERROR = "error"  # any unexpected error; the detail has its message
OUTSIDE_CLASSES = "outside classes"  # in a folder of videos, but not in a class folder
BAD_NAME = "name"  # not UTF-8, which no table can represent
ADDRESS = "address"  # a URL, which is not fetched
NO_INTERVAL = "no interval"  # a segment that ends at its beginning or before it
BY_HAND = "by hand"  # added by a user without a reason


class Refusal(NamedTuple):
    """A video that was left out.

    Attributes:
        path: The path of the file, relative to the folder of the videos.
        key: Key of the video in the dataset.
        reason: Category of the reason, for counts: one of `DecodeError`, `hang`, `crash`, `error`, or a user's own.
        detail: Description of the failure, one line.
    """

    path: str
    key: str
    reason: str
    detail: str

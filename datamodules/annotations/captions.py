"""Captions: sentences that tell what is to be seen in a video."""


def as_captions(value: object) -> tuple[str, ...]:
    """The captions in what a json or a list says: one or several, their blanks made single; others are no captions.

    >>> as_captions([" a man  runs", "", "running"])
    ('a man runs', 'running')
    """
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(text for one in several if isinstance(one, str) and (text := " ".join(one.split())))

"""`python -m jobs tune`: the command line of a search's job, and the table of a search's trials."""

from collections.abc import Sequence

from jobs.spec.job import SEARCH_VERB
from jobs.storage.search_record import SearchRecord
from jobs.storage.trial_table import count_states, describe_search
from jobs.submission.resume import find_run


def search_command(space_file: str | None, command: Sequence[str]) -> list[str]:
    """The command line of a search's job: `tune --space FILE -- fit ...`; ValueError if a part is missing.

    Args:
        space_file: The path of the file of the search space; None if it was not given.
        command: The command line of the trials, from `fit` on.
    """
    if space_file is None:
        raise ValueError("space: name the file of what varies, as in `tune --space SPACE.yaml -- fit --config C.yaml`")
    return [SEARCH_VERB, "--space", space_file, "--", *command]


def describe_status(job_name: str, address: str | None) -> list[str]:
    """The trials of a search as a table in lines of text, the best first.

    Args:
        job_name: The id of the search's job, or its name.
        address: The address of the cluster; None: the one that `submit` would use.

    Raises:
        ValueError: there is no such search, or this machine does not see its folder.
    """
    name, storage_path = find_run(job_name, None, address)
    record = SearchRecord(storage_path, name)
    space = record.read_space()
    if space is None:
        raise ValueError(f"{record.run.address} holds no search, or this machine does not see that folder")
    trials = record.read_trials(space)
    return [f"trials: {count_states(trials, space)}", *describe_search(record, trials, space)]

"""Folders of this user that outlive a run, where the system keeps such: $XDG_CACHE_HOME, ~/Library/Caches, ..."""

from pathlib import Path

from platformdirs import user_cache_path, user_state_path

_APPLICATION = "action-recognition-pipeline"


def user_cache_folder() -> Path:
    """What can be made or fetched again: $XDG_CACHE_HOME/action-recognition-pipeline, else under ~/.cache on Linux."""
    return user_cache_path(_APPLICATION, appauthor=False)


def user_state_folder() -> Path:
    """What must be kept: $XDG_STATE_HOME/action-recognition-pipeline, else under ~/.local/state on Linux."""
    return user_state_path(_APPLICATION, appauthor=False)

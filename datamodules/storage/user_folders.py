"""Per-user folders that outlive a run, at the system's usual places: $XDG_CACHE_HOME, ~/Library/Caches, ..."""

from pathlib import Path

from platformdirs import user_cache_path, user_state_path

_APPLICATION = "action-recognition-pipeline"


def user_cache_folder() -> Path:
    """Folder for data that can be recreated: $XDG_CACHE_HOME/action-recognition-pipeline, or ~/.cache on Linux."""
    return user_cache_path(_APPLICATION, appauthor=False)


def user_state_folder() -> Path:
    """Folder for data to be kept: $XDG_STATE_HOME/action-recognition-pipeline, or ~/.local/state on Linux."""
    return user_state_path(_APPLICATION, appauthor=False)

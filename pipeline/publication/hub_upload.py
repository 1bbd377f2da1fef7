"""Sending a model repository to the Hugging Face Hub."""

import re
from pathlib import Path

from lightning_modules.weights.hub import HUB_PREFIX, hub_client

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def refuse_push(name: str) -> None:
    """Raises an error if nothing can be sent to a repository, before the work begins.

    Args:
        name: `ORG/NAME`.

    Raises:
        ImportError: huggingface_hub is not installed.
        PermissionError: there is no token.
        ValueError: not such a name.
    """
    if not _NAME.fullmatch(name.removeprefix(HUB_PREFIX)):
        raise ValueError(f"push={name!r}: give ORG/NAME, an organization or user of the hub and the model's name")
    with hub_client(f"push={name!r}") as hub:
        if hub.get_token() is None:
            raise PermissionError(f"push={name!r}: no token is here; log in with `hf auth login`, or set HF_TOKEN")


def push_folder(folder: Path, name: str, private: bool) -> str:
    """Sends a folder as a commit to a repository, which is created if there is none.

    What the repository has under other names stays; what it had under these stays in its history.

    Args:
        folder: a model repository.
        name: `ORG/NAME`.
        private: whether a new repository is private.

    Returns:
        The address of the commit, `hf://ORG/NAME@COMMIT`.

    Raises:
        OSError: the hub cannot be reached, or refuses.
        ValueError: the hub does not accept the model card.
    """
    repository = name.removeprefix(HUB_PREFIX)
    try:
        with hub_client(f"push={name!r}") as hub:
            api = hub.HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository, folder_path=str(folder), commit_message=f"Publish {repository.partition('/')[2]}"
            )
    except (OSError, ValueError) as error:
        again = f"python -m pipeline publish --checkpoint {folder} --push {name}"
        raise type(error)(f"{error}; the folder is written: send it again with `{again}`") from error
    return f"{HUB_PREFIX}{repository}@{commit.oid}"

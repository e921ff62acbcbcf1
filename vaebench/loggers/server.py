"""The server of Weights & Biases: installation, key, connection, and error messages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from vaebench.errors import UserError

PROJECT = "vaebench"
ANSWER = 20  # seconds to wait for the server to identify the key's owner


def require_wandb(*modules: str) -> None:
    """Raises a UserError where a package of Weights & Biases is not installed."""
    for module in ("wandb", *modules):
        if find_spec(module) is None:
            raise UserError(f"Weights & Biases needs the package '{module}'; install vaebench[wandb]")


def has_key() -> bool:
    """Whether there is a key for the server, in the environment, .netrc, or from `wandb login`; never prompts."""
    import wandb
    from wandb.sdk.lib.wbauth import authenticate_session

    settings = wandb.setup(wandb.Settings(silent=True)).settings
    session = authenticate_session(host=settings.base_url, source="vaebench", prompt=False, update_session=False)
    return session is not None


def project_of(text: str) -> tuple[str | None, str]:
    """Entity and project of 'ENTITY/PROJECT' or 'PROJECT'; '' uses those of the environment.

    Raises:
        UserError: it is neither.

    >>> project_of("me/vaes")
    ('me', 'vaes')
    """
    if not text:
        return None, os.environ.get("WANDB_PROJECT") or PROJECT
    if not re.fullmatch(r"([\w.-]+/)?[\w.-]+", text):
        raise UserError(f"'{text}' is no project of Weights & Biases: expected ENTITY/PROJECT, such as me/vaes")
    entity, _, project = text.rpartition("/")
    return entity or None, project


@contextmanager
def connected(path: str) -> Iterator[tuple[Any, str, str]]:
    """`wandb.Api()` with entity and project, for a block; the server's errors become UserErrors.

    Args:
        path: 'ENTITY/PROJECT', or 'PROJECT' of the default entity.

    Raises:
        UserError: wandb is not installed, there is no key, or the server does not answer, or refuses.
    """
    require_wandb()
    import wandb

    entity, project = project_of(path)
    try:
        if not has_key():
            raise UserError(
                f"there is no key for Weights & Biases ({wandb.setup().settings.base_url}), which '{path}' needs: set "
                "WANDB_API_KEY or run `wandb login`"
            )
        api = wandb.Api()
        owner = entity or api.default_entity
        if owner is None:
            raise UserError(f"'{path}' does not say whose project it is: expected ENTITY/PROJECT; name the entity")
        yield api, owner, project
    except Exception as error:
        if not from_server(error):
            raise
        raise UserError(
            f"Weights & Biases failed ({reason(error)}): expected an answer about '{path}'; check the name, the key "
            "and the connection, and try again"
        ) from error


def from_server(error: Exception) -> bool:
    """Whether an error is from the server or the connection; wandb has no common class for them."""
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or package in ("wandb", "wandb_workspaces", "requests")


def reason(error: Exception) -> str:
    """An error's message on one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")


def unreachable() -> str:
    """Why runs cannot be sent: there is no key, or the server does not accept it; '' where they can."""
    import wandb

    try:
        if not has_key():
            return "there is no key"
        return "" if wandb.Api(timeout=ANSWER).default_entity else "the server does not know the key"
    except Exception as error:
        if not from_server(error):
            raise
        return reason(error)

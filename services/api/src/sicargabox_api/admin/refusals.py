"""Our errors as sentences for staff, in the language of the page. The core speaks English, to programs and logs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette_admin.i18n import gettext

from sicargabox_api.admin.language import _
from sicargabox_core.errors import (
    AlreadyRunning,
    Conflict,
    DataFault,
    Forbidden,
    InvalidInput,
    InvalidSetting,
    NotFound,
    SicargaBoxError,
    TaskFailed,
    TooManyRequests,
    Unavailable,
)

# By kind and field; the first that fits decides.
_SENTENCES: tuple[tuple[type[SicargaBoxError], str | None, Any], ...] = (
    (AlreadyRunning, None, _("This task is already running.")),
    (InvalidInput, "username", _("A user name has 2 to 60 letters, digits, dots, dashes or underscores.")),
    (InvalidInput, "password", _("A password has 10 to 200 characters.")),
    (InvalidInput, "name", _("A name has 2 to 60 letters, digits, dots, dashes or underscores.")),
    (InvalidInput, "scopes", _("Choose at least one permission.")),
    (InvalidInput, "line_code", _("There is no such tariff line.")),
    (InvalidInput, "code", _("There is no such tariff line.")),
    (InvalidInput, "text", _("A keyword has at most 120 characters, among them a letter or a digit.")),
    (Conflict, "username", _("That user name is taken, or this is the last administrator.")),
    (Conflict, "name", _("That name is taken.")),
    (NotFound, None, _("That does not exist (any more).")),
    (TooManyRequests, None, _("Too many requests. Wait a moment and try again.")),
    (Unavailable, None, _("A server that is needed does not answer. Try again in a moment.")),
    (Forbidden, None, _("Your role does not allow this.")),
)


# What a task ended of, by its error's code.
_OF_TASKS: dict[str, Any] = {
    Unavailable.code: _("A server that is needed did not answer, however often it was tried. See that it runs."),
    InvalidSetting.code: _("A setting is wrong: the exact words name it. Correct it, then start the task again."),
    Conflict.code: _("Something had changed since the task was asked for. Look at what is there now."),
    DataFault.code: _("What is stored cannot be read. Rebuild the index."),
    TaskFailed.code: _("It cannot be done as things are. The exact words say why; start the task again after that."),
    "time_limit": _("It took longer than it may. Start the task again when the servers are less busy."),
    "lease_expired": _("Its worker was lost each time. See that workers run and have enough memory."),
}


def sentence_of_code(code: str | None) -> str | None:
    """What a task's error means and what to do; none where only its own words say it."""
    found = _OF_TASKS.get(code or "")
    return None if found is None else str(found)


def sentence(error: SicargaBoxError) -> str:
    """What to tell a member of staff; an error nobody foresaw here keeps its English words, which hold no secret."""
    for kind, field, text in _SENTENCES:
        if isinstance(error, kind) and field in (None, error.field):
            return str(text)
    return str(error)


def internal_error(request: Request) -> str:
    """What to tell of an error of ours: never its text, but the id under which the log has it."""
    request_id = getattr(request.state, "request_id", "?")
    return gettext("Something went wrong. Request id: %(id)s") % {"id": request_id}

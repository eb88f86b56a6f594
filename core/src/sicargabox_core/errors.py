"""The one tree of errors that SicargaBox raises on purpose.

Each error carries a stable ``code`` (for programs), a sentence (for people), whether trying again can help
(``retryable``) and, for bad input, the ``field`` at fault and its ``remedy``. Transport belongs elsewhere: the API
holds the table *error → status*, the CLI maps ``InvalidInput`` and ``InvalidSetting`` to exit code 2.

    SicargaBoxError
    ├── InvalidInput          the caller can mend it: names the field and the remedy
    │   └── InvalidSetting    the same, for an environment variable
    ├── NotFound
    ├── Conflict              the state of things forbids it now
    │   ├── AlreadyRunning    an exclusive task with another payload is not finished
    │   └── IdempotencyMismatch  the key was used for another body
    ├── Forbidden
    │   └── SignInRequired
    ├── TooManyRequests
    ├── Unavailable           a server we need is away; retryable
    ├── TaskFailed            a task ended for a reason that another attempt would not change
    │   ├── InvalidResult     its result cannot be stored
    │   └── ResultTooLarge
    └── DataFault             stored data is not what its contract says
"""

from __future__ import annotations

from typing import ClassVar


class SicargaBoxError(Exception):
    """Base of every error raised on purpose.

    ``code`` is stable and machine-readable; ``retryable`` says whether the same call may succeed later.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy

    @property
    def fault(self) -> str:
        """What is wrong, without the remedy."""
        return f"{self.field}: {self.message}" if self.field else self.message

    def __str__(self) -> str:
        return f"{self.fault.rstrip('.')}. {self.remedy}" if self.remedy else self.fault


class InvalidInput(SicargaBoxError):
    """The input is wrong in a way the caller can mend; always names the field and the remedy."""

    code = "invalid_input"

    def __init__(self, message: str, *, field: str, remedy: str) -> None:
        super().__init__(message, field=field, remedy=remedy)


class InvalidSetting(InvalidInput):
    """A setting (environment variable) is wrong or contradicts another."""

    code = "invalid_setting"


class NotFound(SicargaBoxError):
    """The thing asked for does not exist."""

    code = "not_found"


class Conflict(SicargaBoxError):
    """The present state forbids what was asked."""

    code = "conflict"


class AlreadyRunning(Conflict):
    """An exclusive task with another payload is not finished; ``task_id`` names it."""

    code = "already_running"

    def __init__(self, message: str, *, task_id: str) -> None:
        super().__init__(message, remedy=f"Wait for task {task_id} or cancel it.")
        self.task_id = task_id


class IdempotencyMismatch(Conflict):
    """The same Idempotency-Key was used before with another body (HTTP 422 by the IETF draft's rule)."""

    code = "idempotency_mismatch"


class Forbidden(SicargaBoxError):
    """The caller is known, and may not do this."""

    code = "forbidden"


class SignInRequired(Forbidden):
    """The caller is not known, or no longer: no session, an expired one, a revoked token."""

    code = "sign_in_required"


class TooManyRequests(SicargaBoxError):
    """A limit was reached; ``retry_after`` is in seconds."""

    code = "too_many_requests"
    retryable = True

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, remedy=f"Try again in {max(1, round(retry_after))} s.")
        self.retry_after = retry_after


class Unavailable(SicargaBoxError):
    """A server that is needed (database, Redis, search engine, model provider) does not answer."""

    code = "unavailable"
    retryable = True


class TaskFailed(SicargaBoxError):
    """Raised by a task's own code when it cannot succeed, whatever the number of attempts."""

    code = "task_failed"


class InvalidResult(TaskFailed):
    """A task's result is not JSON, or holds what a database cannot keep."""

    code = "invalid_result"


class ResultTooLarge(TaskFailed):
    """A task's result is larger than a row may keep; it belongs in a table of its own."""

    code = "result_too_large"


class DataFault(SicargaBoxError):
    """Stored data does not fit its contract, so going on would guess."""

    code = "data_fault"

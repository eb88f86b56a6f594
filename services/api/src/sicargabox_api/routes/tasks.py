"""Starting tasks, and looking at, cancelling, repeating and watching them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sse_starlette import EventSourceResponse

from sicargabox_api.authentication import require
from sicargabox_api.problems import responses
from sicargabox_api.rate_limits import StaffLimit
from sicargabox_api.routes.parameters import Limit, Moment, TaskId, Word
from sicargabox_api.routes.task_events import Watching, event_id, watch
from sicargabox_api.routes.task_models import (
    CancelAnswer,
    RepeatedTask,
    RetryAnswer,
    RetryRequest,
    SkippedTask,
    StartedTask,
    TaskDetail,
    TaskPage,
    detail_of,
    members,
    task_of,
)
from sicargabox_api.services import ServicesDep
from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.errors import InvalidInput, NotFound
from sicargabox_core.tasks.contracts import TASKS, Payload, TaskSpec
from sicargabox_core.tasks.store import Submission, TaskView

SCOPE = "tasks"
STARTABLE: Mapping[str, TaskSpec[Any, Any]] = {name: spec for name, spec in TASKS.items() if spec.startable}
_EXAMPLES: Mapping[str, dict[str, Any]] = {
    "search.update_lines": {"codes": ["8517130000"]},
    "ai.generate_keywords": {"chapter": "85", "languages": ["es", "en"]},
    "learning.analyse_selections": {"people": 3},
    "housekeeping.no_op": {"note": "hello"},
    "search.no_op": {"seconds": 30},
    "ai.no_op": {"seconds": 30},
    "learning.no_op": {"seconds": 30},
}

router = APIRouter(tags=["tasks"])

ViewerDep = Annotated[Principal, Depends(require(Role.VIEWER, SCOPE))]
OperatorDep = Annotated[Principal, Depends(require(Role.OPERATOR, SCOPE))]


def _payload_documentation() -> dict[str, Any]:
    """One schema and one example per task that can be started, for the OpenAPI document."""
    examples = {
        name: {"summary": spec.title, "value": _EXAMPLES.get(name, {})} for name, spec in sorted(STARTABLE.items())
    }
    schemas = [spec.payload.model_json_schema() for _, spec in sorted(STARTABLE.items())]
    return {"requestBody": {"content": {"application/json": {"schema": {"anyOf": schemas}, "examples": examples}}}}


@router.post(
    # Before the route that would take "retry" for a task's name.
    "/tasks/retry",
    summary="Repeat dead letters",
    responses=responses(401, 403, 413, 422, 429, 503),
)
def retry_dead_letters(
    request: Request, services: ServicesDep, _limit: StaffLimit, caller: OperatorDep, wanted: RetryRequest
) -> RetryAnswer:
    """Makes a new task of each failed one that nobody repeated yet: those of `ids`, or the newest that match `filter`.

    At most 200 a call; `next_cursor` is the next call's `filter.before`. Safe to send again: what was repeated is not
    repeated twice but named in `skipped`, like all that cannot be repeated now.
    """
    cursor = None
    if wanted.filter is not None:
        page = services.tasks.list(
            dead=True,
            names=wanted.filter.name,
            queues=wanted.filter.queue,
            error_codes=wanted.filter.error,
            since=wanted.filter.since,
            until=wanted.filter.until,
            before=wanted.filter.before,
            limit=wanted.limit,
        )
        ids, cursor = [task.id for task in page.items], page.next_cursor
    else:
        ids = [str(task_id) for task_id in wanted.ids]
    done = services.tasks.retry_dead(
        ids, by=caller.name, request_id=request.state.request_id, allowed=lambda task: _may_start(caller, task)
    )
    return RetryAnswer(
        repeated=[RepeatedTask(id=old, task=task_of(one.task)) for old, one in done.repeated.items()],
        skipped=[SkippedTask(id=one.id, code=one.code, detail=one.detail, task=one.task_id) for one in done.skipped],
        next_cursor=cursor,
    )


@router.post(
    "/tasks/{name}",
    status_code=202,
    summary="Start a task",
    responses={
        200: {"model": StartedTask, "description": "An unfinished task of this kind answers (`already_running`)."},
        **responses(401, 403, 404, 409, 413, 422, 429, 503),
    },
    openapi_extra=_payload_documentation(),
)
def start_task(
    name: Annotated[str, Path(json_schema_extra={"enum": sorted(STARTABLE)})],
    request: Request,
    response: Response,
    services: ServicesDep,
    _limit: StaffLimit,
    caller: ViewerDep,
    body: Annotated[dict[str, Any] | None, Body()] = None,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> StartedTask:
    """Accepts a task: once this answers, its row is committed and it will be executed, whatever happens to Redis.

    With an `Idempotency-Key` the same request may be sent again and is answered with the same task
    (`Idempotency-Replayed: true`); another body under the same key is a 422. Needs the role the task names.
    """
    spec = _startable(name)
    caller.require(Role(spec.role), SCOPE)
    submission = services.tasks.submit(
        spec,
        _payload(spec, body or {}),
        initiated_by=caller.name,
        request_id=request.state.request_id,
        idempotency_key=idempotency_key,
    )
    return started(request, response, submission, idempotency_key)


def _startable(name: str) -> TaskSpec[Any, Any]:
    spec = STARTABLE.get(name)
    if spec is None:
        raise NotFound(
            f"there is no task {name[:100]!r} to start", field="name", remedy=f"Use one of: {', '.join(STARTABLE)}."
        )
    return spec


def _payload(spec: TaskSpec[Any, Any], body: dict[str, Any]) -> Payload:
    # A worker ignores what it does not know, but a misspelt field from a person would quietly mean "everything".
    for field in body:
        if field not in spec.payload.model_fields:
            known = ", ".join(spec.payload.model_fields)
            raise InvalidInput(
                f"{spec.name} takes no such field",
                field=field[:100],
                remedy=f"Use {known}." if known else "Send {} or nothing.",
            )
    try:
        payload: Payload = spec.payload.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError([fault | {"loc": ("body", *fault["loc"])} for fault in error.errors()]) from error
    return payload


def started(
    request: Request, response: Response, submission: Submission, idempotency_key: str | None = None
) -> StartedTask:
    """The answer to whoever asked for a task, with its status and headers."""
    if idempotency_key and not submission.created and not submission.already_running:
        response.headers["Idempotency-Replayed"] = "true"
    if submission.already_running:
        response.status_code = 200
    response.headers["Location"] = str(request.app.url_path_for("show_task", task_id=submission.task.id))
    return StartedTask(
        **members(submission.task),
        payload=submission.task.payload,
        already_running=submission.already_running,
        follow_up=submission.follow_up,
    )


@router.get("/tasks", summary="List tasks", responses=responses(401, 403, 422, 429, 503))
def list_tasks(
    request: Request,
    response: Response,
    services: ServicesDep,
    _limit: StaffLimit,
    _caller: ViewerDep,
    state: Annotated[list[Word], Query(description="Celery's words, and PROGRESS.", examples=[["FAILURE"]])] = [],  # noqa: B006
    name: Annotated[list[Word], Query(examples=[["search.rebuild_index"]])] = [],  # noqa: B006
    queue: Annotated[list[Word], Query(examples=[["elasticsearch"]])] = [],  # noqa: B006
    initiated_by: Annotated[Word | None, Query(examples=["user:ana"])] = None,
    parent: Annotated[Word | None, Query(description="Only the parts of this task.")] = None,
    error: Annotated[list[Word], Query(description="Only with this `error.code`.", examples=[["unavailable"]])] = [],  # noqa: B006
    dead: Annotated[bool, Query(description="Only dead letters: failed, and repeated by nobody.")] = False,
    since: Annotated[Moment | None, Query(description="Created at or after.")] = None,
    until: Annotated[Moment | None, Query(description="Created before.")] = None,
    before: Annotated[Word | None, Query(description="`next_cursor` of the page before, unchanged.")] = None,
    limit: Limit = 50,
) -> TaskPage:
    """Newest first. `Link: <…>; rel="next"` leads to the next page; pages stay put while new tasks arrive."""
    page = services.tasks.list(
        states=state,
        names=name,
        queues=queue,
        initiated_by=initiated_by,
        parent_id=parent,
        error_codes=error,
        dead=dead,
        since=since,
        until=until,
        before=before,
        limit=limit,
    )
    if page.next_cursor:
        following = [(key, value) for key, value in request.query_params.multi_items() if key != "before"]
        query = urlencode([*following, ("before", page.next_cursor)])
        response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return TaskPage(items=[task_of(view) for view in page.items], next_cursor=page.next_cursor)


@router.get("/tasks/{task_id}", summary="Look at a task", responses=responses(401, 403, 404, 422, 429, 503))
def show_task(task_id: TaskId, services: ServicesDep, _limit: StaffLimit, _caller: ViewerDep) -> TaskDetail:
    """Its state from SQL, and its progress from Redis where that is fresher."""
    return detail_of(services.tasks.get(str(task_id)))


@router.post("/tasks/{task_id}/cancel", summary="Cancel a task", responses=responses(401, 403, 404, 422, 429, 503))
def cancel_task(task_id: TaskId, services: ServicesDep, _limit: StaffLimit, caller: ViewerDep) -> CancelAnswer:
    """A waiting task is revoked at once, a running one is asked to stop, and one that has ended stays as it is."""
    before = services.tasks.get(str(task_id))
    _may_change(caller, before)
    outcome = services.tasks.cancel(before.id, by=caller.name)
    after = services.tasks.get(before.id)
    if outcome.revoked:
        return CancelAnswer(outcome="revoked", task=task_of(after))
    return CancelAnswer(outcome="requested" if outcome.requested else "already_ended", task=task_of(after))


@router.post(
    "/tasks/{task_id}/retry",
    status_code=202,
    summary="Do the same work again",
    responses={
        200: {"model": StartedTask, "description": "It is being repeated already (`already_running`)."},
        **responses(401, 403, 404, 409, 422, 429, 503),
    },
)
def retry_task(
    task_id: TaskId,
    request: Request,
    response: Response,
    services: ServicesDep,
    _limit: StaffLimit,
    caller: ViewerDep,
) -> StartedTask:
    """Makes a new task with `retried_from`; of a task whose parts failed only those run again."""
    _may_change(caller, services.tasks.get(str(task_id)))
    submission = services.tasks.retry(str(task_id), by=caller.name, request_id=request.state.request_id)
    return started(request, response, submission)


def _may_change(caller: Principal, task: TaskView) -> None:
    caller.require(_role_of(task), SCOPE)


def _may_start(caller: Principal, task: TaskView) -> bool:
    return caller.may(_role_of(task))


def _role_of(task: TaskView) -> Role:
    spec = TASKS.get(task.name)
    return Role(spec.role) if spec else Role.OPERATOR


def _watched(task_id: TaskId, services: ServicesDep) -> TaskView:
    return services.tasks.get(str(task_id))


@router.get(
    "/tasks/{task_id}/events",
    summary="Watch a task (server-sent events)",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events `state` and `progress`, each with the task as its data; ends after the final state.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The final state has been seen already (`Last-Event-ID`): do not reconnect."},
        **responses(401, 403, 404, 422, 429, 503),
    },
)
async def task_events(
    request: Request,
    services: ServicesDep,
    _limit: StaffLimit,
    _caller: ViewerDep,
    task: Annotated[TaskView, Depends(_watched)],
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """A comment is sent every 15 s so that proxies keep the connection. At most 100 listeners per process."""
    if task.is_final and last_event_id == event_id(task):
        return Response(status_code=204)
    return Watching(request.app.state.listeners, watch(services.tasks, task, last_event_id))

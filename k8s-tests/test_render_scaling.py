"""Scaling: what the autoscalers are told to ask and do, and that PostgreSQL answers it as we count ourselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, text, update
from sqlalchemy.engine import Connection

from sicargabox_core.db import Database, db_now
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.settings import Settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import (
    ANALYSE_SELECTIONS,
    GENERATE_KEYWORDS,
    NO_OP,
    REBUILD_INDEX,
    TASKS,
    UPDATE_LINES,
    AnalyseSelections,
    GenerateKeywords,
    NoOp,
    Queue,
    RebuildIndex,
    UpdateLines,
)
from sicargabox_core.tasks.queues import queue_figures
from sicargabox_core.tasks.rows import tasks
from sicargabox_core.tasks.scaling import let_read_load
from tests.kubernetes.pods import pods_of, variables
from tests.kubernetes.rendering import KUBERNETES, MODES, Document, named, of_kind, render
from tests.servers.ports import free_port

POOL = Settings.model_fields["database_pool_size"].default
WORKERS = ("indexer-worker", "ai-worker", "learning-worker")


def _triggers(documents: list[Document]) -> dict[str, dict[str, Any]]:
    return {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]["triggers"][0]["metadata"]
        for one in of_kind(documents, "ScaledObject")
    }


def _queues(command: list[str]) -> list[str]:
    return command[command.index("-Q") + 1].split(",")


# --- what is declared ------------------------------------------------------------------------------------------------
def test_the_workers_of_the_chart_take_from_every_queue_of_the_contracts_once() -> None:
    taken = [
        queue
        for pods in pods_of(render())
        if pods.component.endswith("-worker")
        for queue in _queues(pods.main["command"])
    ]
    assert sorted(taken) == sorted(queue.value for queue in Queue)


def test_helm_test_gives_every_queue_a_task_that_people_may_start() -> None:
    started = {}
    for pods in pods_of(render()):
        if "tasks" in pods.main.get("command", ()):
            command = pods.main["command"]
            name, payload = command[3], command[command.index("--payload") + 1]
            TASKS[name].payload.model_validate_json(payload)
            assert TASKS[name].startable
            started[TASKS[name].queue] = float(command[command.index("--timeout") + 1])
            assert pods.spec["activeDeadlineSeconds"] > started[TASKS[name].queue]
    assert started.keys() == set(Queue)


def test_each_worker_is_scaled_by_the_queues_that_it_takes_from() -> None:
    documents = render()
    triggers = _triggers(documents)
    for component in WORKERS:
        command = named(documents, "Deployment", component)["spec"]["template"]["spec"]["containers"][0]["command"]
        asked = re.findall(r"queue = '(\w+)'", triggers[component]["query"])
        # Once for what is due, once for what is held.
        assert sorted(asked) == sorted(_queues(command) * 2)


def test_workers_begin_at_none_and_keep_what_they_have_when_nobody_can_be_asked() -> None:
    for document in of_kind(render(), "ScaledObject"):
        spec = document["spec"]
        assert spec["minReplicaCount"] == 0
        assert spec["fallback"] == {"failureThreshold": 4, "replicas": 1, "behavior": "currentReplicasIfHigher"}
        (trigger,) = spec["triggers"]
        # Fallback is possible for an average alone.
        assert (trigger["type"], trigger["metricType"]) == ("postgresql", "AverageValue")
        # Both are read as whole numbers by the fallback.
        assert trigger["metadata"]["targetQueryValue"].isdigit()
        assert trigger["metadata"]["activationTargetQueryValue"] == "0"


def test_the_scaler_signs_in_with_its_own_role_and_its_password_stands_in_a_secret() -> None:
    documents = render()
    (authentication,) = of_kind(documents, "TriggerAuthentication")
    assert authentication["spec"]["secretTargetRef"] == [
        {"parameter": "password", "name": "sb-sicargabox-postgres", "key": "scaler-password"}
    ]
    for document in of_kind(documents, "ScaledObject"):
        assert document["spec"]["triggers"][0]["authenticationRef"]["name"] == authentication["metadata"]["name"]
    for trigger in _triggers(documents).values():
        assert trigger["userName"] == "sicargabox_scaler"
        assert not {"password", "connection", "passwordFromEnv"} & trigger.keys()


@pytest.mark.parametrize(
    ("ours", "own", "told"),
    [
        ("require", "", "require"),
        ("disable", "", "disable"),
        ("verify-ca", "", "require"),
        ("verify-full", "", "require"),
        ("verify-full", "verify-full", "verify-full"),
        ("require", "disable", "disable"),
    ],
)
def test_keda_is_not_told_to_verify_by_a_certificate_that_it_cannot_be_given(ours: str, own: str, told: str) -> None:
    documents = render("external", f"database.external.sslmode={ours}", f"database.scaler.sslmode={own}")
    assert {trigger["sslmode"] for trigger in _triggers(documents).values()} == {told}
    (api,) = (pods for pods in pods_of(documents) if pods.component == "api" and pods.serves)
    assert f"?sslmode={ours}&" in variables(api.main)["SICARGABOX_DATABASE_URL"]


@pytest.mark.parametrize("profile", ["default", "external"])
def test_the_scalers_password_may_stand_in_a_secret_of_its_own(profile: str) -> None:
    documents = render(profile, "database.scaler.existingSecret=mine", mode="keda")
    (authentication,) = of_kind(documents, "TriggerAuthentication")
    secret = {"name": "mine", "key": "scaler-password"}
    assert authentication["spec"]["secretTargetRef"] == [{"parameter": "password", **secret}]
    if profile == "default":
        (postgres,) = (pods for pods in pods_of(documents) if pods.component == "postgres")
        assert variables(postgres.main)["SCALER_PASSWORD"]["secretKeyRef"] == secret
        assert named(documents, "Secret", "postgres")["data"].keys() == {"superuser-password", "password"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("profile", ["default", "dev", "ha"])
def test_postgres_has_a_connection_for_everyone_in_a_rolling_update_at_the_most_replicas(
    profile: str, mode: str
) -> None:
    documents = render(profile, mode=mode)
    most = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"].get("maxReplicas") or one["spec"].get("maxReplicaCount")
        for one in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject")
    }
    # Eight for KEDA's role, three that PostgreSQL keeps for superusers, ten for migrations, tests and people.
    needed = 8 + 3 + 10
    for pods in pods_of(documents):
        if pods.owner["kind"] != "Deployment" or pods.component == "flower":
            continue
        replicas = most.get(pods.owner["metadata"]["name"]) or pods.owner["spec"]["replicas"]
        if pods.component.endswith("-worker"):
            # All the old pods may be draining beside as many new ones.
            command = pods.main["command"]
            needed += 2 * replicas * (1 + 3 * int(command[command.index("-c") + 1]))
        else:
            surge = pods.owner["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
            needed += (replicas + surge) * {"api": POOL, "admin": POOL, "scheduler": 3}[pods.component]
    (postgres,) = (pods for pods in pods_of(documents) if pods.component == "postgres")
    (allowed,) = re.findall(r"max_connections=(\d+)", " ".join(postgres.main["args"]))
    assert needed <= int(allowed)


def test_a_worker_may_be_paused() -> None:
    documents = render("default", "workers.ai.autoscaling.paused=true")
    paused = {one["metadata"]["name"]: one["metadata"].get("annotations") for one in of_kind(documents, "ScaledObject")}
    assert paused == {
        "sb-sicargabox-indexer-worker": None,
        "sb-sicargabox-ai-worker": {"autoscaling.keda.sh/paused": "true"},
        "sb-sicargabox-learning-worker": None,
    }


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_a_plain_autoscaler_begins_at_none_only_where_kubernetes_can(kubernetes: str) -> None:
    def least(*sets: str) -> set[int]:
        documents = render("default", *sets, kubernetes=kubernetes, mode="hpa")
        return {
            one["spec"]["minReplicas"]
            for one in of_kind(documents, "HorizontalPodAutoscaler")
            if one["metadata"]["name"].endswith("worker")
        }

    assert least() == ({0} if kubernetes == "1.37.0" else {1})
    assert least("autoscaling.hpa.allowZero=true") == {0}


def test_a_version_may_be_told_where_none_can_be_asked() -> None:
    documents = render("default", "kubeVersionOverride=v1.37.2", kubernetes="1.31.0", mode="hpa")
    assert named(documents, "HorizontalPodAutoscaler", "ai-worker")["spec"]["minReplicas"] == 0


def test_a_pod_has_time_to_drain_to_give_back_and_to_end() -> None:
    for pods in pods_of(render()):
        if pods.component.endswith("-worker"):
            drain = float(variables(pods.main)["SICARGABOX_DRAIN_SECONDS"])
            # Five seconds to give claims back, a second for their messages, five for Celery's cold stop; and nothing
            # above the ten minutes after which many clusters stop waiting for a node.
            assert drain + 11 < pods.spec["terminationGracePeriodSeconds"] <= 600
            # Celery itself is the first process: a shell would not pass the signal on.
            assert pods.main["command"][0] == "celery"
            assert "lifecycle" not in pods.main


# --- what PostgreSQL answers -----------------------------------------------------------------------------------------
@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    yield database
    database.dispose()


@pytest.fixture
def scaler(database: Database) -> Iterator[Connection]:
    """Signed in as the role of the chart, with the rights that the migration job gives it."""
    role = _triggers(render())["ai-worker"]["userName"]
    with database.write() as session:
        session.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD 'scaler' CONNECTION LIMIT 8"))
    let_read_load(database, role)
    engine = create_engine(database.engine.url.set(username=role, password="scaler"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
        with database.write() as session:
            session.execute(text(f"DROP OWNED BY {role}; DROP ROLE {role}"))


def test_the_query_counts_what_is_due_or_held_by_a_worker_and_nothing_else(
    database: Database, scaler: Connection
) -> None:
    # No server there: the figures of SQL are the ones compared.
    nowhere = Settings(redis_url=f"redis://127.0.0.1:{free_port()}")

    def agree(**expected: int) -> None:
        asked = {
            component: scaler.execute(text(trigger["query"])).scalar_one()
            for component, trigger in _triggers(render()).items()
        }
        assert asked == {f"{name}-worker": number for name, number in expected.items()}
        with connect(nowhere, Db.BROKER) as broker:
            ours = {figures.queue: figures.waiting + figures.running for figures in queue_figures(database, broker)}
        assert asked == {
            "indexer-worker": ours["elasticsearch"] + ours["celery"],
            "ai-worker": ours["ai_generation"],
            "learning-worker": ours["learning"],
        }

    def submit(spec: Any, payload: Any, **more: Any) -> str:
        with database.write() as session:
            return store.submit(session, spec, payload, initiated_by="tests", **more).task.id

    def change(task_id: str, **values: Any) -> None:
        with database.write() as session:
            session.execute(update(tasks).where(tasks.c.id == task_id).values(**values))

    agree(indexer=0, ai=0, learning=0)
    rebuild = submit(REBUILD_INDEX, RebuildIndex())
    submit(UPDATE_LINES, UpdateLines(codes=["0101"]))
    submit(NO_OP, NoOp())
    parent = submit(GENERATE_KEYWORDS, GenerateKeywords())
    submit(ANALYSE_SELECTIONS, AnalyseSelections(), run_at=db_now(3600))
    agree(indexer=3, ai=1, learning=0)
    # Held by a worker, whose lease may even have ended: it is somebody's work.
    change(rebuild, state="STARTED", lease_until=db_now(-5), attempt=1)
    agree(indexer=3, ai=1, learning=0)
    # A parent that waits for its children holds no worker.
    change(parent, state="STARTED", lease_until=None, children_open=2)
    agree(indexer=3, ai=0, learning=0)
    # What waits for another task is not due.
    change(submit(UPDATE_LINES, UpdateLines(codes=["0102"])), waits_for=rebuild)
    agree(indexer=3, ai=0, learning=0)
    change(rebuild, state="SUCCESS", lease_until=None, finished_at=db_now())
    agree(indexer=2, ai=0, learning=0)


def test_a_backlog_of_any_length_is_counted_no_further_than_scaling_needs(
    database: Database, scaler: Connection
) -> None:
    with database.write() as session:
        session.execute(
            text(
                "INSERT INTO tasks (id, name, version, queue, state, payload, initiated_by, payload_hash, attempt,"
                " failures, max_attempts, created_at, run_at, publish_count)"
                " SELECT n::text, 'ai.generate_keywords_chunk', 1, 'ai_generation', 'PENDING', '{}', 'tests', '', 0,"
                " 0, 3, clock_timestamp(), clock_timestamp(), 0 FROM generate_series(1, 1000) n"
            )
        )
    documents = render()
    for component, least in (("ai-worker", 100), ("indexer-worker", 0)):
        counted = scaler.execute(text(_triggers(documents)[component]["query"])).scalar_one()
        spec = named(documents, "ScaledObject", component)["spec"]
        wanted = spec["maxReplicaCount"] * int(spec["triggers"][0]["metadata"]["targetQueryValue"])
        assert counted == least
        assert least == 0 or counted >= wanted
    # Larger numbers are counted as far as they need.
    large = render("default", "workers.ai.autoscaling.maxReplicas=200")
    assert scaler.execute(text(_triggers(large)["ai-worker"]["query"])).scalar_one() == 800


# The rows of a long life and a bad day: number, queue, state, minutes until they are due, minutes of lease.
CROWD: tuple[tuple[int, str, str, int, int | None], ...] = (
    *((75_000, queue.value, "SUCCESS", -60, None) for queue in Queue),
    (100_000, "elasticsearch", "PENDING", -1, None),
    (100_000, "ai_generation", "RETRY", 60, None),
    (400, "elasticsearch", "STARTED", -1, 1),
)


@pytest.fixture
def crowded(database: Database) -> Database:
    """A database with that crowd, and a planner that knows it."""
    with database.write() as session:
        # Filled without its indexes, which takes a third of the time.
        described = session.scalars(
            text("SELECT indexdef FROM pg_indexes WHERE tablename = 'tasks' AND indexname LIKE '%ix_tasks%'")
        ).all()
        for one in described:
            session.execute(text(f"DROP INDEX {one.split()[2]}"))
        for number, queue, state, minutes, lease in CROWD:
            session.execute(
                text(
                    "INSERT INTO tasks (id, name, version, queue, state, payload, initiated_by, payload_hash, attempt,"
                    " failures, max_attempts, created_at, run_at, lease_until, finished_at, publish_count)"
                    " SELECT :queue || :state || 1000000 + n, 'crowd', 1, :queue, :state, '{}', 'tests', '', 0, 0, 3,"
                    " moment + n * interval '1 microsecond', moment + :minutes * interval '1 minute',"
                    " moment + :lease * interval '1 minute', CASE WHEN :state = 'SUCCESS' THEN moment END, 0"
                    " FROM generate_series(1, :number) n, (SELECT clock_timestamp() AS moment) AS clock"
                ).bindparams(number=number, queue=queue, state=state, minutes=minutes, lease=lease)
            )
        for one in described:
            session.execute(text(one))
    with database.write() as session:
        session.execute(text("ANALYZE tasks"))
    return database


def test_no_question_costs_more_because_other_queues_or_later_times_have_a_backlog(
    crowded: Database, scaler: Connection
) -> None:
    expected = {"indexer-worker": 200, "ai-worker": 0, "learning-worker": 0}
    for component, trigger in _triggers(render()).items():
        ((plan,),) = scaler.execute(text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + trigger["query"]))
        (told,) = plan if isinstance(plan, list) else json.loads(plan)
        steps = [step for step in _steps(told["Plan"]) if step.get("Relation Name") == "tasks"]
        shown = json.dumps(told, indent=1)
        assert {step["Node Type"] for step in steps} <= {"Index Scan", "Index Only Scan"}, shown
        assert {step["Index Name"] for step in steps} == {"ix_tasks_due", "ix_tasks_lease"}, shown
        # No more than is counted, or is held in all queues.
        rows = [step["Actual Rows"] + step.get("Rows Removed by Filter", 0) for step in steps]
        assert max(rows) <= 400, shown
        # Entries of an index that do not fit are among no rows; the pages they are on are counted.
        assert told["Plan"]["Shared Hit Blocks"] + told["Plan"]["Shared Read Blocks"] < 2000, shown
        assert scaler.execute(text(trigger["query"])).scalar_one() == expected[component]


def _steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _steps(part)

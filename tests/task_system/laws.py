"""The laws of durable tasks that need real processes: each holds on SQLite and on PostgreSQL alike.

A test module subclasses ``TaskLaws`` and gives it a ``system``: a database, a Redis, one scheduler, and a worker of
the queue ``elasticsearch`` with two children. Laws that kill a worker use a queue of their own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError
from sqlalchemy import text

from sicargabox_core.errors import TaskFailed, Unavailable
from sicargabox_core.tasks import store
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import Queue, State
from tests.servers.ports import wait_until
from tests.task_system.probe_specs import ACT, ACT_AI, ACT_LEARNING, ACT_LIMITED, UNKNOWN, Act
from tests.task_system.system import DEADLINE, TaskSystem


def _forged(number: int, **headers: object) -> bytes:
    """A message that Celery takes for a task's, until it looks closer."""
    info = {"exchange": "", "routing_key": "elasticsearch"}
    message = {
        "body": "W1tdLCB7fSwge31d",
        "headers": {"task": "probe.act_elasticsearch"} | headers,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {"delivery_tag": f"forged-{number}-{headers}", "delivery_info": info, "body_encoding": "base64"},
    }
    return json.dumps(message).encode()


class TaskLaws:
    """Subclassed by the test modules of each kind of database."""

    # --- one task ----------------------------------------------------------------------------------------------------
    def test_an_accepted_task_runs_once_and_its_effect_is_committed_with_its_end(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT, note="plain")
        task = system.wait_final(task_id)
        assert task.state is State.SUCCESS
        assert task.result == {"note": "plain", "attempt": 1, "done": 1}
        assert len(system.runs(task_id)) == 1
        assert system.effects("plain") == 1

    def test_flower_hears_how_a_task_ended_also_when_its_worker_stops_right_after(self, system: TaskSystem) -> None:
        with system.celery.connection_for_read() as connection:
            heard: list[tuple[str, str]] = []
            receiver = system.celery.events.Receiver(
                connection, handlers={"*": lambda event: heard.append((event["type"], event.get("uuid", "")))}
            )
            consumer = receiver.itercapture(limit=None, timeout=DEADLINE, wakeup=False)
            next(consumer)
            worker = system.start_worker(Queue.LEARNING)
            task_id = system.submit(ACT_LEARNING, note="heard")
            system.wait_final(task_id)
            worker.signal(signal.SIGTERM)
            give_up = time.monotonic() + DEADLINE
            for _ in consumer:
                if ("task-succeeded", task_id) in heard or time.monotonic() > give_up:
                    break
            assert [kind for kind, of in heard if of == task_id] == ["task-received", "task-started", "task-succeeded"]
            worker.wait()

    def test_doubled_messages_run_once(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT, how="sleep", seconds=0.5, note="doubled")
        for _ in range(20):
            system.publisher.publish([system.task(task_id)])
        system.wait_final(task_id)
        for _ in range(20):
            system.publisher.publish([system.task(task_id)])
        assert system.publisher.flush()
        _queue_is_empty(system, Queue.ELASTICSEARCH)
        assert len(system.runs(task_id)) == 1
        assert system.effects("doubled") == 1
        assert system.task(task_id).state is State.SUCCESS

    def test_an_error_is_the_tasks_outcome_and_names_itself(self, system: TaskSystem) -> None:
        task = system.wait_final(system.submit(ACT, how="raise", note="broken"))
        assert task.state is State.FAILURE
        assert task.error_message == "ValueError: no: broken"
        assert system.effects("broken") == 0
        with system.database.read() as session:
            assert "raise ValueError" in (store.traceback_of(session, task.id) or "")

    def test_a_passing_error_is_tried_again(self, system: TaskSystem) -> None:
        task = system.wait_final(system.submit(ACT, how="retry", seconds=0.1, note="again"))
        assert task.state is State.SUCCESS
        assert (task.attempt, task.failures) == (2, 1)

    def test_leaving_the_process_is_an_error_of_the_task(self, system: TaskSystem) -> None:
        task = system.wait_final(system.submit(ACT, how="exit"))
        assert task.state is State.FAILURE
        assert system.wait_final(system.submit(ACT)).state is State.SUCCESS

    def test_a_result_too_large_to_keep_is_a_clear_failure_and_has_no_effect(self, system: TaskSystem) -> None:
        task = system.wait_final(system.submit(ACT, how="too_large", note="large"))
        assert task.state is State.FAILURE
        assert task.error_code == "result_too_large"
        assert system.effects("large") == 0

    def test_an_effect_that_fails_leaves_nothing_behind(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT, how="bad_effect", note="half")
        wait_until(
            lambda: system.task(task_id).failures, seconds=DEADLINE, what="the broken effect is counted as a failure"
        )
        assert system.effects("half") == 0
        system.service.cancel(task_id, by="user:test")

    def test_progress_is_seen_while_a_task_runs(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT, how="sleep", seconds=1.5)
        task = wait_until(
            lambda: found if (found := system.task(task_id)).progress_current else None,
            seconds=DEADLINE,
            what="progress is shown",
        )
        assert task.shown_state == "PROGRESS"
        assert task.progress_total == 30
        assert task.progress_message == f"step {task.progress_current}"
        assert system.wait_final(task_id).state is State.SUCCESS

    def test_a_parent_ends_when_the_last_of_its_children_has(self, system: TaskSystem) -> None:
        parent = system.submit(ACT, how="parent", note="family", children=5)
        task = system.wait_final(parent)
        assert task.state is State.SUCCESS
        assert (task.children_open, task.children_total) == (0, 5)
        assert task.result == {"note": "family", "attempt": 6, "done": 5}
        assert [system.effects(f"family-{number}") for number in range(5)] == [1] * 5
        with system.valkey.client(1) as client:
            assert client.exists(f"celery-task-meta-{parent}")
            children = system.service.list(parent_id=parent).items
            assert not any(client.exists(f"celery-task-meta-{child.id}") for child in children)

    # --- what AsyncResult says ---------------------------------------------------------------------------------------
    def test_celerys_own_result_is_right_at_every_end(self, system: TaskSystem) -> None:
        success, failure = system.submit(ACT, note="seen"), system.submit(ACT, how="refuse")
        assert _get(system, success) == {"note": "seen", "attempt": 1, "done": 1}
        with pytest.raises(TaskFailed, match="task_failed: it cannot be done"):
            _get(system, failure)
        assert system.celery.AsyncResult(failure).state == "FAILURE"
        assert system.celery.AsyncResult(failure).traceback is None

    def test_celerys_own_result_follows_a_running_task(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT, how="sleep", seconds=1.0)
        seen = wait_until(
            lambda: result.info if (result := system.celery.AsyncResult(task_id)).state == "PROGRESS" else None,
            seconds=DEADLINE,
            what="AsyncResult says PROGRESS",
        )
        assert seen["total"] == 20
        system.wait_final(task_id)
        _entry(system, task_id, "SUCCESS")

    # --- cancelling --------------------------------------------------------------------------------------------------
    def test_a_waiting_task_that_is_cancelled_never_runs(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT_LEARNING, note="never")
        assert system.service.cancel(task_id, by="user:test").revoked
        with system.worker(Queue.LEARNING):
            _queue_is_empty(system, Queue.LEARNING)
            marker = system.submit(ACT_LEARNING)
            system.wait_final(marker)
        assert system.runs(task_id) == []
        assert system.task(task_id).state is State.REVOKED
        with pytest.raises(TaskRevokedError):
            _get(system, task_id)

    def test_a_running_task_that_is_cancelled_stops_and_has_no_effect(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT, how="sleep", seconds=60, note="cancelled")
        system.wait_begun(task_id)
        assert system.service.cancel(task_id, by="user:test").requested
        task = system.wait_final(task_id)
        assert task.state is State.REVOKED
        assert system.effects("cancelled") == 0
        _entry(system, task_id, "REVOKED")

    def test_a_cancelled_task_that_does_not_listen_is_ended_all_the_same(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT, how="hang", seconds=60)
        pid = system.wait_begun(task_id)["pid"]
        system.service.cancel(task_id, by="user:test")
        assert system.wait_final(task_id).state is State.REVOKED
        _process_is_gone(pid)

    def test_flowers_revoke_of_a_waiting_task_revokes_the_row(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT_LEARNING, note="flower")
        system.celery.control.revoke(task_id)
        assert system.wait_final(task_id).state is State.REVOKED
        with system.worker(Queue.LEARNING):
            _queue_is_empty(system, Queue.LEARNING)
        assert system.runs(task_id) == []

    def test_a_message_that_celery_discards_as_revoked_revokes_the_row(self, system: TaskSystem) -> None:
        # The worker learns of the revoke, the row does not: as if SQL had been away at that moment.
        with system.database.write() as session:
            submission = store.submit(session, ACT, _act(note="discarded"), initiated_by="user:test")
            session.execute(text("UPDATE tasks SET queue = 'learning' WHERE id = :id"), {"id": submission.task.id})
        task_id = submission.task.id
        system.celery.control.revoke(task_id)
        assert system.wait_final(task_id).state is State.REVOKED
        assert system.runs(task_id) == []

    def test_flowers_revoke_of_a_running_task_stops_it(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT, how="sleep", seconds=60, note="flower-running")
        system.wait_begun(task_id)
        system.celery.control.revoke(task_id)
        assert system.wait_final(task_id).state is State.REVOKED
        assert system.effects("flower-running") == 0

    # SIGTERM is what Flower's button sends; it lets the attempt give itself back, SIGKILL leaves that to the lease.
    @pytest.mark.parametrize(("signal_name", "failures"), [("SIGTERM", 0), ("SIGKILL", 1)])
    def test_flowers_terminate_is_not_a_cancel_the_task_runs_again(
        self, system: TaskSystem, signal_name: str, failures: int
    ) -> None:
        note = f"terminated-{signal_name}"
        task_id = system.submit(ACT, how="sleep", seconds=60, once=True, note=note)
        pid = system.wait_begun(task_id)["pid"]
        system.celery.control.revoke(task_id, terminate=True, signal=signal_name)
        _process_is_gone(pid)
        system.wait_begun(task_id, attempt=2)
        task = system.wait_final(task_id)
        assert (task.state, task.attempt, task.failures) == (State.SUCCESS, 2, failures)
        assert system.effects(note) == 1

    # --- processes that die ------------------------------------------------------------------------------------------
    def test_a_child_killed_in_mid_task_is_replaced_and_the_task_runs_again(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT, how="die_once", note="killed-child")
        task = system.wait_final(task_id)
        assert (task.state, task.attempt, task.failures) == (State.SUCCESS, 2, 1)
        assert system.effects("killed-child") == 1

    def test_a_hanging_task_is_ended_by_its_time_limit(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT_LIMITED, how="hang", seconds=600, note="hanging")
        pid = system.wait_begun(task_id)["pid"]
        task = wait_until(
            lambda: found if (found := system.task(task_id)).failures else None, seconds=DEADLINE, what="it is ended"
        )
        assert (task.state, task.error_code) == (State.RETRY, "time_limit")
        _process_is_gone(pid)
        _entry(system, task_id, "RETRY")
        system.service.cancel(task_id, by="user:test")

    def test_another_worker_takes_over_what_a_killed_one_held(self, system: TaskSystem) -> None:
        with system.worker(Queue.AI_GENERATION) as first:
            task_id = system.submit(ACT_AI, how="sleep", seconds=60, once=True, note="takeover")
            system.wait_begun(task_id)
            with system.worker(Queue.AI_GENERATION):
                first.kill()
                task = system.wait_final(task_id)
        assert (task.state, task.attempt, task.failures) == (State.SUCCESS, 2, 1)
        assert system.effects("takeover") == 1

    def test_a_frozen_worker_cannot_write_what_another_has_redone(self, system: TaskSystem) -> None:
        with system.worker(Queue.AI_GENERATION) as frozen:
            task_id = system.submit(ACT_AI, how="publish", seconds=2.0, once=True, note="frozen")
            system.wait_begun(task_id)
            frozen.signal_all(signal.SIGSTOP)
            with system.worker(Queue.AI_GENERATION):
                task = system.wait_final(task_id)
                assert (task.state, task.attempt) == (State.SUCCESS, 2)
                frozen.signal_all(signal.SIGCONT)
                marker = system.submit(ACT_AI, note="after-frozen")
                system.wait_final(marker)
            # The frozen worker alone is left: it must have dropped its late end and go on working.
            last = system.submit(ACT_AI)
            assert system.wait_final(last).state is State.SUCCESS
        assert system.task(task_id).result == {"note": "frozen", "attempt": 2, "done": 0}
        assert system.effects("frozen") == 1
        assert [one["attempt"] for one in system.runs(task_id, "published")] == [2]
        _entry(system, task_id, "SUCCESS")

    # --- stopping ----------------------------------------------------------------------------------------------------
    def test_a_short_task_ends_before_its_worker_stops(self, system: TaskSystem) -> None:
        with system.worker(Queue.AI_GENERATION) as worker:
            task_id = system.submit(ACT_AI, how="sleep", seconds=0.5, note="short")
            system.wait_begun(task_id)
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
        task = system.task(task_id)
        assert (task.state, task.attempt, task.failures) == (State.SUCCESS, 1, 0)

    def test_a_long_task_is_given_back_at_the_deadline_and_costs_no_attempt(self, system: TaskSystem) -> None:
        with system.worker(Queue.AI_GENERATION) as worker:
            task_id = system.submit(ACT_AI, how="sleep", seconds=60, once=True, note="long")
            system.wait_begun(task_id)
            worker.signal(signal.SIGTERM)
            worker.wait()
            assert system.task(task_id).state is State.PENDING
            with system.worker(Queue.AI_GENERATION):
                task = system.wait_final(task_id)
        assert (task.state, task.attempt, task.failures) == (State.SUCCESS, 2, 0)
        assert system.effects("long") == 1

    # --- Redis -------------------------------------------------------------------------------------------------------
    def test_a_wiped_redis_loses_nothing(self, system: TaskSystem) -> None:
        waiting = [system.submit(ACT_LEARNING, note=f"wiped-{number}") for number in range(10)]
        assert system.publisher.flush()
        with system.valkey.client() as client:
            assert client.llen("learning") >= 10
            client.flushall()
        with system.worker(Queue.LEARNING):
            assert {system.wait_final(one).state for one in waiting} == {State.SUCCESS}
        assert [len(system.runs(one)) for one in waiting] == [1] * 10

    def test_accepting_never_waits_for_redis_and_nothing_accepted_meanwhile_is_lost(self, system: TaskSystem) -> None:
        pids = {one["pid"] for one in system.runs()}
        system.valkey.kill()
        began = time.monotonic()
        while_away = [system.submit(ACT, note=f"away-{number}") for number in range(20)]
        assert time.monotonic() - began < 10  # each would cost seconds if anything waited for Redis
        assert all(system.task(one).state is State.PENDING for one in while_away)
        running = system.runs()
        system.valkey.start()
        assert {system.wait_final(one, 60).state for one in while_away} == {State.SUCCESS}
        assert [len(system.runs(one)) for one in while_away] == [1] * 20
        assert pids
        assert len(running) <= len(system.runs())

    def test_a_task_runs_on_while_redis_is_away(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT, how="sleep", seconds=2.0, note="on")
        system.wait_begun(task_id)
        system.valkey.kill()
        try:
            task = system.wait_final(task_id)
        finally:
            system.valkey.start()
        assert (task.state, task.attempt) == (State.SUCCESS, 1)

    # --- what is not ours --------------------------------------------------------------------------------------------
    def test_a_name_nobody_knows_waits_and_stops_nobody(self, system: TaskSystem) -> None:
        task_id = system.submit(UNKNOWN)
        assert system.wait_final(system.submit(ACT)).state is State.SUCCESS
        _queue_is_empty(system, Queue.ELASTICSEARCH)
        assert system.task(task_id).state is State.PENDING
        # Celery writes FAILURE into the entry of a message it does not know; the row's truth is put back.
        _entry(system, task_id, "PENDING")
        system.service.cancel(task_id, by="user:test")

    def test_a_row_of_a_newer_release_is_left_to_newer_workers(self, system: TaskSystem) -> None:
        with system.database.write() as session:
            submission = store.submit(session, ACT, _act(note="newer"), initiated_by="user:test")
            session.execute(text("UPDATE tasks SET version = 99 WHERE id = :id"), {"id": submission.task.id})
        task_id = submission.task.id
        system.publisher.publish([submission.task])
        task = wait_until(
            lambda: found if (found := system.task(task_id)).no_worker_knows_it else None,
            seconds=DEADLINE,
            what="it is put off",
        )
        assert (task.state, task.attempt) == (State.PENDING, 0)
        assert system.runs(task_id) == []
        system.service.cancel(task_id, by="user:test")

    def test_a_payload_that_no_longer_fits_is_a_clear_failure(self, system: TaskSystem) -> None:
        with system.database.write() as session:
            submission = store.submit(session, ACT, _act(note="poison"), initiated_by="user:test")
            session.execute(
                text("UPDATE tasks SET payload = :payload WHERE id = :id"),
                {"id": submission.task.id, "payload": json.dumps({"seconds": {"a": [1]}})},
            )
        system.publisher.publish([submission.task])
        task = system.wait_final(submission.task.id)
        assert (task.state, task.error_code) == (State.FAILURE, "invalid_payload")
        _entry(system, task.id, "FAILURE")

    def test_a_message_without_a_row_is_dropped(self, system: TaskSystem) -> None:
        invented = dataclasses.replace(system.task(system.submit(ACT)), id="01900000-0000-7000-8000-000000000000")
        system.publisher.publish([invented])
        system.publisher.publish([dataclasses.replace(invented, name=UNKNOWN.name)])
        assert system.publisher.flush()
        assert system.wait_final(system.submit(ACT)).state is State.SUCCESS
        _queue_is_empty(system, Queue.ELASTICSEARCH)
        assert system.runs(invented.id) == []

    @pytest.mark.parametrize(
        "message",
        [
            b"not json",
            b"[]",
            b'"text"',
            b'{"body": 1}',
            b'{"body": "e30=", "headers": {}, "properties": {}}',
            (
                b'{"body": "!", "headers": {"task": "probe.act_elasticsearch", "id": "x"}, "content-type": '
                b'"application/x-python-serialize", "content-encoding": "binary", "properties": {"delivery_tag": "t", '
                b'"delivery_info": {"exchange": "", "routing_key": "elasticsearch"}, "body_encoding": "base64"}}'
            ),
        ],
    )
    def test_a_poisoned_message_does_not_stop_a_worker(self, system: TaskSystem, message: bytes) -> None:
        with system.valkey.client() as client:
            client.lpush("elasticsearch", message)
        assert system.wait_final(system.submit(ACT)).state is State.SUCCESS

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"id": "x", "timelimit": 5},
            {"id": "x", "task": []},
            {"id": []},
            {"id": "x", "stamped_headers": 5},
            {"id": "x", "eta": "2999-01-01"},
        ],
    )
    def test_a_forged_message_takes_no_childs_place(self, system: TaskSystem, headers: dict[str, object]) -> None:
        with system.valkey.client() as client:
            for number in range(2):  # as many as the worker has children
                client.lpush("elasticsearch", _forged(number, **headers))
        assert system.wait_final(system.submit(ACT)).state is State.SUCCESS

    # --- many at once ------------------------------------------------------------------------------------------------
    def test_two_schedulers_and_three_workers_run_each_task_once(self, system: TaskSystem) -> None:
        system.start_scheduler()
        with system.worker(Queue.ELASTICSEARCH, concurrency=2), system.worker(Queue.ELASTICSEARCH, concurrency=2):
            ids = [system.submit(ACT, note=f"many-{number}") for number in range(120)]
            # Every message twice, from different connections, while workers are at it.
            system.publisher.publish([system.task(one) for one in ids])
            for one in ids:
                assert system.wait_final(one, 60).state is State.SUCCESS
        executed = [one["id"] for one in system.runs() if one["note"].startswith("many-")]
        assert sorted(executed) == sorted(ids)
        assert {system.effects(f"many-{number}") for number in range(120)} == {1}

    def test_waiting_for_a_task_that_does_not_end_says_so(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT_LEARNING)
        with pytest.raises(Unavailable, match="goes on"):
            system.service.wait(task_id, 0.1)
        system.service.cancel(task_id, by="user:test")


def _act(**values: Any) -> Act:
    return Act(**values)


def _get(system: TaskSystem, task_id: str) -> object:
    # An application of its own: it subscribes for good, and would complain when a later law takes Redis away.
    celery = make_celery(system.settings, "reader")
    try:
        return celery.AsyncResult(task_id).get(timeout=DEADLINE)
    finally:
        celery.backend.result_consumer.stop()
        celery.close()


def _queue_is_empty(system: TaskSystem, queue: Queue) -> None:
    with system.valkey.client() as client:
        wait_until(
            lambda: not client.llen(queue.value),
            seconds=DEADLINE,
            what=f"{queue} has no message left",
        )


def _entry(system: TaskSystem, task_id: str, state: str) -> None:
    wait_until(
        lambda: system.celery.AsyncResult(task_id).state == state, seconds=DEADLINE, what=f"AsyncResult says {state}"
    )


def _process_is_gone(pid: int) -> None:
    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone, seconds=DEADLINE, what=f"process {pid} is gone")

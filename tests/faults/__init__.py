"""The fault suite: a whole installation under load, one fault after the other, and nothing accepted may be lost.

``make test-faults`` runs every fault once, ``make test-faults-long`` several times; it appends its figures to a file,
from which ``python -m tests.faults.report`` writes the table of ``docs/durability.md``.

A further fault is one small class in a module of this package whose name begins with ``of_`` (``of_redis``,
``of_workers`` …); every such module is found by itself, and nothing else has to be edited::

    @fault
    class WorkerKilled(Fault):
        name = "worker-killed"                     # stable: figures of several runs are put together by it
        title = "SIGKILL of a worker"              # the table's first column

        def inject(self, scene: Scene) -> None:
            scene.installation.kill("indexer-worker", whole=True)    # restarted after 1 s, as a kubelet would

``faults.py`` holds ``Fault`` with everything that can be overridden (needs, inject, hold, heal, inspect), ``scene.py``
what a fault may use, ``installation.py`` the processes. The order of life of one fault, and what is asserted about it,
are in ``trial.py``.
"""

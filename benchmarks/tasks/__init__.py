"""What the durable tasks take and give beside other task queues: ``python -m benchmarks.tasks`` (`make bench-tasks`).

One module per section, each with ``measure(options) -> list[Figure]``. Everything is measured within one run, on real
servers of its own and contestants in turn, so that a ratio holds on a machine whose speed nobody knows.
"""

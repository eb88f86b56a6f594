"""The task queues that ours is measured beside, each set up as its own documentation advises.

Each module has the task that does nothing, ``fill`` to put a backlog of it into the queue, and is what that queue's
own worker command loads. Addresses come by the environment, since every library wants its connection at import.
"""

"""Starts a program that is asked to end (SIGTERM) as soon as the process that started it dies.

Without it a killed supervisor leaves workers behind that hold ports and go on taking tasks. Run as a file, so that it
costs one bare interpreter start and imports nothing of ours. Only Linux knows parent-death signals; elsewhere the
program is started as it is, and `supervision` ends what an earlier run left.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replaces this process by the program named on the command line."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died before the signal was armed
            sys.exit(1)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()

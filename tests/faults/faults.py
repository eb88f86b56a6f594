"""What a fault is, and the register of all of them."""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from tests.settings import absent

if TYPE_CHECKING:
    from tests.faults.scene import Scene

FAULTS: dict[str, type[Fault]] = {}


class Fault:
    """One kind of damage. The trial calls ``inject``, ``hold``, ``heal`` (whatever happened before it) and ``inspect``.

    Each instance is used for one trial and may keep what it did on itself.
    """

    name: ClassVar[str]
    """Stable, in lower case with dashes; figures of several runs are put together by it."""
    title: ClassVar[str]
    """The first column of the table."""
    order: ClassVar[int] = 50
    """Low ones come first."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Programs without which it cannot be done; ``root`` is understood too."""
    hold_seconds: ClassVar[float] = 0.0
    """How long the damage stays before ``heal``."""
    errors_allowed: ClassVar[bool] = False
    """Whether SQL or the API is away itself, so that requests may fail. Elsewhere an error is a breach."""
    long_tasks: ClassVar[bool] = True
    """Whether a task of twelve seconds is under way on each queue when it strikes."""
    resumes_unhealed: ClassVar[bool] = False
    """Whether work must go on while the damage stays: time is counted from the damage. Otherwise from its end."""
    own_clock: ClassVar[str] = ""
    """What a reader of the resume time should know, shown below the table."""

    def inject(self, scene: Scene) -> None:
        """Does the damage."""
        raise AssertionError(f"{type(self).__name__} does nothing")

    def hold(self, scene: Scene) -> None:
        """Lets it last: until work goes on in spite of it, and ``hold_seconds`` at least."""
        scene.sleep(self.hold_seconds)
        if self.resumes_unhealed:
            scene.wait_resumed(scene.injected_at)

    def heal(self, scene: Scene) -> None:
        """Takes the damage away; called after a failure too, so it must bear that nothing was done."""

    def inspect(self, scene: Scene) -> list[str]:
        """What the fault itself finds wrong once all is over, as sentences."""
        return []


F = TypeVar("F", bound=type[Fault])


def fault(kind: F) -> F:
    """Registers a class of faults."""
    assert kind.name not in FAULTS, f"two faults are named {kind.name}"
    FAULTS[kind.name] = kind
    return kind


def all_faults() -> list[type[Fault]]:
    """Every fault of every ``of_…`` module, in order."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("of_"):
            importlib.import_module(f"tests.faults.{module.name}")
    return sorted(FAULTS.values(), key=lambda kind: (kind.order, kind.name))


def check_needs(kind: type[Fault]) -> None:
    """Skips the test, or fails it where nothing may be missing, when the fault cannot be done here."""
    for need in kind.needs:
        if need == "root":
            if os.geteuid() != 0:
                absent("root", f"“{kind.title}” changes the machine; run as root in a container")
        elif shutil.which(need) is None:
            absent(need, f"“{kind.title}” needs it; install it")

"""A function in a process of its own, which can be killed.

Not a fork of pytest's process: that has threads of OpenCV and FFmpeg from earlier tests, which a fork waits for in vain.
The process comes from a server that has imported what takes long and has used nothing of it.
"""

from __future__ import annotations

import inspect
import multiprocessing
import runpy
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["dyngs_plugins.priors.command"])


def started(function: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """The process, running. The function has to be one of a module, and what it needs changed it changes itself."""
    process = _CONTEXT.Process(target=_run, args=(inspect.getfile(function), function.__name__, arguments))
    process.start()
    return process


def _run(file: str, name: str, arguments: tuple[Any, ...]) -> None:
    """A module of tests cannot be imported by its name, which pytest made up."""
    runpy.run_path(file)[name](*arguments)

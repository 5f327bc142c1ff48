"""Trying things that may break the interpreter, in a process of its own: imports, entry points, CUDA.

`run_jobs` starts `python -m dyngs_plugins.doctor_probe`, which does one job after the other and answers each with a line
of JSON. A job that kills or hangs that process is named, and the rest is done by a new one. Standard library only.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Answer = dict[str, Any]


def run_jobs(jobs: Sequence[Job], timeout_s: float = 180.0) -> list[Answer]:
    """The answer to each job: {"ok": True, ...} or {"ok": False, "error": text}. Never raises for what a job does.

    Args:
        timeout_s: for a single job.
    """
    answers: list[Answer] = []
    while len(answers) < len(jobs):
        answers += _one_process(jobs[len(answers) :], timeout_s)
    return answers


def _one_process(jobs: Sequence[Job], timeout_s: float) -> list[Answer]:
    """Answers until the process ends; the last one says how, if it ended too early."""
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=_environment(),
        )  # fmt: skip
    except OSError as error:
        return [{"ok": False, "error": f"no process could be started ({error})"}] * len(jobs)
    lines: queue.Queue[bytes | None] = queue.Queue()
    assert process.stdin is not None  # both are pipes
    assert process.stdout is not None
    with contextlib.suppress(OSError):  # it died before it could listen; its exit code says why
        process.stdin.write(json.dumps(list(jobs)).encode())
        process.stdin.close()
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    answers: list[Answer] = []
    while len(answers) < len(jobs):
        try:
            line = lines.get(timeout=timeout_s)
        except queue.Empty:
            process.kill()
            answers.append({"ok": False, "error": f"does not answer within {timeout_s:.0f} s"})
            break
        if line is None:
            answers.append({"ok": False, "error": f"kills the interpreter ({_how(process.wait())})"})
            break
        answers.append(json.loads(line))
    process.kill()
    process.wait()
    return answers


def _environment() -> dict[str, str]:
    """Ours, with the package itself found wherever the command was started."""
    root = str(Path(__file__).resolve().parents[1])
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*path, root])}


def _read(stream: Any, lines: queue.Queue[bytes | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


# What the other process does -------------------------------------------------------------------------------------------


def import_module(job: Job) -> Answer:
    """Import a module; its version and its file."""
    module = importlib.import_module(job["module"])
    return {"version": str(getattr(module, "__version__", "")), "file": str(getattr(module, "__file__", "") or "")}


def load_entry_point(job: Job) -> Answer:
    """Load "module:attribute" as an entry point is loaded; the type of what it names."""
    module, _, attribute = job["value"].partition(":")
    target: Any = importlib.import_module(module.strip())
    for part in filter(None, attribute.split("[")[0].strip().split(".")):
        target = getattr(target, part)
    return {"type": type(target).__name__, "file": str(getattr(sys.modules[module.strip()], "__file__", "") or "")}


def describe_torch(job: Job) -> Answer:
    """Version of torch, of its CUDA, and what it finds on this machine."""
    import torch

    found = torch.cuda.is_available()
    devices = []
    for i in range(torch.cuda.device_count() if found else 0):
        properties = torch.cuda.get_device_properties(i)
        devices.append(f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if found:
        torch.zeros(8, device="cuda").sum().item()  # a driver too old for this torch fails only here
    return {"version": torch.__version__, "cuda": torch.version.cuda, "available": found, "devices": devices}


def host_names(job: Job) -> Answer:
    """Names of nerfstudio's own methods and dataparsers."""
    from nerfstudio.configs.dataparser_configs import dataparsers
    from nerfstudio.configs.method_configs import method_configs

    return {"methods": list(method_configs), "dataparsers": list(dataparsers)}


def abilities(job: Job) -> Answer:
    """What is registered through our hooks, and why what cannot run cannot."""
    from dyngs_plugins.hooks import registry
    from dyngs_plugins.raster import backends

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = registry()
    providers = [
        {"kind": kind, "name": name, "reason": _reason(cls), "from": cls.__module__}
        for kind, table in found.prior_providers.items()
        for name, cls in table.items()
    ]
    return {
        "providers": providers,
        "backends": [{"name": name, "reason": _backend_reason(name)} for name in backends.backend_names()],
        "plugins": dict(found.plugins),
        "warnings": [str(w.message) for w in caught if "dyngs-plugins" in str(w.message)],
    }


def _reason(provider: type) -> str | None:
    """Why a provider cannot run with its default settings; a foreign one may be older than the question."""
    try:
        ask = getattr(provider(), "unavailable", None)
        return ask() if ask is not None else None
    except Exception as error:
        return f"it is broken: {type(error).__name__}: {error}"


def _backend_reason(name: str) -> str | None:
    import torch

    if name == "gsplat":
        from dyngs_plugins.raster.gsplat_kernels import kernels_problem

        return kernels_problem() if torch.cuda.is_available() else "it needs CUDA, and torch finds none"
    if name == "numba":
        from dyngs_plugins.raster.backends import _numba_problem

        problem = _numba_problem()
        return None if problem is None else f"{problem}. To install it: pip install 'dyngs-plugins[cpu]'"
    return None


JOBS: Mapping[str, Callable[[Job], Answer]] = {
    "import": import_module,
    "entry": load_entry_point,
    "torch": describe_torch,
    "host": host_names,
    "abilities": abilities,
}


def main() -> None:
    """Answer the jobs on standard input. What they print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for job in json.load(sys.stdin):
        try:
            answer = {"ok": True, **JOBS[job["do"]](job)}
        except BaseException as error:  # SystemExit in an import is as bad as any other
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f" ({Path(last.filename).name}:{last.lineno})"
            text = str(error).strip().splitlines()
            answer = {"ok": False, "error": f"{type(error).__name__}: {text[0][:300] if text else ''}{place}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    answers.flush()
    os._exit(0)  # threads and exit handlers of what was imported are not our business


if __name__ == "__main__":
    main()

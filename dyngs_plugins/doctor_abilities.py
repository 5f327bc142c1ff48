"""The doctor's checks of what can run here: prior providers and rasterizers, and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterator

from dyngs_plugins.doctor import Finding
from dyngs_plugins.doctor_probe import run_jobs


def check_abilities() -> Iterator[Finding]:
    """Providers, rasterizers and plugins that register through our hooks."""
    (answer,) = run_jobs([{"do": "abilities"}])
    if not answer["ok"]:
        yield Finding(
            "abilities", "registry", "problem", f"cannot be built: {answer['error']}", "See the packages above."
        )
        return
    for warning in answer["warnings"]:
        yield Finding("abilities", "plugin", "note", warning.removeprefix("dyngs-plugins: "))
    for plugin, package in answer["plugins"].items():
        if package != "built in":
            yield Finding("abilities", plugin, "ok", f"plugin of {package}")
    for backend in answer["backends"]:
        reason = backend["reason"]
        state = "ok" if reason is None else "note"
        yield Finding("rasterizers", backend["name"], state, "can run" if reason is None else reason)
    for provider in answer["providers"]:
        reason = provider["reason"]
        yield Finding(
            f"--{provider['kind']}", provider["name"], "ok" if reason is None else "note",
            "can run" if reason is None else reason,
        )  # fmt: skip

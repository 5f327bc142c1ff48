"""What the learned providers share: finding packages and weights without downloading, and devices.

Nothing here or in a learned provider fetches anything. What is not on this machine is named in an error with its
size, its licence and the command that gets it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyngs_plugins.priors.limits import first_line

if TYPE_CHECKING:
    import torch

    from dyngs_plugins.priors.providers.base import PriorProvider

EXTRA = "pip install 'dyngs-plugins[learned]'"
NOT_RESULT = ("device", "batch_size", "offload")
"""Settings that say where and in which pieces a result is computed; they are not stored beside the files."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """What to know about published weights before fetching them."""

    size: str
    licence: str
    before: str = ""
    """What has to be done once before they can be fetched."""


def missing_package(module: str, fix: str = EXTRA) -> str | None:
    """Why a package cannot be used, with the fix; None where it is installed.

    Args:
        module: its name; of a module inside a package the package is imported.
    """
    try:
        found = importlib.util.find_spec(module) is not None
    except Exception:  # a broken parent package raises anything; one that is blocked on purpose a ValueError
        found = False
    return None if found else f"The package {module} is not installed. To install it: {fix}"


def missing_weights(kind: str, model: str, catalogue: Mapping[str, Weights]) -> str | None:
    """Why a model of the Hugging Face hub cannot be loaded, with the fix; None where its files are on this machine.

    Args:
        kind: the kind of prior, for the name of the setting.
        model: an id such as "owner/name", or a folder with config.json and weights.
        catalogue: what is known about published models by id.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return None
        return f"{folder}: no config.json in it. Expected a folder as `hf download MODEL --local-dir FOLDER` makes it."
    if _in_hub_cache(model):
        return None
    known = catalogue.get(model)
    about = f"{known.size}, licence: {known.licence}" if known else "see its page for size and licence"
    before = f"{known.before} " if known and known.before else ""
    others = ", ".join(name for name in catalogue if name != model)
    return (
        f"The weights of {model} ({about}) are not on this machine, and nothing is downloaded without you. {before}"
        f"To get them: hf download {model}. To use a folder instead: --settings {kind}.model=FOLDER."
        + (f" Others that fit: {others}." if others else "")
    )


def _in_hub_cache(model: str) -> bool:
    try:
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(model, "config.json"), str)
    except Exception:  # no such package, a name that is no id, a damaged cache: all of them mean "not there"
        return False


def refuse_unavailable(provider: PriorProvider, files: Sequence[Path]) -> None:
    """Raise before anything is computed when a provider with work to do cannot run here.

    Args:
        files: what it is to make; nothing to do where all of them are there (and there are any).
    """
    if files and all(file.is_file() for file in files):
        return
    reason = provider.unavailable()
    if reason:
        raise FileNotFoundError(f"--{provider.kind} {provider.name}: {reason}")


def load_pretrained(classes: Mapping[str, Any], model: str, kind: str) -> dict[str, Any]:
    """`from_pretrained` of a model and of what prepares its input, from what is on this machine.

    Args:
        classes: classes of transformers by a name of yours; the networks among them must find all their weights.

    Raises:
        ValueError: when files are incomplete, damaged or of another architecture.
    """
    folder = Path(model).expanduser()
    source = str(folder) if folder.is_dir() else model
    try:
        with _quiet():
            return {key: _load(cls, source) for key, cls in classes.items()}
    except MemoryError:
        raise
    except Exception as error:  # transformers and the hub have exceptions of their own for broken files
        names = ", ".join(cls.__name__ for cls in classes.values())
        raise ValueError(
            f"{model}: cannot be loaded as {names} ({type(error).__name__}: {first_line(error)}). Expected a complete "
            f"model of this kind; the files may be of another model or only half fetched. Try again: hf download "
            f"{model}, or choose another with --settings {kind}.model=..."
        ) from error


def _load(cls: Any, source: str) -> Any:
    """One object; a network that finds less than 95 % of its weights is refused: the rest would be random numbers."""
    if not hasattr(cls, "base_model_prefix"):
        return cls.from_pretrained(source, local_files_only=True)
    model, found = cls.from_pretrained(source, local_files_only=True, output_loading_info=True)
    missing, total = len(found["missing_keys"]), len(model.state_dict())
    if missing > 0.05 * total:
        raise ValueError(f"{missing} of {total} weights are missing in it")
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars, which would break into ours."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def choose_device(wanted: str) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU; anything else is taken as torch names it.

    Raises:
        ValueError: for a device that torch does not know or that is not there.
    """
    import torch

    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise ValueError(
            f"Device {wanted!r} cannot be used ({first_line(error)}). Expected auto, cpu, cuda or cuda:N."
        ) from error
    return device


def result_settings(provider: Any) -> dict[str, Any]:
    """The fields of a provider that decide its result."""
    return {name: value for name, value in dataclasses.asdict(provider).items() if name not in NOT_RESULT}

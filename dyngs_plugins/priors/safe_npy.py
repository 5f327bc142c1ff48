"""Reading a pickled dictionary out of a ``.npy`` file without letting the file run code.

DROID-SLAM results are stored as a 0-d object array, which ``np.load(allow_pickle=True)`` would unpickle with full
rights. The unpickler here knows only what numpy needs to rebuild arrays; any other global is refused by name before
anything of it is looked up.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

_CORE = "._core" if int(np.__version__.split(".")[0]) >= 2 else ".core"
_NUMPY_GLOBALS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    # numpy 2 renamed numpy.core to numpy._core; files of either version must load in both.
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}
_PLAIN_BUILTINS = {"bool", "bytearray", "bytes", "complex", "dict", "float", "int", "list", "set", "str", "tuple"}


class ForbiddenGlobal(pickle.UnpicklingError):
    """A pickle asked for something other than plain numbers, containers and numpy arrays."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NUMPY_GLOBALS:
            return super().find_class(module.replace("._core", ".core").replace(".core", _CORE), name)
        if module in ("builtins", "__builtin__") and name in _PLAIN_BUILTINS:
            return super().find_class("builtins", name)
        if (module, name) == ("_codecs", "encode"):  # how pickle protocols 0 to 2 spell bytes
            return lambda text, encoding: str(text).encode(_latin1(encoding))
        raise ForbiddenGlobal(f"{module}.{name}")


def load_plain_dict(path: Path) -> dict[str, Any]:
    """The dictionary inside a 0-d object array saved with ``np.save``.

    Raises:
        ForbiddenGlobal: the pickle names a global that is not on the short list; nothing was executed.
        ValueError: the file is not such an array, or is damaged.
    """
    try:
        with open(path, "rb") as file:
            stream = io.BytesIO(file.read())
        shape, dtype = _header(stream)
        if not dtype.hasobject:
            raise ValueError(f"it holds an array of {dtype} with shape {shape}")
        array = _PlainUnpickler(stream).load()
    except ForbiddenGlobal:
        raise
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"its pickle is damaged ({type(error).__name__}: {error})") from error
    content = array.item() if isinstance(array, np.ndarray) and array.shape == () else array
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dictionary")
    return content


def _header(stream: io.BytesIO) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def _latin1(encoding: Any) -> str:
    if encoding not in ("latin1", "latin-1"):
        raise ForbiddenGlobal(f"_codecs.encode with encoding {encoding!r}")
    return "latin1"

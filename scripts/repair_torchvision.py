"""Makes torchvision importable beside a CPU build of torch, in the environment whose Python runs this.

The torchvision that package indexes offer is built for CUDA. Beside a CPU-only torch its extension does not load, and
its Python part then fails on import with "operator torchvision::nms does not exist". nerfstudio needs the Python part
alone. Declaring the two operators first is enough for that; their kernels stay absent.

Nothing is changed where torchvision imports, or fails for another reason.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

SYMPTOM = "operator torchvision::nms does not exist"
MODULE = "_dyngs_torchvision_cpu"
SHIM = '''"""Declares torchvision's operators before torchvision is imported beside a CPU build of torch."""

import sys


class _DeclareOperators:
    library = None

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "torchvision" and cls.library is None:
            from importlib.metadata import distributions

            import torch

            versions = [found.version for found in distributions(name="torchvision")]
            if torch.version.cuda is None and torch.version.hip is None and "+cpu" not in "".join(versions):
                cls.library = torch.library.Library("torchvision", "FRAGMENT")
                for operator in ("nms", "qnms"):
                    cls.library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return None


sys.meta_path.insert(0, _DeclareOperators)
'''


def import_error() -> str:
    """What a fresh interpreter says when it imports torchvision; empty if that works."""
    done = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def write(path: Path, content: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(content)
    os.replace(partial, path)


def main() -> None:
    error = import_error()
    if not error:
        return
    if SYMPTOM in error:
        packages = Path(sysconfig.get_path("purelib"))
        write(packages / f"{MODULE}.py", SHIM)
        write(packages / f"{MODULE}.pth", f"import {MODULE}\n")
        error = import_error()
        if not error:
            print("setup: torchvision is built for CUDA, torch is not; declared its operators, so that it imports")
            return
    sys.exit(f"{error}\nsetup: torchvision does not import; the reason is above. Its version must match torch's.")


if __name__ == "__main__":
    main()

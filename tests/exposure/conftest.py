"""Lets the tests of this folder import the scenes they share, among themselves and with other folders."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "shared")]

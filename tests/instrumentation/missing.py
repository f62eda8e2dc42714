"""What importing a module says where a library that it needs is not installed."""

from __future__ import annotations

import subprocess
import sys


def told_without(library: str, module: str) -> str:
    """The message of the ImportError, from an interpreter where ``library`` cannot be imported."""
    program = f"""
import sys
sys.modules[{library!r}] = None
try:
    import {module}
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout

"""The commands: `separatrix --help`.

Everything heavy is imported inside the command that needs it, so that help and errors come at once.
"""

from __future__ import annotations

from separatrix.cli.app import app, main

__all__ = ["app", "main"]

"""The map of the literature: `separatrix papers`."""

from separatrix.papers.literature import Paper, papers

__all__ = ["Paper", "papers"]

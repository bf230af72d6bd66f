"""The operations of `separatrix.recurrence`, by the name of their row."""

from __future__ import annotations

from benchmarks import matrix, vector
from benchmarks.operation import Operation

MATRIX_STATES: dict[str, Operation] = {row.name: row for row in matrix.rows()}
OPERATIONS: dict[str, Operation] = {row.name: row for row in vector.rows()} | MATRIX_STATES

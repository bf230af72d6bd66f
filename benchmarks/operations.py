"""The operations of `separatrix.recurrence`, by the name of their row."""

from __future__ import annotations

from benchmarks import longhorn, matrix, planes, systems, transitions, vector
from benchmarks.operation import Operation

MATRIX_STATES: dict[str, Operation] = {row.name: row for row in matrix.rows()}
OPERATIONS: dict[str, Operation] = {
    row.name: row for part in (vector, systems, transitions, longhorn, planes) for row in part.rows()
} | MATRIX_STATES

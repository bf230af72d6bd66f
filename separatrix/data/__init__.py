"""Real sequences that come with the package, and readers for the user's own files."""

from separatrix.data.series import Series
from separatrix.data.shipped import TEXTS, Text, about, load, read, text
from separatrix.data.table import read_csv, read_file, read_parquet
from separatrix.data.task import Task

__all__ = ["TEXTS", "Series", "Task", "Text", "about", "load", "read", "read_csv", "read_file", "read_parquet", "text"]

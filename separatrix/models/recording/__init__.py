"""A function of tensors, recorded once and played many times: see `recorded.py`, then `program.py`."""

from separatrix.models.recording.iterated import Iterated
from separatrix.models.recording.meanings import Unsupported
from separatrix.models.recording.program import Program
from separatrix.models.recording.recorded import Recorded, plain_parameters

__all__ = ["Iterated", "Program", "Recorded", "Unsupported", "plain_parameters"]

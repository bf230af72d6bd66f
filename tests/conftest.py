"""What every test starts from: the same random numbers, buffers full of NaN, and hypothesis without a clock or a memory."""

import signal
import warnings

import pytest
import torch
from hypothesis import HealthCheck, settings

with warnings.catch_warnings():
    # torch loads its own rules for jvp on first use, and they still call the deprecated torch.jit.script
    warnings.simplefilter("ignore", DeprecationWarning)
    import torch._decomp.decompositions_for_jvp

settings.register_profile(
    "separatrix", deadline=None, derandomize=True, database=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("separatrix")

# Whoever starts the tests behind `&` has them ignore Ctrl-C, and with them the processes in which tests send one.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def fresh_buffers_hold_nan():
    """In deterministic mode torch fills what it allocates with NaN, so whoever forgets a cell is caught."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def same_numbers_every_time():
    torch.manual_seed(0)

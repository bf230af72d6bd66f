"""help(x) stands alone: whoever asks for it does not see the header of the file, with its numbered equations."""

import importlib
import inspect
import re

import pytest

ROOMS = ["recurrence", "mixers", "models", "training", "systems", "stability", "report", "claims", "data"]


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_public_is_told_without_its_files_header(room):
    module = importlib.import_module(f"separatrix.{room}")
    for name in module.__all__:
        thing = getattr(module, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        own = thing.__doc__ or ""
        assert own and not own.startswith(f"{name}("), f"{name} has only the docstring that Python made"
        shown = set(re.findall(r" {3,}\((\d)\)$", own, re.MULTILINE))
        for of, text in {name: own, **methods(thing)}.items():
            assert not set(re.findall(r"\((\d)\)", text)) - shown, f"help({of}) speaks of an equation that it does not show"


def methods(thing):
    """What the public methods of a class say, by name."""
    of = vars(thing).items() if inspect.isclass(thing) else ()
    return {f"{thing.__name__}.{name}": method.__doc__ or "" for name, method in of if inspect.isfunction(method) and name[0] != "_"}

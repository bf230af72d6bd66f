"""help(x) stands alone: whoever asks for it does not see the header of the file, with its numbered equations."""

import importlib
import inspect
import re

import pytest


@pytest.mark.parametrize("room", ["recurrence", "mixers", "systems", "stability", "data"])
def test_what_is_public_is_told_without_its_files_header(room):
    module = importlib.import_module(f"separatrix.{room}")
    for name in module.__all__:
        thing = getattr(module, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        text = thing.__doc__ or ""
        assert text and not text.startswith(f"{name}("), f"{name} has only the docstring that Python made"
        shown = set(re.findall(r" {3,}\((\d)\)$", text, re.MULTILINE))
        assert not set(re.findall(r"\((\d)\)", text)) - shown, f"help({name}) speaks of an equation that it does not show"

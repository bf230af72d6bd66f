"""help(x) stands alone: whoever asks for it does not see the header of the file, with its numbered equations."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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


# Names that no paper made, and why.
NO_PAPER = {
    "recurrence": {
        "Cell": "the promises of any cell",
        "Dense": "any matrix",
        "NotConverged": "an error",
        "State": "a container",
        "Transition": "the promises of any structure",
        "choose": "about forms of operations",
        "linearize": "a derivative",
        "plan": "about forms of operations",
        "scan": "the recurrence itself",
    },
    "stability": {
        "Closeness": "our own yardstick",
        "MeasuredGain": "its method is a power iteration",
        "Number": "a number and its kind",
        "Verdict": "how a measurement ended",
        "exact_spectrum": "logs of eigenvalues",
        "measured_gain": "a power iteration",
        "response_of": "a loop over steps",
        "weakest": "a minimum of kinds",
    },
    "systems": {
        "Known": "a fact, with a source of its own",
        "PushesTangents": "a protocol",
        "RunsItself": "a protocol",
        "trajectory": "a loop over steps",
    },
}
# Functions that take whatever they are given.
REFUSES_NOTHING = {
    "recurrence": {"diagonal_part"},
    "stability": {"response_of"},
    "systems": set(),
}
ID = re.compile(r"arXiv:\d{4}\.\d{5}|doi:[^\s;,)]*\w")


@pytest.mark.parametrize("room", NO_PAPER)
def test_what_is_public_names_its_paper(room):
    cited, things = sources(room), public(room)
    assert set(NO_PAPER[room]) <= set(things)
    for name, thing in things.items():
        papers = told(thing, "Paper")
        if name in NO_PAPER[room]:
            assert not papers, f"{name} names a paper: take it off the list of those without"
            continue
        assert len(papers) == 1, f"{name} has {len(papers)} lines 'Paper    Names YEAR, where.' in its docstring, expected one"
        assert re.search(r"\b(1[89]|20)\d\d\b", papers[0]) and papers[0].endswith("."), f"{name}: {papers[0]!r} is no year and no sentence"
        assert set(ID.findall(papers[0])) <= cited, f"{name} cites what no header of its room and no table of operations does: {papers[0]}"


@pytest.mark.parametrize("room", REFUSES_NOTHING)
def test_what_is_public_says_what_it_refuses(room):
    things = public(room)
    assert set(things) >= REFUSES_NOTHING[room]
    for name, thing in things.items():
        errors = told(thing, "Raises")
        if not (inspect.isfunction(thing) or "__post_init__" in vars(thing)):
            continue
        if name in REFUSES_NOTHING[room]:
            assert not errors, f"{name} names errors: take it off the list of those that refuse nothing"
            assert not re.search(r"\braise\b|\b(expect|check)_", inspect.getsource(thing)), (
                f"{name} refuses something: its docstring has to say what"
            )
            continue
        assert len(errors) == 1, f"{name} has {len(errors)} lines 'Raises   SomeError for ...' in its docstring, expected one"
        assert re.search(r"\b[A-Z]\w+Error\b", errors[0]), f"{name}: {errors[0]!r} names no error"


def test_a_string_for_everything_is_refused_by_an_error_that_help_names():
    for name, operation in public("recurrence").items():
        takes = inspect.signature(operation).parameters.values() if inspect.isfunction(operation) else ()
        if not takes or name in REFUSES_NOTHING["recurrence"] or any(p.kind is p.VAR_POSITIONAL for p in takes):
            continue
        with pytest.raises(Exception) as refused:
            operation(*["nothing" for p in takes if p.default is p.empty])
        kind = refused.type.__name__
        assert kind in told(operation, "Raises")[0], f"{name} raises {kind}, which help({name}) does not tell: {refused.value}"


def public(room):
    """Classes and functions of a room, by name."""
    module = importlib.import_module(f"separatrix.{room}")
    things = {name: getattr(module, name) for name in module.__all__}
    return {name: thing for name, thing in things.items() if inspect.isclass(thing) or inspect.isfunction(thing)}


def told(thing, label):
    """What its docstring says behind a label, one line each: "Paper    ...", "Raises   ..."."""
    return re.findall(rf"^{label:9}(\S.*)$", inspect.cleandoc(thing.__doc__ or ""), re.MULTILINE)


def sources(room):
    """What the headers of a room's files and the tables of the operations cite."""
    headers = [path.read_text(encoding="utf-8").split('"""')[1] for path in (ROOT / "separatrix" / room).glob("*.py")]
    return set(ID.findall("".join([*headers, (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")])))

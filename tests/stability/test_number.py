"""A number says what it is, and a verdict is no stronger than the weakest of its numbers."""

import math

import pytest

from separatrix.stability import Number, weakest


def test_a_number_reads_as_a_sentence_would_say_it():
    assert str(Number(0.90563, "estimated", 0.9012, 0.9101, "per unit of time")) == "0.9056 [0.9012, 0.9101] per unit of time"
    assert str(Number(40, "measured", low=40, unit="samples")) == "40 (at least 40) samples"
    assert str(Number(2, "bound", high=2.0)) == "2 (at most 2)"
    assert float(Number(3, "measured")) == 3.0


def test_an_interval_holds_what_it_holds():
    number = Number(1.0, "estimated", 0.5, 2.0)
    assert number.holds(0.5) and number.holds(2.0) and not number.holds(2.1)
    assert Number(1.0, "bound", low=1.0).holds(math.inf)
    assert number.scaled(2.0, "pulses") == Number(2.0, "estimated", 1.0, 4.0, "pulses")


def test_a_verdict_is_as_strong_as_its_weakest_number():
    assert weakest([Number(1, "certified"), Number(1, "estimated"), Number(1, "bound")]) == "estimated"
    with pytest.raises(ValueError, match="without evidence"):
        weakest([])


def test_what_a_number_cannot_be():
    with pytest.raises(ValueError, match="kind is 'guessed'"):
        Number(1.0, "guessed")
    with pytest.raises(ValueError, match="upside down"):
        Number(1.0, "estimated", 2.0, 1.0)
    for low, high in ((math.nan, 2.0), (0.0, math.nan), (math.nan, None)):
        with pytest.raises(ValueError, match="expected numbers, or None for an end that there is not"):
            Number(1.0, "estimated", low, high)
    missing = Number(math.nan, "estimated", math.nan, math.nan)
    assert missing.low is None and missing.high is None  # it has no interval either
    with pytest.raises(ValueError, match="factor"):
        Number(1.0, "measured").scaled(-1.0, "")

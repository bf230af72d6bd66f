"""Every fact stated about a shipped sequence, recomputed from its file."""

import bz2
import lzma
from collections import Counter

import numpy as np
import pytest
from scipy import signal

from separatrix import data

SHAPES = {
    "laser": (10093, 1), "sunspots": (3126, 1), "ecg": (21600, 1), "nino": (800, 8), "co2": (2284, 1), "nile": (100, 1), "lynx": (114, 1),
    "hare_lynx": (21, 2), "weather_jfk": (8730, 9),
}  # fmt: skip
SHA256 = {
    "laser": "470840340e3d5e743cbb428af721d72df92389a09f5cc88cc3ab20404152371b",
    "sunspots": "d0762522132cc6b393badcc628937e377f03cf11a3451a340778bf8756efd23b",
    "ecg": "e79bc845318b0883076f24359d1599b61db88c8d9677ad3c0c38cce088806cb6",
    "nino": "460f5106d784a595b5dc2ca8d9209186d65547e29b8d57aacfb3578124b08f0f",
    "co2": "a0b4c1c6676e55a6697c97b98fed0094ba23381ec243ca5fd258ae5661359895",
    "nile": "88e97bea7249e5832a85e41aec6ce4b8f7b1b14aae930c8363da7f193286b598",
    "lynx": "7210bf1057112814c3f868e29555d5fff47ff907f791b3cfd8e63329e647887d",
    "hare_lynx": "0ee7ad1b03872f488d7a730ee4eaaa8bae3e4fb97386138d0b4e0aa279d090bc",
    "weather_jfk": "6338b37b6c7b17f80c58527da92eb666c4dcb670838cd82e97376b26eb26fdcd",
    "shakespeare": "5bb30bef53e74f20769a3850db6682a67e255df2a446e3cd10736cb201821b20",
}


def values(name, column=None):
    series = data.load(name)
    return (series.select(column) if column else series).values[:, 0]


def autoregression(x, order):
    """Least squares x_t = c + sum_i a_i x_{t-i}: (a [order], c)."""
    lags = np.stack([x[order - i : len(x) - i] for i in range(1, order + 1)] + [np.ones(len(x) - order)], axis=1)
    solution = np.linalg.lstsq(lags, x[order:], rcond=None)[0]
    return solution[:-1], solution[-1]


def roots(a):
    return np.roots(np.r_[1.0, -a])


def bridged(x):
    """Straight lines across the gaps."""
    rows, known = np.arange(len(x)), ~np.isnan(x)
    return np.interp(rows, rows[known], x[known])


def peak(x, segment, within):
    """The period, in rows, with the most power between two bounds."""
    frequency, power = signal.welch(x - x.mean(), nperseg=segment, nfft=16 * segment)
    period = 1 / np.maximum(frequency, 1e-9)
    inside = (period > within[0]) & (period < within[1])
    return period[inside][np.argmax(power[inside])]


def test_everything_is_listed_and_nothing_else_is_shipped():
    assert set(data.about()) == set(SHA256)
    assert set(SHAPES) == set(SHA256) - {"shakespeare"}


@pytest.mark.parametrize("name", SHAPES)
def test_a_series_is_whole(name):
    series = data.load(name)
    assert series.values.shape == SHAPES[name]
    assert series.values.dtype == np.float64
    assert series.sha256 == SHA256[name]
    assert len(series.names) == len(series.channel_units) == series.values.shape[1]
    assert series.notice and series.name == name and series.step > 0
    with pytest.raises(ValueError, match="read-only"):
        series.values[0, 0] = 0.0


def test_laser():
    series, x = data.load("laser"), values("laser")
    assert (series.origin, series.horizon) == (1000, 100)
    assert x.mean() == pytest.approx(59.8, abs=0.05)
    assert x.std() == pytest.approx(47.0, abs=0.05)
    assert (x.min(), x.max()) == (0, 255)
    assert peak(x, 1024, (5, 10)) == pytest.approx(series.period, abs=0.01)


@pytest.mark.parametrize("order, nmse", [(10, 0.72), (20, 0.93), (40, 0.78)])
def test_laser_linear_forecast(order, nmse):
    x = values("laser")
    a, c = autoregression(x[:1000], order)
    assert abs(roots(a)).max() == pytest.approx(0.984, abs=0.0005)
    run = list(x[:1000])
    for _ in range(100):
        run.append(a @ np.array(run[: -order - 1 : -1]) + c)
    truth = x[1000:1100]
    assert np.mean((np.array(run[1000:]) - truth) ** 2) / truth.var() == pytest.approx(nmse, abs=0.006)


def test_sunspots():
    series, x = data.load("sunspots"), values("sunspots")
    assert peak(x, len(x), (60, 200)) == pytest.approx(series.period, rel=0.02)
    r = roots(autoregression(x[:3120].reshape(-1, 12).mean(axis=1), 2)[0])
    assert r[0] == np.conj(r[1])
    assert abs(r[0]) == pytest.approx(0.83, abs=0.01)
    assert 10.6 < 2 * np.pi / abs(np.angle(r[0])) < 10.9


def test_ecg_is_a_limit_cycle():
    series, x = data.load("ecg"), values("ecg")
    assert abs(x / 0.005 - np.round(x / 0.005)).max() < 1e-9
    beats, _ = signal.find_peaks(x[:7200], height=0.5, distance=100)
    interval = np.diff(beats) * series.step
    assert np.median(interval) == pytest.approx(0.543, rel=0.01)
    assert np.median(np.diff(beats)) == series.period
    assert interval.std() / interval.mean() < 0.07


def test_nino():
    series = data.load("nino")
    x = values("nino", "nino34_anom")
    assert peak(x, 400, (12, 200)) == pytest.approx(series.period, abs=0.2)
    assert np.corrcoef(x[1:], x[:-1])[0, 1] == pytest.approx(0.955, abs=0.0005)
    z = series.select(*(name for name in series.names if name.endswith("anom"))).values
    z = z - z.mean(axis=0)
    eigenvalues = np.linalg.eigvals(np.linalg.lstsq(z[:-1], z[1:], rcond=None)[0])
    assert np.isrealobj(eigenvalues)
    assert np.sort(eigenvalues)[::-1] == pytest.approx([0.960, 0.874, 0.769, 0.722], abs=0.0005)


def test_co2_keeps_its_gaps():
    series, x = data.load("co2"), values("co2")
    assert (series.step, series.unit, series.start, series.gaps) == (1.0, "week", "1958-03-29", 59)
    assert (x[0], x[-1], np.nanmin(x), np.nanmax(x)) == (316.1, 371.5, 313.0, 373.9)
    rows = np.arange(len(x))
    seasonal = bridged(x) - np.polyval(np.polyfit(rows, bridged(x), 3), rows)
    assert peak(seasonal, 1024, (30, 80)) == pytest.approx(series.period, abs=0.02)


def test_nile_level_shift():
    x = values("nile")
    inside = range(5, 95)
    best = min(inside, key=lambda k: k * x[:k].var() + (100 - k) * x[k:].var())
    assert 1871 + best == 1899


def test_lynx():
    series, x = data.load("lynx"), np.log10(values("lynx"))
    a, _ = autoregression(x, 2)
    assert a == pytest.approx([1.384, -0.748], abs=0.0005)
    assert abs(roots(a)) == pytest.approx(0.865, abs=0.0005)
    assert peak(x, len(x), (4, 20)) == pytest.approx(series.period, abs=0.1)


def test_hare_lynx():
    x = data.load("hare_lynx").values
    assert x[0].tolist() == [30.0, 4.0]
    assert x.max(axis=0).tolist() == [77.4, 59.4]


def test_weather_gets_the_hours_that_are_missing():
    series = data.load("weather_jfk")
    assert (series.step, series.unit, series.start) == (1.0, "hour", "2013-01-01 06:00")
    assert series.remarks == ("24 missing times became rows of gaps.",)
    blank = np.isnan(series.values).all(axis=1)
    assert blank.sum() == 24 and len(series) - blank.sum() == 8706
    assert np.isnan(series.select("pressure").values).sum() - 24 == 831
    assert peak(bridged(values("weather_jfk", "temp")), 1024, (6, 100)) == pytest.approx(series.period, rel=0.005)


def test_shakespeare():
    text = data.text("shakespeare")
    assert len(text.content) == 982_986 and text.content.isascii() and text.sha256 == SHA256["shakespeare"]
    p = np.array(list(Counter(text.content).values())) / len(text.content)
    bits = 8 / len(text.content)
    assert -(p * np.log2(p)).sum() == pytest.approx(4.814, abs=0.0005)
    assert bits * len(bz2.compress(text.content)) == pytest.approx(2.367, abs=0.005)
    assert bits * len(lzma.compress(text.content)) == pytest.approx(2.642, abs=0.005)


def test_names_that_do_not_exist():
    with pytest.raises(ValueError, match=r"no series is called 'lazer'\. There are: laser, sunspots"):
        data.load("lazer")
    with pytest.raises(ValueError, match=r"is text.*separatrix\.data\.text\('shakespeare'\)"):
        data.load("shakespeare")
    with pytest.raises(ValueError, match="There are: shakespeare"):
        data.text("homer")

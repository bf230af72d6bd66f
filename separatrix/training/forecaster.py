"""Fit a series, forecast it, go on as new values arrive.

    forecaster = Forecaster("s4d", random_state=0).fit(series)
    forecaster.predict(100)                                      what comes next, by free run
    forecaster.update(values).predict(100)                       after hearing more, without another fit
    forecaster.calibrate(series).predict_interval(100)           between which values, after as much work as the fit once more

The network is a `ForecastModel`: a delay embedding, a backbone of mixers, a head, and all three several times for an ensemble. Every
member is fitted by itself, on its own free run (`rollout.py`); fitted, they run as one. The state after hearing the whole series is part
of the forecaster.

Paper    Weigend & Gershenfeld 1994, Time Series Prediction (the task); Gu et al. 2022, arXiv:2206.11893 (the default mixer);
         Hansen & Salamon 1990, doi:10.1109/34.58871 (ensembles).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from separatrix.data import Series
from separatrix.files import alone_in, save_tensors, write_text
from separatrix.mixers import MIXERS
from separatrix.models.forecaster import ForecastModel
from separatrix.recurrence import State
from separatrix.recurrence.checks import expect_count
from separatrix.training.calibration import calibrating, forget_errors, half_widths, load_errors, save_errors
from separatrix.training.checkpoint import adopt, read_tensors
from separatrix.training.correction import share_kept
from separatrix.training.ensemble import Ensemble
from separatrix.training.loop import CHECKPOINT, Step, train
from separatrix.training.networks import MEMORYLESS, build_network
from separatrix.training.planning import plan_fit
from separatrix.training.recipe import CONFIG, RunConfig, read_config
from separatrix.training.rows import as_rows, as_series

MODEL, STATE = "model.safetensors", "state.safetensors"
STEPPED = 1_000  # rows of a forecast made step by step; those after them play a record of the step, which takes half a second a network


class Interval(NamedTuple):
    """Where the next rows should lie.    low, high [steps, C], or [steps] when the series was [time]"""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Forecaster:
    """A network that continues a series.

    mixer         a name of MIXERS ("s4d", "mamba", "gru", ...), or "mlp" for a network whose only memory is the delay window.
    horizon       free-running steps in the loss; None: 40, less where the series is short.
    lags          rows in the delay window; None: 16, less where the series is short, more where a linear autoregression needs them
                  (`order.py`).
    steps         optimizer steps; None: 2,400, or 400 where the networks only correct a linear autoregression.
    d_model       width of the network.
    layers        mixers, one after another.
    members       networks in the ensemble, each with its own weights and windows. They are fitted side by side on as many threads as torch
                  may use, one a member, and a forecast takes as long as all of them.
    linear        whether the networks only correct a linear autoregression, as far as rows left out bear them out (`correction.py`);
                  None: where the series shows nothing that is not linear (`nonlinearity.py`).
    settings      arguments of the mixer's constructor that differ from this library's choice for forecasting.
    random_state  seed of the weights and of the windows; the same seed on the same machine gives the same forecaster.
    """

    def __init__(
        self, mixer: str = "s4d", *, horizon: int | None = None, lags: int | None = None, steps: int | None = None, d_model: int = 32,
        layers: int = 1, members: int = 4, linear: bool | None = None, settings: dict[str, Any] | None = None, random_state: int = 0,
    ):  # fmt: skip
        if mixer != MEMORYLESS and mixer not in MIXERS:
            raise ValueError(f"mixer is {mixer!r} but the mixers are {', '.join([*MIXERS, MEMORYLESS])}. Choose one of them.")
        counts = dict(horizon=horizon, lags=lags, steps=steps, d_model=d_model, layers=layers, members=members)
        for name, value in counts.items():
            if value is not None:
                expect_count(name, value)
        if linear is not None and not isinstance(linear, bool):
            raise TypeError(f"linear is {linear!r} but must be True, False or None.")
        if not isinstance(random_state, int | np.integer) or isinstance(random_state, bool) or not -(2**63) <= random_state < 2**64:
            raise ValueError(f"random_state is {random_state!r} but must be a whole number of 64 bits.")
        if settings is not None and not isinstance(settings, dict):
            raise TypeError(f"settings is {settings!r} but must be a dict of arguments of the mixer's constructor.")
        self.mixer, self.linear, self.settings, self.random_state = mixer, linear, settings, int(random_state)
        self.horizon, self.lags, self.steps = (None if value is None else int(value) for value in (horizon, lags, steps))
        self.d_model, self.layers, self.members = int(d_model), int(layers), int(members)
        self.orders: dict[int, float] = {}  # of a run whose settings these are: what its series decided once
        self.config: RunConfig | None = None
        self._model: ForecastModel | None = None
        self._state: State | None = None
        self.errors: Tensor | None = None  # [F, n, H, C], of networks on rows they were not fitted to; None: not known

    @classmethod
    def of(cls, config: RunConfig) -> Forecaster:
        """A forecaster with the settings of a run, not fitted."""
        network, recipe = config.network, config.recipe
        forecaster = cls(
            network.mixer, horizon=recipe.horizon, lags=network.lags, steps=recipe.steps,
            d_model=network.d_model, layers=network.layers, members=network.members, linear=network.linear, settings=network.settings,
            random_state=config.seed,
        )  # fmt: skip
        forecaster.orders = network.orders
        return forecaster

    def __repr__(self) -> str:
        fitted = "not fitted" if self.config is None or self._state is None else f"fitted to {self.config.data.name!r}"
        return f"Forecaster({self.mixer!r}, random_state={self.random_state}; {fitted})"

    # -- fitting ---------------------------------------------------------------------------------------------------------------------

    @torch.inference_mode(False)  # gradients too, whatever the caller has turned off
    def fit(
        self, series: Series | ArrayLike | Tensor, *, folder: str | Path | None = None, resume: bool = False,
        on_step: Callable[[Step], None] | None = None,
    ) -> Forecaster:  # fmt: skip
        """Fit `series` ([time] or [time, channels], NaN for gaps), calling `on_step` after every optimizer step.

        folder  where the run is kept while it goes on and when it is done (None: nowhere).
        resume  go on from the checkpoint in `folder`, to the same losses as if it had never stopped.
        """
        for step in self.fitting(series, folder=folder, resume=resume):
            if on_step is not None:
                on_step(step)
        return self

    def fitting(
        self, series: Series | ArrayLike | Tensor, *, folder: str | Path | None = None, resume: bool = False,
        config: RunConfig | None = None,
    ) -> Iterator[Step]:  # fmt: skip
        """`fit`, one optimizer step an item; the forecaster is fitted when the iterator is exhausted.

        config  what `plan` says of this series, for who has asked already.
        """
        series, flat = as_series(series)
        config = self.plan(series, flat=flat) if config is None else config
        if config.data.sha256 != series.fingerprint:
            raise ValueError(f"config is a plan for {config.data.rows:,} other rows ({config.data.name!r}). Pass what plan(series) gives.")
        where = None if folder is None else Path(folder)
        if resume and where is None:
            raise ValueError("resume needs the folder of the run to go on with. Pass folder.")
        if resume and where is not None and not (where / CHECKPOINT).is_file():
            raise ValueError(f"{where} has no checkpoint to go on from. Start the fit without resume.")
        with alone_in(where):
            if where is not None:
                self._open(where, config, resume)
            recipe = config.recipe
            ensemble = Ensemble.of(config, torch.tensor(series.values))
            yield from train(ensemble.model, ensemble.parts(recipe), recipe, seed=config.seed, folder=where, resume=resume)
            self.errors = None
            if recipe.left_out:
                share = share_kept(ensemble, recipe)
                self.errors = ensemble.errors(share, recipe.context)
                ensemble.model.keep_share(share)
                config = config.model_copy(update=dict(correction=share))
            self.config, self._model, self._state = config, ensemble.model.eval(), None
            self.update(series.values)
            if where is not None:
                self.save(where)

    @torch.inference_mode(False)
    def calibrate(
        self, series: Series | ArrayLike | Tensor, *, folder: str | Path | None = None, on_step: Callable[[Step], None] | None = None
    ) -> Forecaster:  # fmt: skip
        """Find out how far off forecasts are, by fitting networks that each leave out a part of `series` (`calibration.py`).

        Nothing is left to do where networks correct a linear autoregression: they were fitted like that (`correction.py`).

        series   the one that was fitted.
        folder   the run, where the errors are kept; a calibration that was stopped goes on from there.
        on_step  called after every optimizer step.
        """
        for step in self.calibrating(series, folder=folder):
            if on_step is not None:
                on_step(step)
        return self

    def calibrating(self, series: Series | ArrayLike | Tensor, *, folder: str | Path | None = None) -> Iterator[Step]:
        """`calibrate`, one optimizer step an item."""
        config = self._fitted()
        series, _ = as_series(series)
        if series.fingerprint != config.data.sha256:
            raise ValueError(f"series is not the {config.data.rows:,} rows of {config.data.name!r} that were fitted. Pass those.")
        where = None if folder is None else Path(folder)
        if self.errors is None:
            with alone_in(where):
                self.errors = yield from calibrating(config, torch.tensor(series.values), where)

    def plan(self, series: Series, *, flat: bool = False) -> RunConfig:
        """Everything that `fit` would do with this series, before it does it."""
        return plan_fit(self, series, flat=flat)

    def _open(self, folder: Path, config: RunConfig, resume: bool) -> None:
        """Make the folder a run's, or see that it is this run's."""
        if resume:
            if changed := read_config(folder).differences(config):
                raise ValueError(
                    f"{folder} holds another run: {'; '.join(changed[:4])} (there and here). Resume with the settings it began with."
                )
            return
        (folder / CHECKPOINT).unlink(missing_ok=True)
        forget_errors(folder)
        write_text(folder / CONFIG, config.model_dump_json(indent=2) + "\n")

    # -- forecasting -----------------------------------------------------------------------------------------------------------------

    @property
    def model(self) -> ForecastModel:
        self._fitted()
        return cast(ForecastModel, self._model)

    def _fitted(self) -> RunConfig:
        if self.config is None or self._model is None:
            raise ValueError("this forecaster is not fitted. Call fit(series) first, or Forecaster.load(folder).")
        return self.config

    @property
    def state(self) -> State:
        """What the model carries after all it has heard; one row."""
        self._fitted()
        return cast(State, self._state)

    def predict(self, steps: int) -> NDArray[np.float64]:
        """The next `steps` rows, by free run.    [steps, C], or [steps] when the series was [time]"""
        expect_count("steps", steps, 0)
        near = min(steps, STEPPED)
        with torch.no_grad():
            y, state = self.model.free_run(None, near, self.state)
            rows = torch.cat([y[0], *self._go_on(state, steps - near)]).numpy()
        return self._shaped(rows)

    def predict_interval(self, steps: int, coverage: float = 0.9) -> Interval:
        """Around `predict(steps)`, so wide that `coverage` of the rows should fall inside, each row by itself.

        Estimated: the width at each lead is that of errors on rows that networks like these were not fitted to (`calibration.py`).
        """
        y = self.predict(steps)
        if self.errors is None:
            raise ValueError("this forecaster does not know how far off it is. Call calibrate(series) first; it takes as long as the fit.")
        width = self._shaped(half_widths(self.errors, coverage, steps).numpy())
        return Interval(y - width, y + width)

    def _shaped(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """[steps, C] as the caller's series was."""
        return rows[:, 0] if self._fitted().flat else rows

    def _go_on(self, state: State, steps: int) -> Iterator[Tensor]:
        """`steps` rows from `state`, in pieces, by the program of a step where the state has a fixed size."""
        if state.vector().shape != self.state.vector().shape:
            yield self.model.free_run(None, steps, state)[0][0]
        elif steps > 0:
            system = self.model.as_system(state=state, dtype=self.model.dtype)
            now = system.start
            for done in range(0, steps, STEPPED):
                states = system.trajectory(now, min(STEPPED, steps - done))
                now = states[-1]
                yield system.observe(states)

    def update(self, values: Series | ArrayLike | Tensor) -> Forecaster:
        """Hear more of the series; the weights stay. NaN is a gap and is run through in closed loop."""
        rows = as_rows(values)
        if rows.shape[1] != self.model.channels:
            raise ValueError(
                f"values have {rows.shape[1]} channels but the series had {self.model.channels}. Pass [time, {self.model.channels}]."
            )
        with torch.no_grad():
            _, self._state = self.model(torch.tensor(rows)[None], self._state)
        return self

    # -- keeping ---------------------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write config.json, model.safetensors, state.safetensors, and errors.safetensors where there are any; `load` needs no more."""
        where = Path(folder)
        model, config = self.model, self._fitted()
        where.mkdir(parents=True, exist_ok=True)
        save_tensors(where / MODEL, model.state_dict(), {"format": config.format})
        self.state.save(where / STATE)
        if self.errors is None:
            forget_errors(where)
        else:
            save_errors(where, self.errors)
        write_text(where / CONFIG, config.model_dump_json(indent=2) + "\n")
        return where

    @classmethod
    def load(cls, folder: str | Path) -> Forecaster:
        """The forecaster kept in a run folder, as it was."""
        where = Path(folder)
        config = read_config(where)
        forecaster = cls.of(config)
        if not (where / MODEL).is_file() and (where / CHECKPOINT).is_file():
            raise ValueError(f"the fit in {where} is not finished. Go on with it: separatrix fit --resume {where}")
        model = build_network(config.network, Generator().manual_seed(config.seed))
        adopt(model, read_tensors(where / MODEL)[0])
        read_tensors(where / STATE)
        forecaster.config, forecaster._model, forecaster._state = config, model.eval(), State.load(where / STATE)
        forecaster.errors = load_errors(where, config.network.channels)
        return forecaster

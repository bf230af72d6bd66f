"""A network that continues a measured sequence, one step at a time, from what it heard or from what it said.

    z_t = (x_t - mean) / scale                        what the network hears                                       (1)
    w_t = (z_{t-L+1}, ..., z_{t-1}, z_t)              the last L values of each channel, a delay embedding         (2)
    e_t, h_t = backbone(W w_t + b, h_{t-1}),          ẑ_{t+1} = V e_t + c                                          (3)

Teacher forced, x_t is the measurement; where it is missing, and in free run, z_t is the model's own ẑ_t: a gap is a short free run.
The state is everything (3) carries: the last values, the next guess, and the state of the backbone. With this library's backbones e_t
leaves a norm of fixed length, so that ẑ, and with it every free run, stays inside the box `output_range`, whatever the state.

With `linear` the networks predict what a linear autoregression leaves: its forecast of z_{t+1} is added to theirs.

An ensemble has (3) several times, each with weights of its own. Its guess is the mean of theirs, and that is what all of them hear next: it
is one map and one free run, not several that drift apart.

Paper    Takens 1981, doi:10.1007/BFb0091924 (delays); Sauer 1994, in Weigend & Gershenfeld, Time Series Prediction (the laser);
         Hansen & Salamon 1990, doi:10.1109/34.58871 (ensembles).
Cost     that of the backbones; the state has channels * L numbers more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Generator, Tensor, nn

from separatrix.mixers.door import RETURNED
from separatrix.mixers.initial import linear
from separatrix.mixers.norm import RMSNorm
from separatrix.mixers.remembered import held
from separatrix.mixers.settings import expect_flag
from separatrix.models.autoregression import RidgeAutoregression
from separatrix.models.backbone import Backbone, Visit
from separatrix.models.free_run import SelfHearing
from separatrix.recurrence import State
from separatrix.recurrence.checks import expect_count


class Member(nn.Module):
    """(3): what one network guesses.    w [B, T, inputs] -> ẑ [B, T, C], the state of its backbone"""

    def __init__(self, inputs: int, backbone: nn.Module, channels: int, generator: Generator | None):
        super().__init__()
        self.embed = linear(inputs, cast(int, backbone.d_model), bias=True, generator=generator)
        self.backbone = backbone
        self.head = linear(cast(int, backbone.d_model), channels, bias=True, generator=generator)

    def forward(self, w: Tensor, state: State | None) -> tuple[Tensor, State]:
        e, state = self.backbone(self.embed(w), state)
        return self.head(e), state

    def reach(self) -> Tensor | None:
        """The largest |ẑ - c| that any state can lead to, [C]: RMSNorm leaves vectors no longer than sqrt(D) times its weights, so
        |V e| <= sqrt(D) |V * weight|. None without such a norm."""
        norm = getattr(self.backbone, "norm", None)
        if not isinstance(norm, RMSNorm):
            return None
        V = self.head.weight.double() * norm.weight.double()
        return V.shape[1] ** 0.5 * torch.linalg.vector_norm(V, dim=1)


class ForecastModel(SelfHearing):
    """Hears x_t, says x_{t+1}.    x [B, T, C] with NaN for gaps -> y [B, T, C], y_t the forecast of x_{t+1}

        z_t = (x_t - mean) / scale,   w_t = (z_{t-L+1}, ..., z_t)
        e_t, h_t = backbone(W w_t + b, h_{t-1}),   ẑ_{t+1} = V e_t + c,   y_t = mean + scale ẑ_{t+1}

    Where x_t is missing, and in free run, z_t is the model's own ẑ_t. Of an ensemble ẑ is the mean, and all members hear it.

    channels  C, values in a row.
    backbone  anything with `d_model` and the mixers' call: y, state = backbone(x, state). Several of them make an ensemble.
    lags      L, rows of the delay window w.
    mask      whether the network is told which of the values it hears are its own, filled into gaps: L C inputs more.
    linear    whether an autoregression on the delay window is added, which `start_linear` fits.
    """

    def __init__(
        self, channels: int, backbone: nn.Module | Sequence[nn.Module], *, lags: int = 16, mask: bool = False, linear: bool = False,
        generator: Generator | None = None,
    ):  # fmt: skip
        super().__init__()
        self.channels, self.lags, self.mask = expect_count("channels", channels), expect_count("lags", lags), expect_flag("mask", mask)
        self.keep = max(lags - 1, 1)  # values the state holds; one even without lags, so that a state shows where it is
        self.register_buffer("mean", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(channels, dtype=torch.float64))
        self.linear = RidgeAutoregression(channels, lags) if expect_flag("linear", linear) else None
        inputs = channels * lags * (2 if mask else 1)
        backbones = [backbone] if isinstance(backbone, nn.Module) else backbone
        if not isinstance(backbones, Sequence) or not all(isinstance(one, nn.Module) for one in backbones):
            raise TypeError(f"backbone is {backbone!r} but must be a module such as Backbone(8, [GRU(8)]), or a list of them.")
        self.members = nn.ModuleList(Member(inputs, backbone, channels, generator) for backbone in backbones)
        if not backbones or sum(len(list(member.parameters())) for member in self.members) > len(list(self.parameters())):
            raise ValueError("backbone is an empty list, or two in it share weights. Build one for every member of the ensemble.")

    def each(self) -> list[Member]:
        """The networks of the ensemble, in order."""
        return cast("list[Member]", list(self.members))

    def alone(self, i: int) -> ForecastModel:
        """Member i as a model that hears itself only. It shares its weights, `mean`, `scale` and `linear` with this one."""
        member = self.each()[i]
        model = ForecastModel(self.channels, member.backbone, lags=self.lags, mask=self.mask, generator=Generator())
        model.members[0], model.mean, model.scale, model.linear = member, self.mean, self.scale, self.linear
        return model.train(self.training)

    def measure_scale(self, x: Tensor) -> None:
        """Set `mean` and `scale` to those of x [T, C], gaps left out; the scale of a constant channel is its size, at most 1."""
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise ValueError(f"x is {tuple(x.shape)} but this model is scaled by [time, channels] with {self.channels} channels.")
        mean, scale = mean_and_scale(x.to(self.mean))
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def start_linear(self, z: Tensor, orders: Mapping[int, float] | None = None) -> None:
        """Fit `linear`, if there is one, to z [T, C] in the network's units, and let the networks begin by adding nothing to it.

        orders  those of `RidgeAutoregression.fit`.
        """
        if self.linear is not None:
            self.linear.fit(z, orders)
            for member in self.each():
                nn.init.zeros_(member.head.weight)
                nn.init.zeros_(member.head.bias)

    @torch.no_grad()
    def keep_share(self, share: float) -> ForecastModel:
        """Let the networks say this share of what they say, 0 to 1; meant for those that correct `linear`."""
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share} but must lie between 0 and 1.")
        for member in self.each():
            member.head.weight.mul_(share)
            member.head.bias.mul_(share)
        return self

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Teacher forced along x; gaps are run through in closed loop."""
        self.expect_rows(x)
        self.expect_state(state)
        guesses, state = self.listen(self.scaled(x), state)
        return self.unscaled(guesses).to(x.dtype), state

    def free_run(self, context: Tensor | None, steps: int, state: State | None = None) -> tuple[Tensor, State]:
        """Hear `context` [B, T, C] (None: nothing more), then go on alone.    -> y [B, steps, C], the state after them

        y has the dtype of the context, and float64 without one: the units of the data may need it where the network does not.
        """
        if context is None and state is None:
            raise ValueError("context and state are both None: there is nothing to go on from. Pass one of them.")
        expect_count("steps", steps, 0)
        self.expect_state(state)
        dtype = self.mean.dtype
        if context is not None:
            _, state = self(context, state)
            dtype = context.dtype
        guesses, state = self.roll(cast(State, state), steps)
        return self.unscaled(guesses).to(dtype), state

    def fill(self, x: Tensor, state: State | None = None) -> Tensor:
        """x with its gaps filled by what the model said there."""
        self.expect_rows(x)
        if not bool(torch.isnan(x).any()):
            return x
        y, _ = self(x, state)
        first = self.unscaled(self.rest(x.shape[0]) if state is None else cast(Tensor, state.guess)).to(x.dtype)
        return torch.where(torch.isnan(x), torch.cat([first[:, None], y[:, :-1]], dim=1), x)

    def walk(self, x: Tensor) -> Iterator[Visit]:
        """Every layer along x [B, T, C], teacher forced from rest: see `Backbone.walk`. The linear part, if there is one, comes first, and
        of networks none of whose correction is kept nothing is shown: nobody hears them."""
        self.expect_rows(x)
        gap = torch.isnan(x)
        z = self.scaled(self.fill(x))
        windows, _ = self.delays(z, gap.to(z.dtype), None)
        if self.linear is not None:
            yield Visit("linear", self.linear, windows, None, self.linear(windows), State())
        for i, member in enumerate(self.each()):
            if hasattr(member.backbone, "walk") and bool(member.head.weight.any()):
                for visit in cast(Backbone, member.backbone).walk(member.embed(windows)):
                    yield visit if len(self.members) == 1 else visit._replace(name=f"{member_name(i)}.{visit.name}")

    def output_range(self) -> tuple[Tensor, Tensor] | None:
        """Lowest and highest value a forecast can take, [C] each, from the norms before the heads (and the clip of `linear`); None without
        such a norm."""
        reaches = [member.reach() for member in self.each()]
        if any(reach is None for reach in reaches):
            return None
        centre = mean_of([member.head.bias.double() for member in self.each()])
        reach = mean_of(cast("list[Tensor]", reaches))
        if self.linear is not None:
            reach = reach + self.linear.limit.double()
        reach = reach + 16 * torch.finfo(self.dtype).eps * (reach + centre.abs())  # for arithmetic that rounds
        return self.unscaled(centre - reach).detach(), self.unscaled(centre + reach).detach()

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the networks."""
        return self.each()[0].head.weight.dtype

    # -- in the network's own units ------------------------------------------------------------------------------------------------

    def scaled(self, x: Tensor) -> Tensor:
        """z = (x - mean) / scale, in the precision of the networks."""
        return ((x.to(self.mean.dtype) - self.mean) / self.scale).to(self.dtype)

    def unscaled(self, z: Tensor) -> Tensor:
        """mean + scale z, in float64."""
        return z.to(self.mean.dtype) * self.scale + self.mean

    def rest(self, batch: int) -> Tensor:
        """What a model that has heard nothing expects: the mean.    [B, C]"""
        return self.each()[0].head.weight.new_zeros(batch, self.channels)

    def listen(self, z: Tensor, state: State | None) -> tuple[Tensor, State]:
        """`hear`, for sequences with gaps: whole stretches at once where every row is measured, step by step where one is not."""
        gap = torch.isnan(z)
        if not bool(gap.any()):
            return self.hear(z, state)
        guesses = []
        broken = gap.any(dim=2).any(dim=0).tolist()
        start = 0
        while start < len(broken):
            end = start + 1
            while not broken[start] and end < len(broken) and not broken[end]:
                end += 1
            piece = z[:, start:end]
            if broken[start]:
                own = self.rest(z.shape[0]) if state is None else cast(Tensor, state.guess)
                piece = torch.where(gap[:, start:end], own[:, None], piece)
            y, state = self.hear(piece, state, gap[:, start:end])
            guesses.append(y)
            start = end
        return torch.cat(guesses, dim=1), cast(State, state)

    def hear(self, z: Tensor, state: State | None, gap: Tensor | None = None) -> tuple[Tensor, State]:
        """What the networks say along z [B, T, C] without NaN; `gap` marks values that are the model's own.    -> ẑ [B, T, C], state"""
        marks = (torch.zeros_like(z) if gap is None else gap.to(z.dtype)) if self.mask else None
        windows, kept = self.delays(z, marks, state)
        said, inner = [], {}
        for i, member in enumerate(self.each()):
            before = None if state is None else state.parts.get(member_name(i), State())
            guess, inner[member_name(i)] = member(windows, cast(State | None, before))
            said.append(guess)
        guesses = mean_of(said) if self.linear is None else mean_of(said) + self.linear(windows)
        last = guesses[:, -1] if z.shape[1] else (self.rest(z.shape[0]) if state is None else cast(Tensor, state.guess))
        return guesses, State(**kept, guess=last, **inner)

    def delays(self, z: Tensor, marks: Tensor | None, state: State | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The delay windows w along z, [B, T, C L], and what the next step needs of them."""
        past = {} if state is None else state.parts
        signals = {"recent": z} if not self.mask else {"recent": z, "filled": torch.zeros_like(z) if marks is None else marks}
        windows, kept = [], {}
        for name, signal in signals.items():
            before = past.get(name, signal.new_zeros(signal.shape[0], self.keep, self.channels))
            line = torch.cat([cast(Tensor, before), signal], dim=1)
            kept[name] = line[:, -self.keep :]
            if signal.shape[1]:
                windows.append(line[:, self.keep + 1 - self.lags :].unfold(1, self.lags, 1).flatten(2))
            else:
                windows.append(signal.new_empty(signal.shape[0], 0, self.channels * self.lags))
        return windows[0] if len(windows) == 1 else torch.cat(windows, dim=2), kept

    def roll(self, state: State, steps: int) -> tuple[Tensor, State]:
        """Free run: every guess is heard as if it had been measured.    -> ẑ [B, steps, C], the state after them"""
        said = []
        with held():
            for _ in range(steps):
                said.append(cast(Tensor, state.guess))
                _, state = self.hear(said[-1][:, None], state)
        guess = cast(Tensor, state.guess)
        return torch.stack(said, dim=1) if said else guess.new_empty(guess.shape[0], 0, self.channels), state

    def expect_rows(self, x: Tensor) -> None:
        """Refuse what is no [batch, time, channels] of real numbers; NaN is a gap and is welcome."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            came = f"{x.dtype} tensor" if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x is a {came} but this model hears real floating point numbers. Convert it: torch.as_tensor(x).double().")
        if x.ndim != 3 or x.shape[2] != self.channels:
            raise ValueError(f"x is {tuple(x.shape)} but this model hears [batch, time, channels] with {self.channels} channels.")
        if bool(torch.isinf(x).any()):
            raise ValueError("x holds infinite values. Mark what is missing as NaN and repair the rest.")

    def expect_state(self, state: State | None) -> None:
        if state is not None and not isinstance(state, State):
            raise TypeError(f"state is a {type(state).__name__} but this model keeps a State. {RETURNED}")


def member_name(i: int) -> str:
    """The name of member i in states and visits."""
    return f"member{i}"


def mean_and_scale(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel, gaps left out; of a constant channel its size, at most 1.    x [T, C] -> [C], [C]"""
    moves = x.nan_to_num(-torch.inf).amax(0) > x.nan_to_num(torch.inf).amin(0)  # the mean of equal numbers is rounded
    size = x.abs().nan_to_num(0.0).amax(0)  # in these units no square is too large or too small for a number
    size = torch.where(size > 0, size, torch.ones_like(size))
    mean = (x / size).nanmean(0)
    scale = (x / size - mean).square().nanmean(0).sqrt() * size
    return mean * size, torch.where(moves & (scale > 0), scale, size.clamp(max=1.0))


def mean_of(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else sum(tensors[1:], tensors[0]) / len(tensors)

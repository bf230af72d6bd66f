"""Whole layers, each beside a peer that was given our weights.

A layer is an operation whose inputs are the sequence and the parameters; a peer's parameters are copied from them outside the clock,
and its forward + backward includes the gradients of its own parameters. The S5 row is the linear system alone (B, scan, C and skip),
which is what the peers' packages share; S4D includes its activation and output layer, as its reference does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import packages
from benchmarks.jax_loops import JaxCall
from benchmarks.operation import OURS, Bar, Operation, Shape, Work
from benchmarks.rival import Inputs, Rival
from benchmarks.vector import selective_work, ssm_work
from separatrix.mixers import GRU, LSTM, S4D, S5, Mamba, Mamba2
from separatrix.recurrence.init import s4d_lin

Build = Callable[[int], nn.Module]  # d_model -> layer


class ModuleCall:
    """A module with its own parameters."""

    def __init__(
        self, parameters: Iterable[Tensor], run: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor, channels_first: bool = False
    ):
        self.turn = (lambda x: x.transpose(1, 2).contiguous()) if channels_first else (lambda x: x)
        self.run, self.weight, self.x = run, self.turn(weight), self.turn(x).detach().requires_grad_()
        self.parameters = tuple(parameters)

    def forward(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        with torch.no_grad():
            return self.run(self.x), ()

    def both(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        y = self.run(self.x)
        return y, torch.autograd.grad(y, (self.x, *self.parameters), self.weight)

    def read(self, result) -> tuple[Tensor, dict[str, Tensor]]:
        """The gradient of x alone: a peer's parameters need not be ours."""
        y, gradients = result
        return self.turn(y.detach()), {"x": self.turn(gradients[0])} if gradients else {}


def layer_row(
    name: str,
    build: Build,
    shapes: dict[str, Shape],
    rivals: tuple[Rival, ...],
    work: Callable[[Shape], Work],
    bars: tuple[Bar, ...] = (),
    method: str = "forward",
    without: str | None = None,
) -> Operation:
    """method: what of the layer is measured, a method of x that returns (output, state); without: the parameters it does not read."""

    @functools.cache
    def layer(d_model: int, dtype: torch.dtype) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return _Output(build(d_model), method).to(dtype).eval()

    def inputs(s: Shape) -> dict[str, Tensor]:
        module = layer(s["D"], torch.float32)
        parameters = {name.removeprefix("layer."): p.detach().clone() for name, p in module.named_parameters()}
        read = {name: p for name, p in parameters.items() if without is None or not name.startswith(without)}
        return {"x": torch.randn(s["B"], s["T"], s["D"]), **read}

    def ours(x: Tensor, **parameters: Tensor) -> Tensor:
        named = {f"layer.{name}": p for name, p in parameters.items()}
        return torch.func.functional_call(layer(x.shape[-1], x.dtype), named, (x,))

    def bind(inputs: Inputs, weight: Tensor) -> ModuleCall:
        module = layer(inputs["x"].shape[-1], torch.float32)
        own = dict(module.named_parameters())
        return ModuleCall((own[f"layer.{name}"] for name in parameters_of(inputs)), module, inputs["x"], weight)

    return Operation(name, shapes, inputs, "x", ours, ours, rivals, work, bars, grows=False, ours_rival=Rival(OURS, bind))


class _Output(nn.Module):
    def __init__(self, layer: nn.Module, method: str):
        super().__init__()
        self.layer, self.method = layer, method

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.layer, self.method)(x)[0]


def with_products(work: Callable[[Shape], Work], weights: Callable[[int], int]) -> Callable[[Shape], Work]:
    """A recurrence and the matrix products around it: so many weights, each used once a token."""

    def total(s: Shape) -> Work:
        inner, flops = work(s), 2 * s["B"] * s["T"] * weights(s["D"])
        return Work({"forward": inner.flops["forward"] + flops, "both": inner.flops["both"] + 3 * flops}, inner.moved)

    return total


def parameters_of(inputs: Inputs) -> dict[str, Tensor]:
    return {name: x for name, x in inputs.items() if name != "x"}


def _s4d(inputs: Inputs, weight: Tensor) -> ModuleCall:
    module = packages.checkout("s4", "models/s4/s4d.py", "github.com/state-spaces/s4").S4D(inputs["x"].shape[-1], d_state=64).eval()
    state = {f"kernel.{name}": inputs[name] for name in ("log_dt", "log_A_real", "A_imag", "C")}
    product = {"output_linear.0.weight": inputs["out_proj.weight"][..., None], "output_linear.0.bias": inputs["out_proj.bias"]}
    module.load_state_dict({"D": inputs["D"], **state, **product})
    return ModuleCall(module.parameters(), lambda x: module(x)[0], inputs["x"], weight, channels_first=True)


def _s5_jax(inputs: Inputs, weight: Tensor) -> JaxCall:
    jax = packages.package("jax", "jax")
    numpy = packages.package("jax.numpy", "jax")
    if not hasattr(numpy, "DeviceArray"):  # its annotations name a type that newer JAX calls Array
        setattr(numpy, "DeviceArray", jax.Array)  # noqa: B010
    s5 = packages.checkout("S5", "s5/ssm.py", "github.com/lindermanlab/S5")

    def system(x, log_dt, log_A_real, A_imag, B, C, D, **unused):
        a, b = s5.discretize_zoh(-numpy.exp(log_A_real) + 1j * A_imag, B[:, 0] + 1j * B[:, 1], numpy.exp(log_dt))
        read = C[..., 0] + 1j * C[..., 1]
        return jax.vmap(lambda row: s5.apply_ssm(a, b, read, row, True, False), in_axes=1, out_axes=1)(x) + D * x

    return JaxCall(system, inputs, weight)


def _s5_torch() -> Callable[..., Tensor]:
    s5 = packages.package("s5.s5_model", "s5-pytorch")

    def system(x, log_dt, log_A_real, A_imag, B, C, D, **unused):
        A = torch.complex(-torch.exp(log_A_real), A_imag)
        a, b = s5.discretize_zoh(A, torch.complex(B[:, 0], B[:, 1]), torch.exp(log_dt))
        read = 2 * torch.complex(C[..., 0], C[..., 1])
        return torch.stack([s5.apply_ssm(a, b, read, D, row)[0] for row in x])

    return system


def _mambapy(inputs: Inputs, weight: Tensor) -> ModuleCall:
    mamba = packages.package("mambapy.mamba", "mambapy")
    block = mamba.MambaBlock(mamba.MambaConfig(d_model=inputs["x"].shape[-1], n_layers=1)).eval()
    block.load_state_dict(parameters_of(inputs))
    return ModuleCall(block.parameters(), block, inputs["x"], weight)


def _transformers_mamba(inputs: Inputs, weight: Tensor, **options: Any) -> ModuleCall:
    model = packages.package("transformers.models.mamba.modeling_mamba", "transformers")
    config = model.MambaConfig(hidden_size=inputs["x"].shape[-1], num_hidden_layers=1, **options)
    mixer = model.MambaMixer(config, layer_idx=0).eval()
    mixer.load_state_dict(parameters_of(inputs))
    return ModuleCall(mixer.parameters(), mixer, inputs["x"], weight)


def _transformers_mamba2(inputs: Inputs, weight: Tensor) -> ModuleCall:
    model = packages.package("transformers.models.mamba2.modeling_mamba2", "transformers")
    parameters, d_model = parameters_of(inputs), inputs["x"].shape[-1]
    heads = parameters["A_log"].numel()
    states = (parameters["conv1d.bias"].numel() - 2 * d_model) // 2
    config = model.Mamba2Config(
        hidden_size=d_model,
        num_hidden_layers=1,
        num_heads=heads,
        head_dim=2 * d_model // heads,
        state_size=states,
        n_groups=1,
        expand=2,
        chunk_size=64,
    )
    mixer = model.Mamba2Mixer(config, layer_idx=0).eval()
    mixer.load_state_dict(parameters)
    return ModuleCall(mixer.parameters(), mixer, inputs["x"], weight)


def _torch_cell(kind: type[nn.LSTM] | type[nn.GRU]) -> Callable[[Inputs, Tensor], ModuleCall]:
    def bind(inputs: Inputs, weight: Tensor) -> ModuleCall:
        d_model = inputs["x"].shape[-1]
        cell = kind(d_model, d_model, batch_first=True).eval()
        cell.load_state_dict({name.rpartition(".")[2]: x for name, x in parameters_of(inputs).items()})
        return ModuleCall(cell.parameters(), lambda x: cell(x)[0], inputs["x"], weight)

    return bind


def _s5_work(s: Shape) -> Work:
    array = 4 * s["B"] * s["T"]
    scan = 8 * s["B"] * s["T"] * 128
    return Work({"forward": scan, "both": 3 * scan}, {"forward": array * (2 * s["D"] + 256), "both": 3 * array * (2 * s["D"] + 256)})


def _still(s: Shape) -> Work:
    array = 4 * s["B"] * s["T"] * s["D"]
    return Work({"forward": 0, "both": 0}, {"forward": 2 * array, "both": 5 * array})


def _mamba_work(s: Shape) -> Work:
    return selective_work({**s, "D": 2 * s["D"], "N": 16})


def _mamba2_work(s: Shape) -> Work:
    entries = s["B"] * s["T"] * 2 * s["D"] * s["N"]
    array = 4 * s["B"] * s["T"] * s["D"]
    return Work({"forward": 4 * entries, "both": 12 * entries}, {"forward": 2 * array, "both": 5 * array})


def _table() -> dict[str, Operation]:
    layer = {"S": dict(B=2, T=1024, D=256), "L": dict(B=1, T=8192, D=256)}
    mamba = {"S": dict(B=2, T=1024, D=256), "L": dict(B=1, T=4096, D=512)}
    mamba2 = {"S": dict(B=2, T=512, D=128, N=64), "L": dict(B=1, T=4096, D=512, N=128)}
    cells = {"S": dict(B=4, T=512, D=256), "L": dict(B=8, T=2048, D=512)}
    s4d = Rival("s4d.py of state-spaces/s4", _s4d)
    rows = (
        layer_row(
            "S4D",
            functools.partial(S4D, d_state=64, init=s4d_lin),
            layer,
            (s4d,),
            with_products(lambda s: ssm_work({**s, "N": 32}), lambda d: 2 * d * d),
            (Bar("forward", 0.1, (s4d.name,)), Bar("both", 0.1, (s4d.name,))),
        ),
        layer_row(
            "S5, linear system",
            functools.partial(S5, d_state=256),
            layer,
            (Rival("S5 in JAX, apply_ssm", _s5_jax), packages.lazily("s5-pytorch, apply_ssm", _s5_torch)),
            with_products(_s5_work, lambda d: 2 * 256 * d),
            method="respond",
            without="gate_proj",
        ),
        layer_row(
            "Mamba",
            Mamba,
            mamba,
            (
                Rival("mambapy MambaBlock", _mambapy),
                Rival("transformers MambaMixer", _transformers_mamba, longest_training=256),
                Rival("transformers MambaMixer, mambapy scan", functools.partial(_transformers_mamba, use_mambapy=True)),
            ),
            with_products(_mamba_work, lambda d: 4 * d * d + 2 * d * (d // 16 + 32) + 2 * d * (d // 16) + 2 * d * d),
        ),
        layer_row(
            "Mamba-2, 64 states",
            functools.partial(Mamba2, d_state=64),
            {"S": mamba2["S"]},
            (Rival("transformers Mamba2Mixer", _transformers_mamba2),),
            with_products(_mamba2_work, lambda d: d * (4 * d + 2 * 64 + d // 32) + 2 * d * d),
        ),
        layer_row(
            "Mamba-2, 128 states",
            functools.partial(Mamba2, d_state=128),
            {"L": mamba2["L"]},
            (Rival("transformers Mamba2Mixer", _transformers_mamba2),),
            with_products(_mamba2_work, lambda d: d * (4 * d + 2 * 128 + d // 32) + 2 * d * d),
        ),
        layer_row("LSTM", LSTM, cells, (Rival("torch.nn.LSTM", _torch_cell(nn.LSTM)),), with_products(_still, lambda d: 8 * d * d)),
        layer_row("GRU", GRU, cells, (Rival("torch.nn.GRU", _torch_cell(nn.GRU)),), with_products(_still, lambda d: 6 * d * d)),
    )
    return {row.name: row for row in rows}


LAYERS = _table()

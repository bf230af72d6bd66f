"""Rivals that come in packages. Each is imported when it is bound, none is required, and none of their code lives here.

    mambapy                         pip install mambapy
    transformers                    pip install transformers
    flash-linear-attention          pip install --no-deps flash-linear-attention fla-core; only its naive files run on a CPU, and they
                                    are loaded by path because their package imports triton
    S5 in PyTorch                   pip install s5-pytorch
    s4, S5 in JAX                   not on PyPI: --peer-path s4=CHECKOUT of state-spaces/s4, --peer-path S5=CHECKOUT of lindermanlab/S5

transformers hands some functions over to another package when that is importable; here its own PyTorch version runs.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from benchmarks.rival import Absent, Rival, TorchCall

PATHS: dict[str, str] = {}  # name of a checkout -> where it is, from --peer-path


def package(name: str, install: str) -> ModuleType:
    try:
        with quiet():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Absent(f"pip install {install}") from error


def checkout(name: str, module: str, url: str) -> ModuleType:
    """A module (folder/name.py) of a checkout, in a package of its own so that it cannot meet a namesake that pip installed."""
    if name not in PATHS:
        raise Absent(f"--peer-path {name}=CHECKOUT of {url}")
    root, file = Path(PATHS[name]), Path(PATHS[name], module)
    if not file.exists():
        raise Absent(f"{file} does not exist; --peer-path {name} wants a checkout of {url}")
    holder = ModuleType(f"peer_{name}")
    holder.__path__ = [str(file.parent)]
    sys.modules[holder.__name__] = holder
    sys.path.insert(0, str(root))  # for what it imports by its full name
    try:
        with quiet():
            return importlib.import_module(f"{holder.__name__}.{file.stem}")
    except ModuleNotFoundError as error:
        raise Absent(f"{module} of {url} needs {error.name}") from error
    finally:
        sys.path.remove(str(root))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Importing other people's packages prints and warns; that is not what this table is about."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def fla(operation: str, function: str, file: str = "naive") -> Callable[..., Any]:
    spec = importlib.util.find_spec("fla")
    roots = list(spec.submodule_search_locations or []) if spec else []
    files = [path for root in roots if (path := Path(root, "ops", operation, f"{file}.py")).exists()]
    if not files:
        raise Absent("pip install --no-deps flash-linear-attention fla-core")
    package("einops", "einops")
    spec = importlib.util.spec_from_file_location(f"fla_naive_{operation.replace('/', '_')}", files[0])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)


def transformers(model: str, name: str) -> Any:
    found = getattr(package(f"transformers.models.{model}.modeling_{model}", "transformers"), name)
    return inspect.unwrap(found) if inspect.isfunction(found) else found


def lazily(name: str, find: Callable[[], Callable[..., Tensor]], heads_first: bool = False, **limits) -> Rival:
    """A rival whose function is imported when it is bound."""
    return Rival(name, lambda inputs, weight: TorchCall(find(), inputs, weight, heads_first), **limits)


# Each of the following imports a function and names its arguments as ours.


def _mambapy_scan() -> Callable[..., Tensor]:
    block = package("mambapy.mamba", "mambapy").MambaBlock

    def scan(u, delta, A, B, C, D):
        return block.selective_scan(None, u, delta, A, B, C, D)  # the method reads nothing of its block

    return scan


def _transformers_scan() -> Callable[..., Tensor]:
    function = transformers("mamba", "mamba_selective_scan")

    def scan(u, delta, A, B, C, D):
        return function(u, delta, A, B, C, D)

    return scan


def _fla_linear() -> Callable[..., Tensor]:
    return fla("linear_attn", "naive_chunk_linear_attn")


def _fla_simple_gla() -> Callable[..., Tensor]:
    function = fla("simple_gla", "naive_chunk_simple_gla")
    return lambda q, k, v, log_decay: function(q, k, v, log_decay)[0]


def _fla_ssd() -> Callable[..., Tensor]:
    function = fla("simple_gla", "naive_chunk_simple_gla")

    def ssd(x, dt, A, B, C, D):
        heads = x.shape[2]
        q, k = (y.expand(-1, -1, heads, -1) if y.shape[2] == 1 else y.repeat_interleave(heads // y.shape[2], 2) for y in (C, B))
        return function(q, k, x * dt[..., None], dt * A, scale=1.0)[0] + D[:, None] * x

    return ssd


def _fla_gla() -> Callable[..., Tensor]:
    function = fla("gla", "naive_recurrent_gla")
    return lambda q, k, v, log_decay: function(q, k, v, log_decay)[0]


def _fla_delta() -> Callable[..., Tensor]:
    function = fla("delta_rule", "delta_rule_chunkwise")
    return lambda q, k, v, beta: function(q, k, v, beta)[0]


def _fla_gated_delta() -> Callable[..., Tensor]:
    function = fla("gated_delta_rule", "naive_chunk_gated_delta_rule")
    return lambda q, k, v, beta, log_decay: function(q, k, v, g=log_decay, beta=beta)[0]


def _transformers_gated_delta(name: str) -> Callable[..., Tensor]:
    function = transformers("qwen3_next", name)
    return lambda q, k, v, beta, log_decay: function(q, k, v, log_decay, beta)[0]


def _fla_kda(name: str) -> Callable[..., Tensor]:
    function = fla("kda", name)
    return lambda q, k, v, beta, log_decay: function(q, k, v, log_decay, beta)[0]


def _fla_dplr(name: str) -> Callable[..., Tensor]:
    function = fla("generalized_delta_rule/dplr", name)
    # it scales by K^(-1/2), RWKV-7 does not
    return lambda r, log_decay, k, v, a, b: function(r * r.shape[-1] ** 0.5, k, v, a, b, log_decay)[0]


def _fla_bonus() -> Callable[..., Tensor]:
    function = fla("rwkv6", "naive_recurrent_rwkv6", "recurrent_naive")
    return lambda q, k, v, log_decay, bonus: function(q, k, v, log_decay, bonus)[0]


def _fla_product() -> Callable[..., Tensor]:
    function = fla("gated_delta_product", "naive_recurrent_gated_delta_product")

    def product(q, k, v, beta, log_decay):
        n = k.shape[2]
        return function(q, *(x.flatten(1, 2) for x in (k, v)), log_decay, beta.flatten(1, 2), q.shape[-1] ** -0.5, num_householder=n)[0]

    return product


def _fla_levels() -> Callable[..., Tensor]:
    function = fla("log_linear_attn", "naive_log_linear_attn")
    return lambda q, k, v, log_decay, level_scale: function(q, k, v, log_decay, level_scale)


def _fla_mesa(name: str, *settings: int) -> Callable[..., Tensor]:
    function = fla("mesa_net", name)
    return lambda q, k, v, beta, log_decay, ridge: function(q, k, v, log_decay, ridge, beta, *settings)[0]


MAMBAPY_SCAN = lazily("mambapy pscan", _mambapy_scan)
TRANSFORMERS_SCAN = lazily("transformers mamba_selective_scan", _transformers_scan, heads_first=True, longest_training=256)
FLA_LINEAR = lazily("fla naive_chunk_linear_attn", _fla_linear)
FLA_SIMPLE_GLA = lazily("fla naive_chunk_simple_gla", _fla_simple_gla)
FLA_SSD = lazily("fla naive_chunk_simple_gla, in these letters", _fla_ssd)
FLA_GLA = lazily("fla naive_recurrent_gla", _fla_gla, longest_training=1024)
FLA_DELTA = lazily("fla delta_rule_chunkwise", _fla_delta, heads_first=True)
FLA_GATED_DELTA = lazily("fla naive_chunk_gated_delta_rule", _fla_gated_delta)
FLA_KDA = lazily("fla naive_recurrent_kda", lambda: _fla_kda("naive_recurrent_kda"), longest_training=1024)
FLA_KDA_CHUNK = lazily("fla naive_chunk_kda", lambda: _fla_kda("naive_chunk_kda"), longest_training=1024)
TRANSFORMERS_DELTA = lazily("transformers torch_chunk_gated_delta_rule", lambda: _transformers_gated_delta("torch_chunk_gated_delta_rule"))
TRANSFORMERS_DELTA_LOOP = lazily(
    "transformers torch_recurrent_gated_delta_rule",
    lambda: _transformers_gated_delta("torch_recurrent_gated_delta_rule"),
    longest_training=1024,
)
FLA_DPLR = lazily("fla dplr_recurrence", lambda: _fla_dplr("dplr_recurrence"), heads_first=True, longest_training=1024)
FLA_DPLR_CHUNK = lazily("fla dplr_chunkwise", lambda: _fla_dplr("dplr_chunkwise"), heads_first=True, longest_training=1024)
FLA_BONUS = lazily("fla naive_recurrent_rwkv6", _fla_bonus, heads_first=True, longest_training=1024)
FLA_PRODUCT = lazily("fla naive_recurrent_gated_delta_product", _fla_product, longest_training=512)
FLA_LEVELS = lazily("fla naive_log_linear_attn", _fla_levels, longest_training=1024)
FLA_MESA = lazily("fla naive_mesa_net_exact", lambda: _fla_mesa("naive_mesa_net_exact"), longest_training=512)
FLA_MESA_CG = lazily("fla naive_mesa_net_CG", lambda: _fla_mesa("naive_mesa_net_CG", 64), longest_training=1024)

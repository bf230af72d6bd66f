"""Every structure of a transition is the matrix it says it is.

STRUCTURES is the table; a row is tested by being there. The promises are identities with `dense()`, checked in float64.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import (
    Companion,
    Dense,
    Diagonal,
    DiagonalBlocks,
    DiagonalPlusLowRank,
    Householder,
    HouseholderProduct,
    MinMaxDiagonal,
    NormalMinusLowRank,
    Scalar,
    Transition,
    diagonal_scan,
    dplr,
    hippo,
    plan,
    scan,
)
from separatrix.recurrence.transition import unroll
from tests.agree import gradient

B, T, N = 2, 5, 4


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(normal(*shape), dim=-1)


STRUCTURES = {
    "scalar": lambda: Scalar(normal(B, T).tanh(), N),
    "scalar complex": lambda: Scalar(torch.polar(normal(B, T).sigmoid(), normal(B, T)), N),
    "diagonal": lambda: Diagonal(normal(B, T, N).tanh()),
    "diagonal complex": lambda: Diagonal(torch.polar(normal(B, T, N).sigmoid(), normal(B, T, N))),
    "diagonal shared by all steps": lambda: Diagonal(normal(1, 1, N).tanh()),
    "householder": lambda: Householder(unit(B, T, N), 2 * normal(B, T).sigmoid()),
    "householder, long key": lambda: Householder(1.5 * unit(B, T, N), 2 * normal(B, T).sigmoid()),
    "householder, one decay": lambda: Householder(unit(B, T, N), 2 * normal(B, T).sigmoid(), -normal(B, T).abs()),
    "householder, decay per key": lambda: Householder(unit(B, T, N), 2 * normal(B, T).sigmoid(), -normal(B, T, N).abs()),
    "householder of size 1": lambda: Householder(unit(B, T, 1), 2 * normal(B, T).sigmoid(), -normal(B, T).abs()),
    "diagonal plus rank 1": lambda: DiagonalPlusLowRank(normal(B, T, N).sigmoid(), normal(B, T, N, 1) / 4, normal(B, T, N, 1) / 4),
    "diagonal plus rank 0": lambda: DiagonalPlusLowRank(normal(B, T, N).sigmoid(), normal(B, T, N, 0), normal(B, T, N, 0)),
    "diagonal plus rank 2 complex": lambda: DiagonalPlusLowRank(
        *(normal(B, T, N, *r, dtype=torch.complex128) / 3 for r in ((), (2,), (2,)))
    ),
    "rwkv-7": lambda: DiagonalPlusLowRank.of_rank_one(-normal(B, T, N).abs(), -(k := unit(B, T, N)), k * normal(B, T, N).sigmoid()),
    "dense": lambda: Dense(normal(B, T, N, N) / 3),
    "companion": lambda: Companion(normal(B, T, N) / 2),
    "companion complex": lambda: Companion(normal(B, T, N, dtype=torch.complex128) / 2),
    "companion shared by all steps": lambda: Companion(normal(1, 1, N) / 2),
    "companion of size 1": lambda: Companion(normal(B, T, 1)),
    "companion that feeds nothing back": lambda: Companion(torch.zeros(B, T, N, dtype=torch.float64)),
    "three reflections": lambda: HouseholderProduct(unit(B, T, 3, N), 2 * normal(B, T, 3).sigmoid()),
    "two reflections, one decay": lambda: HouseholderProduct(unit(B, T, 2, N), 2 * normal(B, T, 2).sigmoid(), -normal(B, T).abs()),
    "two reflections, decay per key": lambda: HouseholderProduct(unit(B, T, 2, N), 2 * normal(B, T, 2).sigmoid(), -normal(B, T, N).abs()),
    "more reflections than dimensions": lambda: HouseholderProduct(unit(B, T, 5, N), 2 * normal(B, T, 5).sigmoid(), -normal(B, T).abs()),
    "two reflections shared by all steps": lambda: HouseholderProduct(unit(1, 1, 2, N), 2 * normal(1, 1, 2).sigmoid()),
    "one key, a decay a step": lambda: Householder(unit(1, 1, N), 2 * normal(B, T).sigmoid(), -normal(B, T).abs()),
    "two keys, decays a step": lambda: HouseholderProduct(unit(1, 1, 2, N), 2 * normal(B, T, 2).sigmoid(), -normal(B, T, N).abs()),
    "one diagonal, rank 1 a step": lambda: DiagonalPlusLowRank(normal(1, 1, N).sigmoid(), normal(B, T, N, 1) / 4, normal(1, T, N, 1) / 4),
    "diagonal blocks": lambda: DiagonalBlocks(normal(B, T, 2, 2, N // 2) / 2),
    "diagonal blocks complex": lambda: DiagonalBlocks(normal(B, T, 2, 2, N // 2, dtype=torch.complex128) / 2),
}


def normal_minus(basis_steps: int, r: int) -> NormalMinusLowRank:
    basis = torch.linalg.qr(normal(1, basis_steps, N, N, dtype=torch.complex128)).Q
    return NormalMinusLowRank(basis, *(normal(B, T, N, *k, dtype=torch.complex128) / 3 for k in ((), (r,), (r,))))


STRUCTURES |= {
    "normal minus rank 2": lambda: normal_minus(1, 2),
    "normal minus rank 1, a basis a step": lambda: normal_minus(T, 1),
}


@pytest.fixture(params=STRUCTURES)
def A(request) -> Transition:
    return STRUCTURES[request.param]()


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)  # float64: products of a few small matrices


def complex_like(A: Transition, *shape: int) -> Tensor:
    return normal(*shape, dtype=A.dense().dtype)


def test_apply_is_the_matrix_times_the_state(A: Transition):
    h = complex_like(A, B, T, A.size)
    close(A.apply(h), (A.dense() @ h.unsqueeze(-1)).squeeze(-1))


def test_apply_to_columns_is_the_matrix_times_a_matrix(A: Transition):
    S = complex_like(A, B, T, A.size, 3)
    close(A.apply_to_columns(S), A.dense() @ S)


def test_other_dtypes_are_moved_in_the_wider_one(A: Transition):
    """A complex map moves real states, and any map complex ones, or those of another precision."""
    matrix, S = A.dense().to(torch.complex128), normal(B, T, A.size, 3, dtype=torch.complex128)
    for columns in (S, S.real, S.real.float()):
        want = matrix @ columns.to(torch.complex128)
        for got, moved in ((A.apply_to_columns(columns), want), (A.apply(columns[..., 0]), want[..., 0])):
            close(got.to(torch.complex128), moved)


def test_no_matrix_is_the_product_with_a_map_of_another_algebra(A: Transition):
    with pytest.raises(TypeError, match=r"^later is MinMaxDiagonal, expected a map that is linear in the field"):
        A.compose(MinMaxDiagonal(normal(B, T, A.size)))


@pytest.mark.parametrize("other", STRUCTURES)
def test_compose_is_the_product_later_on_the_left(A: Transition, other: str):
    later = STRUCTURES[other]()
    if later.size != A.size:
        with pytest.raises(ValueError, match="state"):
            A.compose(later)
        return
    both = A.compose(later)
    left, right = later.dense(), A.dense()
    dtype = torch.promote_types(left.dtype, right.dtype)
    close(both.dense(), left.to(dtype) @ right.to(dtype))


def test_composition_is_associative(A: Transition):
    if A.size != N:
        pytest.skip("the other two have a state of 4")
    dtype = A.dense().dtype
    second, third = Diagonal(normal(B, T, N, dtype=dtype)), Householder(unit(B, T, N).to(dtype), normal(B, T).to(dtype))
    close(A.compose(second).compose(third).dense(), A.compose(second.compose(third)).dense())


def test_spectrum_is_that_of_the_matrix(A: Transition):
    """Eigenvalues as a set: the characteristic polynomial at random points, which no ordering can change."""
    points = normal(7, dtype=torch.complex128).reshape(7, 1, 1)
    dense = A.dense().to(torch.complex128)
    determinants = torch.linalg.det(points[..., None, None] * torch.eye(A.size) - dense)
    spectrum = A.spectrum()
    assert spectrum.is_complex() and spectrum.shape == dense.shape[:-1]
    close((points[..., None] - spectrum).prod(-1), determinants)


def test_norm_is_the_largest_singular_value(A: Transition):
    close(A.norm(), torch.linalg.svdvals(A.dense())[..., 0])


def test_scan_is_the_definition(A: Transition):
    """All the states, from rest and from somewhere, and their gradients."""
    drive, h = complex_like(A, B, T, A.size), complex_like(A, B, A.size)
    dense = A.dense()
    states, last = scan(A, drive, h)
    close(states, unroll(dense, drive, h))
    close(last, states[:, -1])
    close(scan(A, drive)[0], unroll(dense, drive, torch.zeros_like(h)))
    close(scan(A, drive.real)[0], unroll(dense, drive.real.to(dense.dtype), torch.zeros_like(h)))
    for got, want in zip(gradient(lambda x, s: scan(A, x, s)[0])(drive, h), gradient(lambda x, s: unroll(dense, x, s))(drive, h)):
        close(got, want)


def test_scan_is_cleared_by_a_reset(A: Transition):
    drive, h = complex_like(A, B, T, A.size), complex_like(A, B, A.size)
    reset = torch.zeros(B, T, dtype=torch.bool)
    reset[0, 2] = True
    states, last = scan(A, drive, h, reset)
    whole, _ = scan(A, drive, h)
    close(states[:, :2], whole[:, :2])
    close(states[1], whole[1])
    close(states[0, 2], drive[0, 2])
    close(last, states[:, -1])


def test_no_step_is_legal(A: Transition):
    h = complex_like(A, B, A.size)
    none = replace(A, **{name: x[:, :0] for name, x in A.tensors().items()})
    states, last = scan(none, complex_like(A, B, 0, A.size), h)
    assert states.shape == (B, 0, A.size) and torch.equal(last, h)


def test_a_state_that_does_not_fit_is_refused(A: Transition):
    with pytest.raises(ValueError, match=r"initial_state is \[7, 7\]"):
        scan(A, complex_like(A, B, T, A.size), complex_like(A, 7, 7))
    with pytest.raises(ValueError, match="drive is"):
        scan(A, complex_like(A, B, T, A.size + 1))


def test_a_reset_that_does_not_fit_is_refused(A: Transition):
    drive = complex_like(A, B, T, A.size)
    with pytest.raises(TypeError, match=r"^reset is torch.int64, expected torch.bool"):
        scan(A, drive, reset=torch.zeros(B, T, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"^reset is \[1, 5\], expected \[batch, time\] = \[2, 5\]"):
        scan(A, drive, reset=torch.zeros(1, T, dtype=torch.bool))


def test_reflections_keep_length_and_come_back():
    A = Householder(unit(B, T, N), torch.full((B, T), 2.0, dtype=torch.float64))
    close(A.norm(), torch.ones(B, T, dtype=torch.float64))
    close(A.compose(A).dense(), torch.eye(N, dtype=torch.float64).expand(B, T, N, N))


def test_diagonal_structures_run_as_the_diagonal_scan():
    A, drive = Diagonal(normal(B, T, N).tanh()), normal(B, T, N)
    assert torch.equal(scan(A, drive)[0], diagonal_scan(A.a, drive)[0])


def test_dplr_does_to_its_state_what_its_transition_says():
    r, w, k, a, b = normal(B, T, 1, N), -normal(B, T, 1, N).abs(), *(normal(B, T, 1, N) for _ in range(3))
    v, start = normal(B, T, 1, 3), normal(B, 1, N, 3)
    A, S = DiagonalPlusLowRank.of_rank_one(w, a, b), start
    for t in range(T):
        S = A.at(t).apply_to_columns(S) + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
    close(dplr(r, w, k, v, a, b, initial_state=start)[1], S)


@pytest.mark.parametrize("measure", [hippo.legs, hippo.legt, hippo.lagt, hippo.fout])
def test_hippo_is_normal_minus_low_rank(measure):
    A = NormalMinusLowRank.of(hippo.nplr(measure, 8))
    close(A.dense(), measure(8).A.to(torch.complex128))


@pytest.mark.parametrize(
    "name, words",
    {
        "companion": "dense_scan, fused",
        "dense": "dense_scan, fused",
        "three reflections": "low_rank_scan, fused",
        "householder, one decay": "low_rank_scan, fused",
        "diagonal plus rank 2 complex": "low_rank_scan, chunked",
        "normal minus rank 2": "low_rank_scan, chunked",
    }.items(),
)
def test_plan_names_the_operation_of_a_structure(name: str, words: str):
    assert words in plan(STRUCTURES[name](), 100)


def test_large_matrices_without_a_kernel_go_one_by_one():
    """A merge of two steps costs as much as N of them."""
    for A in (
        Dense(torch.zeros(1, 9, 64, 64, dtype=torch.complex64)),
        DiagonalPlusLowRank(*(torch.zeros(1, 9, 64, *r) + 0j for r in ((), (1,), (1,)))),
    ):
        assert "one step after another" in plan(A, 9)
    assert "chunked" in plan(Dense(torch.zeros(1, 1, 64, 64, dtype=torch.complex64)), 9)  # of a shared matrix only the powers are formed


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", STRUCTURES)
def test_short_numbers_have_a_spectrum_and_a_norm(kind: str, dtype: torch.dtype):
    A = STRUCTURES[kind]()
    short = replace(A, **{name: x if x.is_complex() else x.to(dtype) for name, x in A.tensors().items()})
    exact = replace(short, **{name: x if x.is_complex() else x.double() for name, x in short.tensors().items()})
    near = {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(short.norm().double(), exact.norm(), **near)
    torch.testing.assert_close(short.spectrum().sum(-1).to(torch.complex128), exact.spectrum().sum(-1), **near)

"""No probe of the quick profile calls what a GPU build compiles or loads at its first use.

torch's CUDA and HIP builds hold no code for some operations: they are compiled at run time, some
0.3 s each, and kept on disk where that can be written. The names are those of `jitted_gpu_kernel`
and `jitted_gpu_reduce_kernel` in aten/src/ATen/native/cuda; the solvers are those of cuSOLVER.
"""

import importlib
from typing import Any, Final

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from probes.catalog import BY_NAME, CATALOG

pytestmark = pytest.mark.slow

#: Compiled at first use in every type.
COMPILED: Final = frozenset(
    {
        *("airy_ai", "digamma", "entr", "erfc", "erfcx", "erfinv", "exp2", "gcd", "i0", "i0e"),
        *("i1", "i1e", "lcm", "lgamma", "log_ndtr", "ndtri", "polygamma", "sinc", "zeta"),
        *("bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "spherical_bessel_j0"),
        *("modified_bessel_i0", "modified_bessel_i1", "modified_bessel_k0", "modified_bessel_k1"),
        *("scaled_modified_bessel_k0", "scaled_modified_bessel_k1"),
        *(f"chebyshev_polynomial_{kind}" for kind in "tuvw"),
        *(f"shifted_chebyshev_polynomial_{kind}" for kind in "tuvw"),
        *("hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l"),
        "legendre_polynomial_p",
    }
)

#: Compiled at first use for complex numbers.
COMPILED_FOR_COMPLEX: Final = frozenset(
    {
        *("abs", "acos", "acosh", "addcdiv", "addcmul", "angle", "asin", "asinh", "atan", "atanh"),
        *("cos", "cosh", "exp", "expm1", "lerp", "log", "log10", "log1p", "log2", "neg", "pow"),
        *("prod", "reciprocal", "rsqrt", "sgn", "sigmoid", "sigmoid_backward", "sin", "sinh"),
        *("sqrt", "tan", "tanh", "tanh_backward"),
    }
)

#: Taken from cuSOLVER, rocSOLVER or MAGMA, which take seconds to start.
SOLVED: Final = frozenset(
    {
        *("_linalg_det", "_linalg_eigh", "_linalg_slogdet", "_linalg_solve_ex", "_linalg_svd"),
        *("linalg_cholesky_ex", "linalg_eig", "linalg_inv_ex", "linalg_ldl_factor_ex"),
        *("linalg_lstsq", "linalg_lu_factor_ex", "linalg_pinv", "linalg_qr", "cholesky_solve"),
        *("cholesky_inverse", "geqrf", "ormqr", "linalg_householder_product", "linalg_lu_solve"),
    }
)

#: Fourier transforms load cuFFT.
TRANSFORMS: Final = frozenset({"_fft_c2c", "_fft_c2r", "_fft_r2c"})


def dear(operation: str, *, complex_operands: bool) -> bool:
    """Whether the first call of an operation (as the dispatcher names it) is dear on a GPU."""
    name = operation if operation in SOLVED | TRANSFORMS else operation.removeprefix("special_")
    name = name.removesuffix("_") if name not in SOLVED | TRANSFORMS else name
    if complex_operands and name in COMPILED_FOR_COMPLEX:
        return True
    return name in COMPILED | SOLVED | TRANSFORMS


class Recorder(TorchDispatchMode):
    """Notes the dear operations that are called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[str] = set()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the operation, and call it."""
        self.seen += 1
        name = func._schema.name.removeprefix("aten::")
        operands = [*args, *(kwargs or {}).values()]
        complex_operands = any(isinstance(x, torch.Tensor) and x.is_complex() for x in operands)
        if dear(name, complex_operands=complex_operands):
            self.found.add(name)
        return func(*args, **(kwargs or {}))


def dear_operations(probe: str) -> Recorder:
    """What a probe calls, backward passes too: they run in this thread meanwhile."""
    module = importlib.import_module(BY_NAME[probe].module)
    before = torch.autograd.is_multithreading_enabled()
    recorder = Recorder()
    torch.autograd.set_multithreading_enabled(False)
    try:
        with recorder:
            module.observe("cpu")
    finally:
        torch.autograd.set_multithreading_enabled(before)
    return recorder


@pytest.mark.parametrize(
    "probe", [spec.name for spec in CATALOG if not spec.is_heavy and spec.needs == "device"]
)
def test_a_quick_probe_starts_nothing_dear(probe: str) -> None:
    """Forward or backward, in any type."""
    recorder = dear_operations(probe)

    assert recorder.found == set()
    assert recorder.seen > 100 or probe == "cuda_available"


@pytest.mark.parametrize(
    ("probe", "operations"),
    [
        ("special_functions", {"gcd", "lcm", "exp2", "erfc", "lgamma", "angle", "_fft_c2c"}),
        ("linalg", {"_linalg_solve_ex", "_linalg_svd", "linalg_qr"}),
    ],
)
def test_dear_operations_are_seen(probe: str, operations: set[str]) -> None:
    """The test above can fail."""
    assert dear_operations(probe).found >= operations

"""Creation of tensors: by shape, from values and from other tensors."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import floats, has_dtype
from probes.kit.case import Array, Case, case, on_device, plain
from probes.kit.operands import F32, integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact, refused
from probes.tensor_ops.streams import default_generator

_SHAPE = (2, 3, 4, 5)

_DRAWN = {"rand", "randn"}
_SHAPES = (_SHAPE, (7,), (3, 0, 2), ())


def creation(device: str) -> Iterator[Trial]:
    """Values, shape, dtype, device and requires_grad of created tensors."""
    yield from _factory_cases()
    yield from _like_cases()
    for name in ("zeros", "ones", "rand", "randn", "empty"):
        yield Custom(name, partial(_seeded_attributes if name in _DRAWN else _attributes, name))
    yield Custom("tensor", _from_values)
    yield Custom("as_tensor", _from_values_shared)
    yield Custom("empty_strided", _strides)
    yield Custom("zeros", _negative_size)
    if has_dtype(device, torch.float64):
        step = 2.0**-40  # lost in float32
        wide = 1 + step * np.arange(8)
        yield _factory_case("arange", (1, 1 + 8 * step, step), wide, dtype=torch.float64)


def _negative_size(device: str) -> Iterator[Comparison]:
    yield refused("zeros (-1)", lambda: torch.zeros(-1, device=device))


def _factory_case(name: str, operands: tuple[Any, ...], expected: Array, **options: Any) -> Case:
    created = plain(name, operands, expected, **options)
    return replace(created, factory=True)


def _factory_cases() -> Iterator[Trial]:
    for shape in _SHAPES:
        yield _factory_case("zeros", (shape,), np.zeros(shape, F32))
        yield _factory_case("ones", (shape,), np.ones(shape, F32))
        yield _factory_case("full", (shape, -2.5), np.full(shape, -2.5, F32))
    for dtype, kind in (
        (torch.int64, np.int64),
        (torch.bool, np.bool_),
        (torch.float16, np.float16),
        (torch.uint8, np.uint8),
        (torch.complex64, np.complex64),
    ):
        yield _factory_case("zeros", ((3, 5),), np.zeros((3, 5), kind), dtype=dtype)
        yield _factory_case("ones", ((3, 5),), np.ones((3, 5), kind), dtype=dtype)
        yield _factory_case("full", ((3, 5), 1), np.full((3, 5), 1, kind), dtype=dtype)
    yield _factory_case("full", ((2, 3), 7), np.full((2, 3), 7, np.int64))
    yield _factory_case("full", ((2, 3), True), np.full((2, 3), fill_value=True))
    yield case("zeros", (_SHAPE,), np.zeros(_SHAPE, F32))
    yield case("ones", (_SHAPE,), np.ones(_SHAPE, F32))
    yield case("full", (_SHAPE, 3.0), np.full(_SHAPE, 3.0, F32))
    yield _factory_case("arange", (9,), np.arange(9))
    yield _factory_case("arange", (5, -9, -3), np.arange(5, -9, -3))
    yield _factory_case("arange", (-1.0, 1.0, 0.125), np.arange(-1, 1, 0.125).astype(F32))
    yield _factory_case("arange", (3, 3), np.arange(0))
    yield _factory_case("linspace", (-1, 1, 9), np.linspace(-1, 1, 9, dtype=F32))
    yield _factory_case("linspace", (2, 5, 1), np.array([2], F32))
    powers = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256], F32)
    # 16 ulp for powf: the largest error that a back-end documents (OpenCL 16, CUDA 9).
    yield replace(
        _factory_case("logspace", (0, 8, 9, 2.0), powers), allowed=16 * np.spacing(powers)
    )
    yield _factory_case("eye", (4,), np.eye(4, dtype=F32))
    yield _factory_case("eye", (3, 5), np.eye(3, 5, dtype=F32))
    yield _factory_case("tril_indices", (4, 5), np.array(np.tril_indices(4, 0, 5)))
    yield _factory_case("triu_indices", (4, 5), np.array(np.triu_indices(4, 0, 5)))


def _like_cases() -> Iterator[Trial]:
    a = integers((3, 5), -9, 9)
    yield plain("zeros_like", (a,), np.zeros_like(a))
    yield plain("ones_like", (a,), np.ones_like(a, np.int32), dtype=torch.int32)
    yield plain("full_like", (a, 4), np.full_like(a, 4))
    yield plain("Tensor.new_zeros", (a, (2, 2)), np.zeros((2, 2), F32))
    yield plain("Tensor.new_ones", (a, (2, 2)), np.ones((2, 2), F32))
    yield plain("Tensor.new_full", (a, (2, 2), 7), np.full((2, 2), 7, F32))
    yield plain("clone", (a,), a)
    yield case("complex", (a, a + 1), (a + 1j * (a + 1)).astype(np.complex64))


def _seeded_attributes(name: str, device: str) -> Iterator[Comparison]:
    """`_attributes` of a random tensor; restores the default generator."""
    with default_generator(device, 0):
        yield from list(_attributes(name, device))


def _attributes(name: str, device: str) -> Iterator[Comparison]:
    make = getattr(torch, name)
    for shape in _SHAPES:
        created = make(shape, device=device)
        yield fact(name, tuple(created.shape), shape)
        yield fact(name, created.numel(), int(np.prod(shape)))
        yield fact(name, created.device.type, torch.device(device).type)
        yield fact(name, created.is_contiguous(), True)
        yield fact(name, (created.requires_grad, created.grad_fn), (False, None))
    yield fact(name, tuple(make(2, 3, 4, 5, device=device).shape), _SHAPE)
    yield fact(name, str(make(_SHAPE, device=device).dtype), "torch.float32")
    for dtype in floats(device):
        yield fact(name, str(make(_SHAPE, dtype=dtype, device=device).dtype), str(dtype))
    leaf = make(_SHAPE, device=device, requires_grad=True)
    yield fact(name, (leaf.requires_grad, leaf.is_leaf, leaf.grad_fn), (True, True, None))


def _from_values(device: str) -> Iterator[Comparison]:
    def tensor(values: Any, **options: Any) -> torch.Tensor:
        return torch.tensor(values, device=device, **options)

    yield compare("tensor", tensor([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]]))
    yield compare("tensor", tensor([1.5, -2]), np.array([1.5, -2], F32))
    yield compare("tensor", tensor([True, False]), np.array([True, False]))
    yield compare("tensor", tensor([1 + 2j]), np.array([1 + 2j], np.complex64))
    yield compare("tensor", tensor([]), np.zeros(0, F32))
    yield compare("tensor", tensor(3), np.array(3))
    yield compare("tensor", tensor([1, 2], dtype=torch.int16), np.array([1, 2], np.int16))
    yield fact("tensor", tensor([1.0], requires_grad=True).requires_grad, True)
    yield refused("tensor", lambda: tensor([[1, 2], [3]]))


def _from_values_shared(device: str) -> Iterator[Comparison]:
    known = torch.tensor([1.0, 2.0], device=device)
    yield fact("as_tensor", torch.as_tensor(known) is known, True)
    yield compare("as_tensor", torch.as_tensor([4, 5], device=device), np.array([4, 5]))


def _strides(device: str) -> Iterator[Comparison]:
    created = torch.empty_strided((3, 4), (1, 3), device=device)
    yield fact("empty_strided", (tuple(created.shape), created.stride()), ((3, 4), (1, 3)))
    created.copy_(on_device(integers((3, 4), -9, 9), device))
    yield compare("empty_strided", created, integers((3, 4), -9, 9))

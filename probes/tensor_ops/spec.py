"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final, Literal

from probes.contract import BITS, INTEGERS, MIB, Frozen, ProbeSpec


class Limits(Frozen):
    """The precision required of float32 products where settings allow shortened operands."""

    #: "as_set" skips TF32 and the like where torch's own setting allows it; "exact" never does.
    float32_products: Literal["as_set", "exact"] = "as_set"


SPEC: Final = ProbeSpec(
    name="tensor_ops",
    profile="quick",
    needs="device",
    timeout_s=60,
    typical_s=1.5,
    interval_s=300,
    memory_bytes=160 * MIB,
    memory_measured="NVIDIA H200, torch 2.11.0+cu130",
    limits=Limits,
    checks={
        "elementwise": "mathematical functions are within a few units in the last place",
        "neural": "activations, softmax, norms, attention, pooling and losses by their formulas",
        "creation": "factories give the values, shape, type, device and requires_grad asked for",
        "conversion": "conversions truncate, round to even, overflow and wrap as documented",
        "item": ".item(), .tolist() and bool() give the right Python value of the right type",
        "arithmetic": "sums, products and powers of integer values are exact in every type",
        "in_place": "operations ending in _ change the variable, return it, and nothing else",
        "views": "views share their base's memory both ways, copies do not, wrong views raise",
        "transposing": "transposes, permutations, flips and rolls put each element in its place",
        "indexing": "integers, lists, masks and index tensors read and write the right elements",
        "slicing": "narrow, split, diagonal, triangle and window take the right elements",
        "joining": "cat, stack, repeat, tile, meshgrid and pad put each element in its place",
        "integer_division": "quotients and remainders of negatives round and sign as documented",
        "bitwise": "bitwise operations and shifts are right in every integer type",
        "rounding": "halves go to the even neighbour, zeros keep their sign",
        "comparison": "comparisons and selections treat NaN, infinities and -0 as documented",
        "special_values": "poles, limits and invalid operands give infinities and NaN (C99 F)",
        "subnormals": "subnormal numbers are kept, not flushed to zero",
        "not_finite": "NaN and infinities reach every result they take part in, and no other",
        "reductions": "sums, products, extremes and cumulations are exact; the first of ties wins",
        "sorting": "sorts are stable, NaN is the largest, searches and sets are right",
        "scatter": "scatters and index writes are right, duplicates add up",
        "types": "operations are right in bfloat16, in integers and in truth values too",
        "large": "a million elements are added, summed, cumulated and sorted right",
        "empty": "no elements give neutral answers, right shapes and zeros from empty products",
        "matmul_exact": "products of integer matrices are exact in every type and layout",
        "float32_matmul": "float32 products keep 24 bits, unless TF32 was asked for",
        "accumulation": "long sums and products of half types are summed in float32",
        "double": "float64 operations keep 53 bits: none is computed in float32",
        "convolution": "convolutions of integers are exact in every type",
        "float32_convolution": "float32 convolutions keep 24 bits, unless TF32 is allowed",
        "random_mersenne": "on the CPU a seed gives MT19937's numbers, bit for bit",
        "random_philox": "on CUDA and HIP a seed gives Philox4x32-10's numbers, bit for bit",
        "random_seeds": "a seed repeats its numbers, another gives others, a state goes on",
        "random_moments": "draws have the right mean, variance and shares within 6 sigma",
    },
    certain={
        **dict.fromkeys(("views", "transposing", "indexing", "slicing", "joining"), BITS),
        "matmul_exact": BITS,
        **dict.fromkeys(
            ("arithmetic", "in_place", "integer_division", "bitwise", "scatter", "large"),
            INTEGERS,
        ),
    },
)

"""The probes and their checks, as one literal table. Importable without torch.

A check's promise is what `explain` prints and the README lists; its id is stable and never reused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from probes.contract import Wrong

Profile = Literal["instant", "quick", "standard", "deep"]

#: Cheapest first; a profile runs its own probes and those of all before it.
PROFILES: Final[tuple[Profile, ...]] = ("instant", "quick", "standard", "deep")

MIB: Final = 1024 * 1024

#: Ways of being wrong that arithmetic rules out on hardware of any kind.
_BITS: Final = ("bits", "integers")
_INTEGERS: Final = ("integers",)

#: The check of every probe that the worker makes, not `judge`: an exception that ended the probe.
COMPLETES: Final = "completes"


@dataclass(frozen=True)
class ProbeSpec:
    """One probe: what it costs, what it needs, and the checks it makes."""

    name: str
    profile: Profile
    needs: Literal["host", "device"]
    timeout_s: float
    interval_s: float
    #: Most memory taken on a GPU beyond its context, in bytes.
    memory_bytes: int
    #: Check name (without the probe's prefix) -> its promise in one line.
    checks: dict[str, str]
    #: Modules the worker imports before it forks this probe (first uses that are slow to import).
    preload: tuple[str, ...] = ()
    #: Where the probe's code is; by default the module of its own name.
    module: str = ""
    #: Its checks are about the node's GPUs also where it runs on the host.
    about_node: bool = False
    #: Checks that fail on hardware of every kind, proven or not, since arithmetic or the user has
    #: promised what they ask for -> the ways of being wrong that count, where operations are
    #: compared (`Finding.wrong`); any, where none are.
    certain: Mapping[str, tuple[Wrong, ...]] = field(default_factory=dict)
    #: Where its class `Limits` is, a module that needs no torch; empty: it has no limits.
    limits: str = ""

    def __post_init__(self) -> None:
        if not self.module:
            object.__setattr__(self, "module", f"probes.{self.name}")

    @property
    def check_ids(self) -> tuple[str, ...]:
        """The full ids, `probe.check`, of the checks that the probe's own `judge` makes."""
        return tuple(f"{self.name}.{check}" for check in self.checks)

    @property
    def promises(self) -> dict[str, str]:
        """Every check's name and promise, with the one that the worker makes for all probes."""
        return {**self.checks, COMPLETES: "the probe runs to its end: nothing raises unasked"}


TORCH_VERSION = ProbeSpec(
    name="torch_version",
    profile="quick",
    needs="host",
    timeout_s=60,
    interval_s=300,
    memory_bytes=0,
    limits="probes.limits.torch_version",
    checks={
        "imports": "torch and NumPy are whole packages: the compiled core beside the Python files",
        "metadata": "the installed metadata of torch and NumPy say the version that is imported",
        "one_copy": "no second torch or NumPy stands where another start of Python would take it",
        "compiled_version": "torch's Python files and its compiled library are of one build",
        "requirements": "what torch's metadata requires is installed, in the versions it names",
        "version": "torch's version is one of those expected",
        "build_kind": "the build of torch has a back-end for a GPU of this node",
        "local_tag": "the version's tag (+cpu, +cu130, +rocm6.4, +xpu) names the build that it is",
        "driver_cuda": "the NVIDIA driver knows the CUDA version that torch was built for",
        "driver_files": "kernel module, libcuda and NVML are of one driver version",
        "architectures": "the build has code for the architecture of each GPU",
        "libcuda": "libcuda is the driver's own, no stub and no unexpected compat library",
        "cudnn": "cuDNN loads, in a version that torch accepts",
        "cudnn_libraries": "all mapped libraries of cuDNN are of one installation",
        "nccl": "the NCCL that is loaded is not older than the one torch was built with",
        "loaded_once": "no GPU library, and no C++ library, is mapped twice",
        "foreign_libraries": "no system library stands in for one that torch's wheels brought",
        "defaults": "torch's defaults (dtype, device, algorithms, no autocast) are its own",
        "one_openmp": "one OpenMP runtime is mapped, and its alarm for a second one is on",
        "one_blas": "no BLAS library is mapped twice",
        "numpy_to_torch": "torch reads NumPy arrays of every dtype right, without a warning",
        "torch_to_numpy": "NumPy reads tensors of every dtype right, without a warning",
        "numpy_scalars": "torch takes NumPy scalars for numbers: as data, index and size",
    },
    about_node=True,
    certain={"version": (), "numpy_to_torch": _BITS, "torch_to_numpy": _BITS},
)

CUDA_AVAILABLE = ProbeSpec(
    name="cuda_available",
    profile="quick",
    needs="device",
    timeout_s=60,
    interval_s=300,
    memory_bytes=16 * MIB,
    limits="probes.limits.cuda_available",
    checks={
        "device_nodes": "the GPU's device nodes open for reading and writing",
        "driver_starts": "cuInit of libcuda.so.1 succeeds",
        "nvml_answers": "NVML answers for the node and for this GPU",
        "torch_starts": "torch starts its GPU back-end, by the call that raises when it cannot",
        "is_available": "is_available() says whether the back-end really starts",
        "enough_gpus": "torch can use as many GPUs as promised, and one at least if there is one",
        "all_gpus": "every GPU on PCI that this process was given can be used: none is lost",
        "mig_instances": "as many MIG instances as promised, and some on each GPU with MIG on",
        "visible_devices": "every entry of CUDA_VISIBLE_DEVICES is a usable device",
        "counts_agree": "torch, the CUDA driver and NVML count the same devices",
        "accelerator_api": "torch.accelerator gives the same answers as the GPU's own interface",
        "kernel": "a first kernel writes exactly the right integers, and sums them",
        "first_kernel": "the first kernel comes without a long compilation",
        "identity": "torch, driver and NVML agree on name, UUID, capability and PCI address",
        "memory_size": "torch, driver and NVML agree on how much memory the GPU has",
        "memory_free": "some memory is free, or other processes account for it",
        "compute_mode": "the compute mode lets processes share the GPU",
    },
    about_node=True,
    certain={"enough_gpus": (), "all_gpus": (), "mig_instances": (), "kernel": _BITS},
)

NUMPY_SHARING = ProbeSpec(
    name="numpy_sharing",
    profile="quick",
    needs="host",
    timeout_s=30,
    interval_s=300,
    memory_bytes=0,
    checks={
        "from_numpy": "torch.from_numpy shares: a write on either side shows on the other",
        "as_tensor": "torch.as_tensor and torch.asarray share an array of the same dtype",
        "frombuffer": "torch.frombuffer shares an array's buffer",
        "dlpack_import": "torch.from_dlpack shares an array, whole or as a capsule",
        "to_numpy": "Tensor.numpy shares, also detached and with force=True",
        "asarray": "np.asarray shares a tensor",
        "dlpack_export": "np.from_dlpack shares a tensor",
        "copies": "what must copy copies: no byte in common, no write seen on the other side",
        "dtypes_to_torch": "every dtype of an array means the same in torch, extremes included",
        "dtypes_to_numpy": "every dtype of a tensor means the same in NumPy, extremes included",
        "scalars": "torch takes NumPy's scalars and index arrays as numbers and indices",
        "layouts_to_torch": "an array's shape, strides and offset are the tensor's (0-d, empty)",
        "layouts_to_numpy": "a tensor's shape, strides and offset are the array's (0-d, empty)",
        "lifetime": "shared memory lives as long as either side uses it, and no longer",
        "refuses_arrays": "arrays that no tensor can describe are refused",
        "refuses_tensors": "tensors that no array can describe are refused",
        "readonly_warning": "torch warns when it shares a read-only array",
        "readonly_dlpack": "a read-only array by DLPack is refused or right; says which",
        "resize_refused": "memory that is shared cannot be resized away",
        "copy_false": "np.array(t, copy=False) shares or raises, and never copies",
    },
    certain=dict.fromkeys(
        (
            *("from_numpy", "as_tensor", "frombuffer", "dlpack_import", "to_numpy", "asarray"),
            *("dlpack_export", "copies", "dtypes_to_torch", "dtypes_to_numpy"),
            *("layouts_to_torch", "layouts_to_numpy"),
        ),
        _BITS,
    ),
)

DEVICE_TRANSFER = ProbeSpec(
    name="device_transfer",
    profile="quick",
    needs="device",
    timeout_s=60,
    interval_s=300,
    memory_bytes=256 * MIB,
    checks={
        "first_copy": "the process's first copies arrive whole, before any warm-up",
        "scalars": "item() and tolist() read the numbers that the device holds",
        "device_pattern": "the device makes the integers that copies are held against, and sees "
        "one wrong bit",
        "host_to_device_sizes": "every size and alignment arrives whole on the device, and "
        "nothing beside it is written",
        "host_to_device_dtypes": "every bit of every dtype arrives on the device",
        "host_to_device_layouts": "views of every kind arrive in order on the device",
        "host_to_device_converts": "to(device, dtype) moves to the device and converts right",
        "device_to_host_sizes": "every size and alignment arrives whole on the host, and nothing "
        "beside it is written",
        "device_to_host_dtypes": "every bit of every dtype arrives on the host",
        "device_to_host_layouts": "views of every kind arrive in order on the host",
        "device_to_host_converts": "to('cpu', dtype) moves to the host and converts right",
        "device_to_device_sizes": "every size and alignment is copied whole on the device, and "
        "nothing beside it is written",
        "device_to_device_dtypes": "every bit of every dtype is copied on the device",
        "device_to_device_layouts": "views of every kind are copied in order on the device",
        "device_to_device_converts": "to(dtype) on the device converts right",
        "same_device": "to(same device) is the tensor itself, and a copy asked for is a copy",
        "to_device_moves": "to(device) is a copy there, and the source stays as it was",
        "to_host_copies": "cpu() and numpy(force=True) of a device are copies",
        "pinned_shares": "pinned memory is NumPy's too, and a write through it arrives",
        "host_to_device_pinned": "pinned, non-blocking copies have arrived after their event",
        "device_to_host_pinned": "non-blocking copies into pinned memory have arrived after "
        "their event",
        "both_at_once": "copies in both directions at the same time arrive whole",
        "integrity_sum": "whole buffers keep their weighted sum and XOR, which see swapped words",
    },
    certain=dict.fromkeys(
        (
            *("first_copy", "device_pattern", "same_device", "to_device_moves", "to_host_copies"),
            *("host_to_device_sizes", "host_to_device_dtypes", "host_to_device_layouts"),
            *("device_to_host_sizes", "device_to_host_dtypes", "device_to_host_layouts"),
            *("device_to_device_sizes", "device_to_device_dtypes", "device_to_device_layouts"),
            *("pinned_shares", "host_to_device_pinned", "device_to_host_pinned", "both_at_once"),
            "integrity_sum",
        ),
        _BITS,
    ),
)

AUTOGRAD = ProbeSpec(
    name="autograd",
    profile="quick",
    needs="device",
    timeout_s=60,
    interval_s=300,
    memory_bytes=128 * MIB,
    # What gradcheck and backward(gradient=...) import on first use.
    preload=("torch.fx.experimental.symbolic_shapes", "torch.utils._device"),
    checks={
        "grad_enabled": "gradients are switched on, as nothing but the user may change",
        "first_backward": "the first backward of a process gives exactly the right integers",
        "products": "gradients of matrix products of integers are exact",
        "convolutions": "gradients of convolutions of integers are exact",
        "indexing": "gradients of embedding, gather, scatter and indices that collide are exact",
        "shapes": "gradients of views, joins, pads and other moves are exact",
        "orders": "gradients of sorting, selecting and pooling reach the elements selected",
        "arithmetic": "gradients of arithmetic with integers are exact",
        "selections": "gradients of clamps, masks and extremes are exact",
        "reductions": "gradients of sums, means and products over axes are exact",
        "functions": "gradients of functions equal their closed forms in NumPy float64",
        "rows": "gradients of softmax, norms and attention equal their closed forms",
        "network": "a small network's gradients equal hand-written ones, within derived bounds",
        "gradcheck": "derivatives equal finite differences within gradcheck's default bounds",
        "gradcheck_tight": "derivatives equal finite differences to one millionth",
        "gradgradcheck": "second derivatives equal finite differences to one millionth",
        "forward_mode": "derivatives carried forward are exact",
        "batched": "a Jacobian from one batched backward is exact",
        "accumulation": "each backward adds to .grad",
        "zero_grad": "zero_grad clears gradients, to None or to zeros",
        "scalar_backward": "backward() of one number needs no argument",
        "vector_refused": "backward() of several numbers is refused without a fitting gradient",
        "vector_jacobian": "backward() with a gradient adds the vector-Jacobian product",
        "grad_function": "autograd.grad returns gradients, also of gradients, and leaves .grad",
        "detach": "detach() shares the memory and cuts the graph",
        "grad_fn": "a user-made tensor has no grad_fn, and a result has one",
        "leaves": "leaves that ask for it get a gradient, results only after retain_grad()",
        "no_grad": "no_grad records nothing, and ends with its block",
        "inference_mode": "inference_mode makes tensors that no graph may save, and ends",
        "grad_modes": "enable_grad and set_grad_enabled nest",
        "changing_graph": "a graph may differ in each iteration",
        "second_backward": "a second backward through a graph is refused unless it was retained",
        "in_place": "in-place edits that would falsify a gradient are refused, others are right",
        "custom_function": "a custom Function's own backward is used",
        "recomputation": "activations computed again in the backward give the same bits",
        "saved_tensors": "what a graph saves may be kept elsewhere meanwhile",
        "tensor_hooks": "tensor hooks run in order, may change gradients, and can be removed",
        "node_hooks": "hooks run before and after a graph's node",
        "module_hooks": "module hooks run around forward and backward, and can be removed",
        "accumulation_hooks": "hooks run once a parameter's gradient is complete",
        "repeated": "the same backward again gives the same bits, though updates collide",
        "threads": "backward in several threads and streams at once gives the same bits",
        "thread_modes": "gradient modes belong to their thread",
    },
    certain={"products": _BITS},
)

TRAIN_EVAL = ProbeSpec(
    name="train_eval",
    profile="quick",
    needs="device",
    timeout_s=60,
    interval_s=300,
    memory_bytes=128 * MIB,
    checks={
        "dropout_train": "in train() dropout gives 0 or x / (1 - p), as often as p says, at random",
        "dropout_channels": "Dropout1d, 2d and 3d drop whole channels",
        "dropout_alpha": "AlphaDropout keeps mean and variance by its closed form",
        "dropout_edges": "p = 0, p = 1, in place, and a p that is no chance",
        "dropout_eval": "in eval() every kind of dropout is the identity, to the bit",
        "dropout_backward": "gradients pass where values passed",
        "batch_norm_train": "in train() BatchNorm uses the batch's mean and biased variance",
        "batch_norm_statistics": "running mean and unbiased variance move by the momentum",
        "batch_norm_eval": "in eval() BatchNorm uses the frozen statistics, whatever the batch",
        "batch_norm_frozen": "in eval() no bit of statistics, counter or parameters moves",
        "batch_norm_backward": "BatchNorm's gradients in both modes, by their closed form",
        "modes_recurse": "train() and eval() reach every module below, and none above",
        "modes_behave": "layers far down follow the mode of their root",
        "no_mode": "layers without a mode give the same right answer in both modes",
        "random_slope": "RReLU draws its slope in train() and uses the middle one in eval()",
        "batch_independence": "in eval() a row's answer does not depend on its batch",
        "gradients_apart": "eval() is not no_grad(), and no_grad() is not eval()",
        "attention_modes": "attention without dropout is the same in train(), eval() and fused",
        "first_steps": "the first training steps are exact, to the bit",
        "learning": "a small model learns along NumPy's curve to the known loss",
        "repeats": "the same training twice gives the same bits, on the CPU",
        "saved": "a saved state dict loads on the host with the same names, bits and answers",
        "loads": "loading copies into the module, and refuses what does not fit",
        "module_moves": "module.to(device) moves every parameter and buffer, to the bit",
    },
    certain={"saved": _BITS, "module_moves": _BITS},
)

TENSOR_OPS = ProbeSpec(
    name="tensor_ops",
    profile="quick",
    needs="device",
    timeout_s=60,
    interval_s=300,
    memory_bytes=256 * MIB,
    limits="probes.limits.tensor_ops",
    checks={
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
        "reductions": "sums, products, extremes and cumulations are exact; the first of ties wins",
        "sorting": "sorts are stable, NaN is the largest, searches and sets are right",
        "scatter": "scatters and index writes are right, duplicates add up",
        "large": "a million elements are added, summed, cumulated and sorted right",
        "empty": "no elements give neutral answers, right shapes and zeros from empty products",
        "elementwise": "mathematical functions are within a few units in the last place",
        "complex_numbers": "complex arithmetic is exact on integers, Fourier transforms in bounds",
        "neural": "activations, softmax, norms, pooling, embedding and losses by their formulas",
        "matmul_exact": "products of integer matrices are exact in every type and layout",
        "float32_matmul": "float32 products keep 24 bits, unless TF32 was asked for",
        "convolution": "convolutions of integers are exact in every type",
        "float32_convolution": "float32 convolutions keep 24 bits, unless TF32 is allowed",
        "linalg_solve": "solutions, inverses and determinants are within their bounds",
        "linalg_decompose": "svd, eigh, qr and cholesky multiply back, orthonormal, known spectrum",
        "random_mersenne": "on the CPU a seed gives MT19937's numbers, bit for bit",
        "random_philox": "on CUDA and HIP a seed gives Philox4x32-10's numbers, bit for bit",
        "random_seeds": "a seed repeats its numbers, another gives others, a state goes on",
        "random_moments": "draws have the right mean, variance and shares within 6 sigma",
    },
    certain={
        **dict.fromkeys(("views", "transposing", "indexing", "slicing", "joining"), _BITS),
        "matmul_exact": _BITS,
        **dict.fromkeys(
            ("arithmetic", "in_place", "integer_division", "bitwise", "scatter", "large"),
            _INTEGERS,
        ),
    },
)

#: In the order in which one device runs them.
CATALOG: Final[tuple[ProbeSpec, ...]] = (
    TORCH_VERSION,
    CUDA_AVAILABLE,
    NUMPY_SHARING,
    DEVICE_TRANSFER,
    TENSOR_OPS,
    TRAIN_EVAL,
    AUTOGRAD,
)

#: The same, by name.
BY_NAME: Final[dict[str, ProbeSpec]] = {spec.name: spec for spec in CATALOG}

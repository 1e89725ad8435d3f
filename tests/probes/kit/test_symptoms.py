"""Every known text, as the software prints it, matches its own symptom only."""

import re

import pytest

from probes.kit.symptoms import SYMPTOMS, Symptom, diagnose

UNEXPECTED = (
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions "
    "before calling NumCudaDevices() that might have already set an error? Error "
)


def cuda(text: str, name: str) -> str:
    """The text of torch.AcceleratorError for a CUDA error, in torch 2.9 and later."""
    return (
        f"CUDA error: {text}\nSearch for `{name}' in https://docs.nvidia.com/cuda/cuda-runtime-api/"
        "group__CUDART__TYPES.html for more information.\nCUDA kernel errors might be "
        "asynchronously reported at some other API call, so the stacktrace below might be "
        "incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with "
        "`TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
    )


def hip(text: str) -> str:
    """Torch's text for a HIP error."""
    return (
        f"RuntimeError: HIP error: {text}\nHIP kernel errors might be asynchronously reported at "
        "some other API call, so the stacktrace below might be incorrect.\nFor debugging consider "
        "passing AMD_SERIALIZE_KERNEL=3\nCompile with `TORCH_USE_HIP_DSA` to enable device-side "
        "assertions."
    )


# Recorded from torch 2.13 (CUDA 13 build), libcudart 13, NVML, ld.so and public issue threads;
# the names in capitals and the last of lost_access are what our own observations hold.
GENUINE: dict[str, list[str]] = {
    "lost_access": [
        "Failed to initialize NVML: Unknown Error",
        "[Errno 1] Operation not permitted: '/dev/nvidiactl'",
        "[Errno 13] Permission denied: '/dev/nvidia0'",
        "Unable to open /dev/kfd read-write: Permission denied",
        "/dev/nvidia-uvm: EPERM, Operation not permitted",
    ],
    "nvml_version_mismatch": [
        "Failed to initialize NVML: Driver/library version mismatch",
        "Failed to initialize NVML: RM has detected an NVML/RM version mismatch.",
    ],
    "nvml_driver_not_loaded": [
        "Failed to initialize NVML: Driver Not Loaded",
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make "
            "sure "
            "that the latest NVIDIA driver is installed and running."
        ),
    ],
    "nvml_library_missing": [
        "Failed to initialize NVML: NVML Shared Library Not Found",
        "libnvidia-ml.so.1: cannot open shared object file: No such file or directory",
    ],
    "no_driver": [
        (
            "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an "
            "NVIDIA "
            "GPU and installed a driver from http://www.nvidia.com/Download/index.aspx"
        ),
        "libcuda.so.1: cannot open shared object file: No such file or directory",
    ],
    "driver_too_old": [
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). "
            "Please "
            "update your GPU driver by downloading and installing a new version from the URL: "
            "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org "
            "to "
            "install a PyTorch version that has been compiled with your version of the CUDA driver."
        ),
        cuda(
            "CUDA driver version is insufficient for CUDA runtime version",
            "cudaErrorInsufficientDriver",
        ),
    ],
    "torch_without_cuda": [
        "AssertionError: Torch not compiled with CUDA enabled",
        "AssertionError: libcudart functions unavailable. It looks like you have a broken build?",
    ],
    "fork_after_init": [
        (
            "RuntimeError: Cannot re-initialize CUDA in forked subprocess. To use CUDA with "
            "multiprocessing, you must use the 'spawn' start method"
        ),
    ],
    "driver_not_initialized": [
        "RuntimeError: CUDA driver initialization failed, you might not have a CUDA gpu.",
        cuda("initialization error", "cudaErrorInitializationError"),
        "CUDA_ERROR_NOT_INITIALIZED",
    ],
    "stub_library": [
        UNEXPECTED + "34: CUDA driver is a stub library",
        "CUDA_ERROR_STUB_LIBRARY",
    ],
    "device_busy": [
        UNEXPECTED + "46: CUDA-capable device(s) is/are busy or unavailable",
        cuda("CUDA-capable device(s) is/are busy or unavailable", "cudaErrorDevicesUnavailable"),
        "RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable",
        "CUDA_ERROR_DEVICE_UNAVAILABLE",
        cuda(
            "exclusive-thread device already in use by a different thread",
            "cudaErrorDeviceAlreadyInUse",
        ),
    ],
    "invalid_visible_devices": [
        "AssertionError: Invalid device id",
    ],
    "no_device": [
        "RuntimeError: No CUDA GPUs are available",
        "RuntimeError: No HIP GPUs are available",
        cuda("no CUDA-capable device is detected", "cudaErrorNoDevice"),
        hip("no ROCm-capable device is detected"),
        "CUDA_ERROR_NO_DEVICE",
    ],
    "invalid_device_ordinal": [
        UNEXPECTED + "101: invalid device ordinal",
        cuda("invalid device ordinal", "cudaErrorInvalidDevice"),
        hip("invalid device ordinal"),
        "CUDA_ERROR_INVALID_DEVICE",
    ],
    "fabric_not_ready": [
        UNEXPECTED + "802: system not yet initialized",
        "CUDA_ERROR_SYSTEM_NOT_READY",
    ],
    "driver_combination": [
        UNEXPECTED + "803: system has unsupported display driver / cuda driver combination",
        "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    ],
    "forward_compatibility": [
        UNEXPECTED + "804: forward compatibility was attempted on non supported HW",
        "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    ],
    "mps_unreachable": [
        UNEXPECTED
        + "805: MPS client failed to connect to the MPS control daemon or the MPS server",
        "CUDA error: MPS server is not ready to accept new MPS client requests",
        "CUDA_ERROR_MPS_CONNECTION_FAILED",
    ],
    "unknown_error": [
        (
            "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up "
            "environment, "
            "e.g. changing env variable CUDA_VISIBLE_DEVICES after program start. Setting the "
            "available devices to be zero."
        ),
        cuda("unknown error", "cudaErrorUnknown"),
        "CUDA_ERROR_UNKNOWN",
    ],
    "hip_no_binary": [
        hip("invalid device function"),
        '"hipErrorNoBinaryForGpu: Unable to find code object for all current devices!"',
    ],
    "no_kernel_image": [
        cuda(
            "no kernel image is available for execution on the device",
            "cudaErrorNoKernelImageForDevice",
        ),
        cuda("invalid device function", "cudaErrorInvalidDeviceFunction"),
        (
            "UserWarning: \nNVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not "
            "compatible with "
            "the current PyTorch installation.\nThe current PyTorch install supports CUDA "
            "capabilities sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90."
        ),
    ],
    "kernel_image_invalid": [
        cuda("device kernel image is invalid", "cudaErrorInvalidKernelImage"),
        "RuntimeError: Triton Error [CUDA]: device kernel image is invalid",
    ],
    "ptx_too_new": [
        cuda(
            "the provided PTX was compiled with an unsupported toolchain.",
            "cudaErrorUnsupportedPtxVersion",
        ),
        cuda("a PTX JIT compilation failed", "cudaErrorInvalidPtx"),
    ],
    "ecc_uncorrectable": [
        cuda("uncorrectable ECC error encountered", "cudaErrorECCUncorrectable"),
        "NVRM: Xid (PCI:0000:0f:00): 48, An uncorrectable double bit error (DBE) has been detected",
    ],
    "nvlink_or_contained": [
        cuda(
            "Invalid access of peer GPU memory over nvlink or a hardware error",
            "cudaErrorContained",
        ),
        cuda(
            "uncorrectable NVLink error detected during the execution",
            "cudaErrorNvlinkUncorrectable",
        ),
    ],
    "gpu_lost": [
        "NVRM: Xid (PCI:0000:02:00): 79, pid=1234, GPU has fallen off the bus.",
        (
            "Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost. Reboot the "
            "system to recover this GPU"
        ),
        "nvmlDeviceGetHandleByIndex: GPU is lost",
        "Unable to determine the device handle for gpu 0000:18:00.0: Unknown Error",
    ],
    "gpu_reset_required": ["nvmlDeviceGetHandleByIndex: GPU requires restart"],
    "memory_access_fault": [
        "Memory access fault by GPU node-1 (Agent handle: 0x55a) on address 0x7f. Reason: Unknown.",
    ],
    "device_assert": [
        cuda("device-side assert triggered", "cudaErrorAssert"),
        hip("device-side assert triggered"),
    ],
    "illegal_address": [
        cuda("an illegal memory access was encountered", "cudaErrorIllegalAddress"),
        hip("an illegal memory access was encountered"),
    ],
    "misaligned_address": [cuda("misaligned address", "cudaErrorMisalignedAddress")],
    "launch_timeout": [cuda("the launch timed out and was terminated", "cudaErrorLaunchTimeout")],
    "launch_failure": [
        cuda("unspecified launch failure", "cudaErrorLaunchFailure"),
        cuda("an illegal instruction was encountered", "cudaErrorIllegalInstruction"),
        hip("unspecified launch failure"),
    ],
    "mig_assert": [
        (
            "DeferredCudaCallError: CUDA call failed lazily at initialization with error: device "
            ">= 0 "
            "&& device < num_gpus INTERNAL ASSERT FAILED at "
            '"../aten/src/ATen/cuda/CUDAContext.cpp":49,'
            " please report a bug to PyTorch. device=1, num_gpus="
        ),
    ],
    "allocator_nvml_assert": [
        (
            "RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED at "
            '"../c10/cuda/CUDACachingAllocator.cpp":995, please report a bug to PyTorch.'
        ),
    ],
    "out_of_memory": [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a "
            "total capacity of 79.11 GiB of which 9.75 MiB is free. Process 4242 has 79.09 GiB "
            "memory "
            "in use. Of the allocated memory 0 bytes is allocated by PyTorch."
        ),
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 20.00 MiB.",
        cuda("out of memory", "cudaErrorMemoryAllocation"),
        UNEXPECTED + "2: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
    "cudnn_incompatible": [
        (
            "RuntimeError: cuDNN version incompatibility: PyTorch was compiled  against (8, 3, "
            "2) but "
            "found runtime version (8, 0, 3). PyTorch already comes bundled with cuDNN. One "
            "option to "
            "resolving this error is to ensure PyTorch can find the bundled cuDNN."
        ),
    ],
    "cudnn_sublibraries": [
        "RuntimeError: cuDNN error: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH",
    ],
    "library_not_initialized": [
        "RuntimeError: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        (
            "RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling "
            "`cublasCreate(handle)`"
        ),
    ],
    "nvjitlink_symbol": [
        (
            "ImportError: "
            "/opt/venv/lib/python3.11/site-packages/torch/lib/../../nvidia/cusparse/lib/"
            "libcusparse.so.12: undefined symbol: __nvJitLinkAddData_12_1, version "
            "libnvJitLink.so.12"
        ),
    ],
    "glibcxx_missing": [
        (
            "ImportError: /lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.30' not found "
            "(required by /opt/venv/lib/python3.11/site-packages/torch/lib/libtorch_python.so)"
        ),
        "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by x.so)",
    ],
    "library_missing": [
        "OSError: libcudart.so.12: cannot open shared object file: No such file or directory",
        "ImportError: libnccl.so.2: cannot open shared object file: No such file or directory",
        "ImportError: libcudnn_adv-x.so.9: cannot open shared object file: No such file",
    ],
    "numpy_abi": [
        "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.1.0 as it may crash.",
        (
            "UserWarning: Failed to initialize NumPy: _ARRAY_API not found (Triggered internally "
            "at "
            "../torch/csrc/utils/tensor_numpy.cpp:84.)"
        ),
    ],
    "numpy_missing": [
        (
            "UserWarning: Failed to initialize NumPy: No module named 'numpy' (Triggered "
            "internally at "
            "../torch/csrc/utils/tensor_numpy.cpp:84.)"
        ),
        "ModuleNotFoundError: No module named 'numpy'",
    ],
    "numpy_unavailable": [
        "RuntimeError: Numpy is not available",
        "RuntimeError: Could not infer dtype of numpy.float32",
    ],
    "shared_memory": [
        (
            "RuntimeError: DataLoader worker (pid 4242) is killed by signal: Bus error. It is "
            "possible "
            "that dataloader's workers are out of shared memory. Please try to raise your shared "
            "memory limit."
        ),
        "RuntimeError: unable to write to file </torch_123_456_0>: No space left on device (28)",
    ],
}

#: Texts that a wider pattern matches too; the first of each pair comes first in the table.
NARROWER = {
    ("nvml_library_missing", "library_missing"),
    ("no_driver", "library_missing"),
}

TEXTS = [(name, text) for name, texts in GENUINE.items() for text in texts]


def matching(text: str) -> list[str]:
    """Names of all symptoms that match, in the table's order."""
    return [symptom.name for symptom in SYMPTOMS if re.search(symptom.pattern, text)]


@pytest.mark.parametrize(
    ("name", "text"), TEXTS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(TEXTS)]
)
def test_each_text_is_one_symptom(name: str, text: str) -> None:
    """A genuine text matches its symptom and no other."""
    found = diagnose(text)
    others = {(name, other) for other in matching(text) if other != name}

    assert found is not None
    assert found.name == name
    assert others <= NARROWER


@pytest.mark.parametrize(
    ("name", "text"), TEXTS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(TEXTS)]
)
def test_a_text_is_found_inside_a_traceback(name: str, text: str) -> None:
    """The text is recognised with other lines around it, as in a log's tail."""
    lines = f"Traceback (most recent call last):\n  File x\n{text}\nDuring handling of the above"
    found = diagnose(lines)

    assert found is not None
    assert found.name == name


def test_every_symptom_has_a_genuine_text() -> None:
    """Every symptom has at least one text, and names are unique."""
    names = [symptom.name for symptom in SYMPTOMS]

    assert len(names) == len(set(names))
    assert set(names) == GENUINE.keys()


@pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda symptom: symptom.name)
def test_every_hint_has_a_command_and_an_action(symptom: Symptom) -> None:
    """A hint names a command in backticks and then, after a semicolon, what to do."""
    assert re.search(r"`[^`]+`|CUDA_LAUNCH_BLOCKING=1", symptom.hint)
    assert ";" in symptom.hint
    assert symptom.cause
    assert symptom.action != "none" or symptom.reason == "gpu_busy"


def test_contention_and_lost_access_are_not_faults() -> None:
    """Only use by others is `gpu_busy`, only closed device nodes are `lost_access`."""
    by_reason: dict[str, set[str]] = {}
    for symptom in SYMPTOMS:
        by_reason.setdefault(symptom.reason, set()).add(symptom.name)

    assert by_reason["gpu_busy"] == {"device_busy", "out_of_memory"}
    assert by_reason["lost_access"] == {"lost_access"}
    assert by_reason.keys() == {"gpu_busy", "lost_access", "torch_raised", "import_failed"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)",
        "RuntimeError: Expected all tensors to be on the same device",
        "[Errno 13] Permission denied: '/data/train'",
        "ModuleNotFoundError: No module named 'torchvision'",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        "RuntimeError: a view of a leaf Variable that requires grad is being used in-place",
        "ValueError: numpy.float32 is not a valid size",
    ],
)
def test_an_unknown_text_has_no_symptom(text: str) -> None:
    """An ordinary error has no known cause."""
    assert diagnose(text) is None


@pytest.mark.timeout(20)
def test_long_text_does_not_stall_a_pattern() -> None:
    """A long line that almost matches does not cause catastrophic backtracking."""
    assert diagnose("/dev/nvidia" + "x" * 65536 + " Invalid device ids " + "lib" * 9999) is None

"""Known error texts of drivers, torch and NumPy: cause, how to confirm it, what to do.

Texts are those of torch (c10/cuda/CUDAFunctions.cpp), of cudaGetErrorString, of NVML and of the
dynamic linker, or error names such as CUDA_ERROR_NO_DEVICE. The first match wins, so narrow
patterns come before wide ones.

Ref: https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html
"""

import re
from typing import Final

from probes.contract import Action, Frozen, Reason


class Symptom(Frozen):
    """One known error: `hint` is a command that confirms `cause`, then what to do about it."""

    name: str
    pattern: str  # a regular expression, searched for in the whole text
    cause: str
    hint: str
    action: Action
    #: The reason of the result if an error with this text ended a probe.
    reason: Reason = "torch_raised"


SYMPTOMS: Final[tuple[Symptom, ...]] = (
    # ---- access and driver set-up
    Symptom(
        name="lost_access",
        pattern=r"Failed to initialize NVML: Unknown Error"
        r"|(Operation not permitted|Permission denied)[^\n]*/dev/(nvidia|kfd|dri)"
        r"|/dev/(nvidia|kfd|dri)[^\n]*(Operation not permitted|Permission denied)",
        cause="this container is no longer (or was never) allowed to open the GPU device nodes; "
        "`systemctl daemon-reload` on the host does that to running containers",
        hint="confirm with `head -c0 /dev/nvidiactl` here and `nvidia-smi` on the host (it still "
        "works there); recreate the container, and use CDI or the cgroupfs driver to prevent it",
        action="recreate_container",
        reason="lost_access",
    ),
    Symptom(
        name="nvml_version_mismatch",
        pattern=r"Driver/library version mismatch|NVML/RM version mismatch",
        cause="the loaded kernel module and the user-space driver libraries are of two versions: "
        "the driver was upgraded under a running node or container",
        hint="compare `cat /proc/driver/nvidia/version` with `ls -l /usr/lib/*/libnvidia-ml.so.*`; "
        "drain and reboot the node (or reload the nvidia modules), then recreate containers",
        action="reboot_node",
    ),
    Symptom(
        name="nvml_driver_not_loaded",
        pattern=r"Failed to initialize NVML: Driver Not Loaded"
        r"|couldn't communicate with the NVIDIA driver",
        cause="the NVIDIA kernel module is not loaded",
        hint="confirm with `lsmod | grep nvidia` and `dmesg | grep -i nvrm`; load it with "
        "`modprobe nvidia` or reinstall the driver for the running kernel",
        action="reboot_node",
    ),
    Symptom(
        name="nvml_library_missing",
        pattern=r"NVML Shared Library Not Found|libnvidia-ml\.so[.\d]*: cannot open shared object",
        cause="libnvidia-ml.so.1 is not in this container",
        hint="confirm with `ldconfig -p | grep nvidia-ml`; start the container with "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        action="fix_config",
    ),
    Symptom(
        name="no_driver",
        pattern=r"Found no NVIDIA driver on your system"
        r"|libcuda\.so[.\d]*: cannot open shared object file",
        cause="no usable libcuda.so.1 here: the driver is not installed, or the container was "
        "started without GPUs or with the `utility` capability alone",
        hint="confirm with `ldconfig -p | grep libcuda.so`; start the container with `--gpus all` "
        "and NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        action="fix_config",
    ),
    Symptom(
        name="driver_too_old",
        pattern=r"NVIDIA driver on your system is too old \(found version \d+\)"
        r"|CUDA driver version is insufficient for CUDA runtime version"
        r"|cudaErrorInsufficientDriver",
        cause="this torch was built for a newer CUDA than the driver supports",
        hint="compare `nvidia-smi | grep 'CUDA Version'` with `python -c 'import torch; "
        "print(torch.version.cuda)'`; upgrade the driver, or install the wheel of an older CUDA",
        action="fix_image",
    ),
    Symptom(
        name="torch_without_cuda",
        pattern=r"Torch not compiled with (CUDA|XPU|MPS) enabled"
        r"|libcudart functions unavailable",
        cause="this torch is a build without GPU support (a resolver often picks the CPU wheel)",
        hint="confirm with `python -c 'import torch; print(torch.__version__, "
        "torch.version.cuda)'`; install and pin the GPU build, as in "
        "`pip install torch --index-url https://download.pytorch.org/whl/cu126`",
        action="fix_image",
    ),
    Symptom(
        name="fork_after_init",
        pattern=r"Cannot re-initialize (CUDA|XPU) in forked subprocess",
        cause="a process initialised the GPU and then forked; the child cannot use it",
        hint="confirm with `python -c 'import multiprocessing; "
        "print(multiprocessing.get_start_method())'`; start workers with `spawn` or `forkserver`",
        action="fix_config",
    ),
    # ---- cuInit and cudaGetDeviceCount
    Symptom(
        name="driver_not_initialized",  # 3
        pattern=r"CUDA driver initialization failed, you might not have a CUDA gpu"
        r"|CUDA error: initialization error|Error 3: initialization error"
        r"|CUDA_ERROR_NOT_INITIALIZED|cudaErrorInitializationError",
        cause="the driver refused to initialise: MIG is on without an instance, the driver is "
        "broken, or this process was forked from one that used the GPU",
        hint="confirm with `nvidia-smi -L`; create a MIG instance where it lists none, otherwise "
        "look at `dmesg | grep -i nvrm` and reset the GPU",
        action="reset_gpu",
    ),
    Symptom(
        name="stub_library",  # 34
        pattern=r"CUDA driver is a stub library|CUDA_ERROR_STUB_LIBRARY|cudaErrorStubLibrary",
        cause="the libcuda.so.1 that was loaded is the toolkit's link-time stub, not the driver",
        hint="confirm with `ldconfig -p | grep libcuda.so` and `echo $LD_LIBRARY_PATH`; remove "
        "the `stubs` directory from both",
        action="fix_image",
    ),
    Symptom(
        name="device_busy",  # 46
        pattern=r"CUDA-capable device\(s\) is/are busy or unavailable"
        r"|all CUDA-capable devices are busy or unavailable"
        r"|exclusive-thread device already in use by a different thread"
        r"|CUDA_ERROR_DEVICE_UNAVAILABLE|cudaErrorDevicesUnavailable",
        cause="another process holds the GPU in exclusive mode, or its mode prohibits computing",
        hint="confirm with `nvidia-smi --query-gpu=compute_mode --format=csv` and "
        "`nvidia-smi --query-compute-apps=pid,name --format=csv`; wait for that process, or "
        "`nvidia-smi -c DEFAULT`",
        action="none",
        reason="gpu_busy",
    ),
    Symptom(
        name="invalid_visible_devices",
        pattern=r"(^|: )Invalid device id\s*($|\n)",
        cause="CUDA_VISIBLE_DEVICES (or the code) names a device that is not there",
        hint="compare `echo $CUDA_VISIBLE_DEVICES` with `nvidia-smi -L`; unset it, or list "
        "existing indices or UUIDs (the first bad entry hides all after it)",
        action="fix_config",
    ),
    Symptom(
        name="no_device",  # 100
        pattern=r"No (CUDA|HIP|XPU) (GPUs|devices) are available"
        r"|no (CUDA|ROCm)-capable device is detected"
        r"|CUDA_ERROR_NO_DEVICE|cudaErrorNoDevice|hipErrorNoDevice",
        cause="the driver works and offers no device: CUDA_VISIBLE_DEVICES is empty or wrong, no "
        "device was given to this container, or the GPU was lost",
        hint="compare `echo $CUDA_VISIBLE_DEVICES` with `nvidia-smi -L` (`rocminfo` on AMD); fix "
        "the variable, or give the container its GPUs (`--gpus all`)",
        action="fix_config",
    ),
    Symptom(
        name="invalid_device_ordinal",  # 101
        pattern=r"invalid device ordinal|CUDA_ERROR_INVALID_DEVICE\b|cudaErrorInvalidDevice\b"
        r"|hipErrorInvalidDevice\b",
        cause="a device index beyond those visible, or an invalid CUDA_VISIBLE_DEVICES",
        hint="compare `python -c 'import torch; print(torch.cuda.device_count())'` with "
        "`echo $CUDA_VISIBLE_DEVICES`; list existing devices only",
        action="fix_config",
    ),
    Symptom(
        name="fabric_not_ready",  # 802
        pattern=r"system not yet initialized|CUDA_ERROR_SYSTEM_NOT_READY|cudaErrorSystemNotReady",
        cause="the NVSwitch fabric is not up: nvidia-fabricmanager is stopped, or is of another "
        "version than the driver",
        hint="confirm with `systemctl status nvidia-fabricmanager` and `nvidia-smi -q | grep -A3 "
        "Fabric` on the host; install the driver's exact version of it and start it",
        action="fix_config",
    ),
    Symptom(
        name="driver_combination",  # 803
        pattern=r"system has unsupported display driver / cuda driver combination"
        r"|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH|cudaErrorSystemDriverMismatch",
        cause="libcuda and the kernel module are of two versions: driver libraries in the image "
        "shadow the host's, or the driver was upgraded without a reboot",
        hint="compare `cat /proc/driver/nvidia/version` with `ls -l $(ldconfig -p | grep -o "
        "'/.*libcuda.so.1')`; remove driver libraries from the image, or reboot the node",
        action="fix_image",
    ),
    Symptom(
        name="forward_compatibility",  # 804
        pattern=r"forward compatibility was attempted on non supported HW"
        r"|CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE|cudaErrorCompatNotSupportedOnDevice",
        cause="the image loads a CUDA forward-compatibility libcuda, which this GPU does not "
        "support or which no longer fits the driver",
        hint="confirm with `ldconfig -p | grep compat` and `echo $LD_LIBRARY_PATH`; take "
        "/usr/local/cuda/compat out of the library path, or upgrade the driver",
        action="fix_image",
    ),
    Symptom(
        name="mps_unreachable",  # 805 to 810
        pattern=r"(MPS client (failed to connect|has been terminated)|MPS server is not ready"
        r"|between the MPS server and the MPS client failed|to create MPS client)"
        r"|CUDA_ERROR_MPS_|cudaErrorMps",
        cause="CUDA's multi-process service is configured and its daemon does not answer",
        hint="confirm with `echo get_server_list | nvidia-cuda-mps-control`; start the daemon, or "
        "unset CUDA_MPS_PIPE_DIRECTORY",
        action="fix_config",
    ),
    Symptom(
        name="unknown_error",  # 999
        pattern=r"CUDA unknown error - this may be due to an incorrectly set up environment"
        r"|CUDA error: unknown error|Error 999: unknown error|CUDA_ERROR_UNKNOWN|cudaErrorUnknown",
        cause="the driver failed for no named reason: /dev/nvidia-uvm is missing, the node was "
        "suspended, or the device cgroup denies access",
        hint="confirm with `ls -l /dev/nvidia-uvm`; run `nvidia-modprobe -u -c=0` on the host, or "
        "reload nvidia_uvm",
        action="fix_config",
    ),
    # ---- kernels that do not fit the GPU
    Symptom(
        name="hip_no_binary",
        pattern=r"hipErrorNoBinaryForGpu|HIP error: invalid device function"
        r"|hipErrorInvalidDeviceFunction|HIP error: (no kernel image|device kernel image)",
        cause="this ROCm build has no code for this GPU's architecture",
        hint="compare `rocminfo | grep gfx` with `python -c 'import torch; "
        "print(torch.cuda.get_arch_list())'`; install a build that lists it (and unset "
        "HSA_OVERRIDE_GFX_VERSION: a forced architecture computes garbage)",
        action="fix_image",
    ),
    Symptom(
        name="no_kernel_image",
        pattern=r"no kernel image is available for execution on the device"
        r"|is not compatible with the current PyTorch installation"
        r"|CUDA_ERROR_NO_BINARY_FOR_GPU|cudaErrorNoKernelImageForDevice"
        r"|CUDA error: invalid device function|cudaErrorInvalidDeviceFunction",
        cause="this torch build has no code for this GPU's architecture",
        hint="compare `nvidia-smi --query-gpu=compute_cap --format=csv` with `python -c 'import "
        "torch; print(torch.cuda.get_arch_list())'`; install a wheel that lists it",
        action="fix_image",
    ),
    Symptom(
        name="kernel_image_invalid",
        pattern=r"device kernel image is invalid|CUDA_ERROR_INVALID_IMAGE"
        r"|cudaErrorInvalidKernelImage",
        cause="the driver cannot load the compiled kernel: it is older than the compiler, or a "
        "kernel cache was filled on another GPU",
        hint="confirm with `nvidia-smi | grep 'CUDA Version'`; clear ~/.triton/cache and "
        "~/.nv/ComputeCache, or upgrade the driver",
        action="fix_image",
    ),
    Symptom(
        name="ptx_too_new",
        pattern=r"PTX was compiled with an unsupported toolchain|CUDA_ERROR_UNSUPPORTED_PTX_VERSION"
        r"|cudaErrorUnsupportedPtxVersion|a PTX JIT compilation failed",
        cause="the kernel must be compiled by the driver, which is older than its PTX",
        hint="compare `nvidia-smi | grep 'CUDA Version'` with `python -c 'import torch; "
        "print(torch.version.cuda)'`; upgrade the driver or install the wheel of an older CUDA",
        action="fix_image",
    ),
    # ---- hardware
    Symptom(
        name="ecc_uncorrectable",
        pattern=r"uncorrectable ECC error encountered|CUDA_ERROR_ECC_UNCORRECTABLE"
        r"|cudaErrorECCUncorrectable|double bit error \(DBE\)",
        cause="GPU memory returned a word that error correction could not repair",
        hint="confirm with `nvidia-smi -q -d ECC,ROW_REMAPPER`; drain the node, reset the GPU, "
        "and replace it when it comes back",
        action="drain",
    ),
    Symptom(
        name="nvlink_or_contained",
        pattern=r"[Ii]nvalid access of peer GPU memory over nvlink or a hardware error"
        r"|uncorrectable NVLink error|CUDA_ERROR_(CONTAINED|NVLINK_UNCORRECTABLE)"
        r"|cudaError(Contained|NvlinkUncorrectable)",
        cause="a peer's memory could not be read over NVLink, or a contained memory error",
        hint="confirm with `dmesg | grep -i xid` and `nvidia-smi nvlink -e`; drain the node and "
        "reset its GPUs",
        action="drain",
    ),
    Symptom(
        name="gpu_lost",
        pattern=r"fallen off the bus|GPU is lost|GpuIsLost|GPU_IS_LOST"
        r"|Unable to determine the device handle for (gpu|GPU)",
        cause="the GPU no longer answers on PCIe (Xid 79)",
        hint="confirm with `dmesg | grep -i xid` and `lspci -d 10de:`; drain and power-cycle the "
        "node, reseat the card, and replace it when it comes back",
        action="drain",
    ),
    Symptom(
        name="gpu_reset_required",
        pattern=r"GPU requires (restart|reset)|NVML_ERROR_RESET_REQUIRED",
        cause="the GPU is in an error state that only a reset ends",
        hint="confirm with `nvidia-smi -q | grep -A4 'GPU Recovery'`; drain the node and run "
        "`nvidia-smi --gpu-reset`",
        action="reset_gpu",
    ),
    Symptom(
        name="memory_access_fault",
        pattern=r"Memory access fault by GPU node-\d+",
        cause="a ROCm kernel touched an address that is not mapped",
        hint="confirm with `dmesg | grep -i amdgpu`; repeat with AMD_SERIALIZE_KERNEL=3, and when "
        "it repeats on this GPU alone, drain the node",
        action="investigate",
    ),
    # ---- kernels that ended badly
    Symptom(
        name="device_assert",
        pattern=r"device-side assert triggered|CUDA_ERROR_ASSERT\b|cudaErrorAssert\b"
        r"|hipErrorAssert\b|HSA_STATUS_ERROR_EXCEPTION: An HSAIL operation resulted in",
        cause="a kernel's own assertion failed (an index out of range, as a rule); the process "
        "cannot use the GPU any more",
        hint="repeat with CUDA_LAUNCH_BLOCKING=1 to see the kernel; restart the process, and "
        "report it: the validator's inputs are valid",
        action="investigate",
    ),
    Symptom(
        name="illegal_address",
        pattern=r"illegal memory access was encountered|CUDA_ERROR_ILLEGAL_ADDRESS"
        r"|cudaErrorIllegalAddress|hipErrorIllegalAddress",
        cause="a kernel read or wrote outside its buffers: a bug, or an address corrupted on the "
        "GPU",
        hint="confirm with `dmesg | grep -i xid` (31 or 13); repeat on another GPU, and when it "
        "stays on this one, drain the node",
        action="investigate",
    ),
    Symptom(
        name="misaligned_address",
        pattern=r"misaligned address|CUDA_ERROR_MISALIGNED_ADDRESS|cudaErrorMisalignedAddress",
        cause="a kernel used an address that is not a multiple of its element's size",
        hint="repeat with CUDA_LAUNCH_BLOCKING=1 to see the kernel; repeat on another GPU, and "
        "when it stays on this one, drain the node",
        action="investigate",
    ),
    Symptom(
        name="launch_timeout",
        pattern=r"the launch timed out and was terminated|CUDA_ERROR_LAUNCH_TIMEOUT"
        r"|cudaErrorLaunchTimeout",
        cause="a kernel ran longer than the display watchdog allows",
        hint="confirm with `nvidia-smi -q | grep -i 'display active'`; compute on a GPU that "
        "drives no display, or look for a GPU that hangs",
        action="investigate",
    ),
    Symptom(
        name="launch_failure",
        pattern=r"unspecified launch failure|an illegal instruction was encountered"
        r"|hardware stack error|invalid program counter|CUDA_ERROR_LAUNCH_FAILED"
        r"|cudaErrorLaunchFailure|cudaErrorIllegalInstruction|hipErrorLaunchFailure",
        cause="a kernel died for a reason that the GPU does not tell",
        hint="confirm with `dmesg | grep -i xid`; repeat on another GPU, and when it stays on this "
        "one, drain the node",
        action="investigate",
    ),
    Symptom(
        name="mig_assert",
        pattern=r"device >= 0 && device < num_gpus INTERNAL ASSERT FAILED",
        cause="torch counted more devices than CUDA gives one process: MIG offers one instance a "
        "process, or CUDA_VISIBLE_DEVICES changed after the start",
        hint="compare `nvidia-smi -L` with `echo $CUDA_VISIBLE_DEVICES`; give each process one "
        "MIG UUID",
        action="fix_config",
    ),
    Symptom(
        name="allocator_nvml_assert",
        pattern=r"NVML_SUCCESS == r INTERNAL ASSERT FAILED",
        cause="torch ran out of GPU memory and could not ask NVML why: MIG, or a "
        "CUDA_VISIBLE_DEVICES that NVML does not understand",
        hint="compare `nvidia-smi -L` with `echo $CUDA_VISIBLE_DEVICES`; use the UUID of a device "
        "that is visible here",
        action="fix_config",
    ),
    Symptom(
        name="out_of_memory",
        pattern=r"(CUDA|HIP|XPU|MPS) (backend )?out of memory|(CUDA|HIP) error: out of memory"
        r"|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|hipErrorOutOfMemory"
        r"|CUBLAS_STATUS_ALLOC_FAILED|Error 2: out of memory",
        cause="the GPU's memory is taken; the validator needs 256 MiB at most, so by others",
        hint="confirm with `nvidia-smi --query-compute-apps=pid,used_memory --format=csv`; wait "
        "for that process, or end it when it is a leftover",
        action="none",
        reason="gpu_busy",
    ),
    # ---- libraries of the image
    Symptom(
        name="cudnn_incompatible",
        pattern=r"cuDNN version (incompatibility|mismatch): PyTorch was compiled\s+against",
        cause="another cuDNN than the one torch was built with comes first in the library path",
        hint="confirm with `echo $LD_LIBRARY_PATH` and `ldconfig -p | grep cudnn`; take the "
        "system's cuDNN out of LD_LIBRARY_PATH",
        action="fix_image",
    ),
    Symptom(
        name="cudnn_sublibraries",
        pattern=r"CUDNN_STATUS_SUBLIBRARY_(VERSION_MISMATCH|LOADING_FAILED)",
        cause="cuDNN's libraries come from two installations",
        hint="confirm with `LD_DEBUG=libs python -c 'import torch; torch.backends.cudnn.version()' "
        "2>&1 | grep cudnn`; reinstall the nvidia-cudnn wheel and remove the system's cuDNN",
        action="fix_image",
    ),
    Symptom(
        name="library_not_initialized",
        pattern=r"(CUDNN|CUBLAS)_STATUS_NOT_INITIALIZED",
        cause="cuDNN or cuBLAS could not start: memory is short, or its libraries do not match "
        "the driver",
        hint="confirm with `nvidia-smi` (free memory) and `echo $LD_LIBRARY_PATH`; free the GPU, "
        "and keep system copies of both out of the library path",
        action="investigate",
    ),
    Symptom(
        name="nvjitlink_symbol",
        pattern=r"undefined symbol: \w*nvJitLink\w*",
        cause="an older libnvJitLink of a CUDA toolkit shadows the one of torch's wheel",
        hint="confirm with `echo $LD_LIBRARY_PATH` and `ldconfig -p | grep nvJitLink`; take the "
        "toolkit's lib64 out of LD_LIBRARY_PATH",
        action="fix_image",
        reason="import_failed",
    ),
    Symptom(
        name="glibcxx_missing",
        pattern=r"version [`'](GLIBCXX|CXXABI|GLIBC)_[\d.]+'? not found",
        cause="an older libstdc++ or libc than the wheels were built for comes first",
        hint="confirm with `strings $(ldconfig -p | grep -o '/.*libstdc++.so.6' | head -1) | grep "
        "GLIBCXX | tail -1`; use a newer base image, or the environment's own libstdc++",
        action="fix_image",
        reason="import_failed",
    ),
    Symptom(
        name="library_missing",
        pattern=r"lib[\w+.-]{1,64}\.so[.\d]*: cannot open shared object file",
        cause="a shared library that torch needs is not in the image or not in its library path",
        hint="confirm with `ldd $(python -c 'import torch; print(torch.__path__[0])')/lib/"
        "libtorch_global_deps.so | grep 'not found'`; reinstall torch with its dependencies",
        action="fix_image",
    ),
    Symptom(
        name="numpy_abi",
        pattern=r"A module that was compiled using NumPy 1\.x cannot be run in"
        r"|_ARRAY_API not found|numpy\.dtype size changed, may indicate binary incompatibility",
        cause="this torch was built against NumPy 1 and NumPy 2 is installed",
        hint="confirm with `python -c 'import torch, numpy; print(torch.__version__, "
        "numpy.__version__)'`; install `numpy<2`, or torch 2.3 or newer",
        action="fix_image",
        reason="import_failed",
    ),
    Symptom(
        name="numpy_missing",
        pattern=r"No module named 'numpy'",
        cause="NumPy is not installed beside torch",
        hint="confirm with `python -c 'import numpy'`; add numpy to the image",
        action="fix_image",
        reason="import_failed",
    ),
    Symptom(
        name="numpy_unavailable",
        pattern=r"Numpy is not available|Could not infer dtype of numpy\.",
        cause="torch could not bind NumPy at import: it is missing, or of an incompatible ABI",
        hint="confirm with `python -W always -c 'import torch; torch.ones(1).numpy()'`; install a "
        "NumPy that this torch supports (`numpy<2` before torch 2.3)",
        action="fix_image",
        reason="import_failed",
    ),
    Symptom(
        name="shared_memory",
        pattern=r"killed by signal: Bus error"
        r"|unable to (write to file|mmap|open shared memory object|allocate shared memory)"
        r"[^\n]*(</torch_|shm)",
        cause="shared memory (/dev/shm) is too small for what DataLoader workers hand over",
        hint="confirm with `df -h /dev/shm`; start the container with `--shm-size=1g` or more, or "
        "mount an emptyDir with `medium: Memory` there",
        action="fix_config",
    ),
)


def diagnose(text: str) -> Symptom | None:
    """The first symptom whose pattern is found in the text; None if there is none."""
    for symptom in SYMPTOMS:
        if re.search(symptom.pattern, text):
            return symptom
    return None

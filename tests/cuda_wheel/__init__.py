"""The real CUDA build of torch, and the real pynvml, on drivers that have no GPU behind them.

VALIDATOR_CUDA_PYTHON names the interpreter that has them; `make test-cuda-wheel` makes one. Without
it these tests are skipped, and what torch said is known from `tests/golden/cuda_errors.json`.
"""

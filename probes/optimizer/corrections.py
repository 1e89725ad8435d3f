"""The corrections of Adam's averages for their first steps."""

import numpy as np

from probes.kit.rounding import ROUNDINGS, Rounded

#: Error of a power that the device computes, in units: OpenCL allows `pow` 16 ulp.
_POWER_UNITS = 32

#: No back-end computes a step's scalars in less than float32.
_SCALAR_UNIT = 2.0**-24


def bias_correction(beta: float, step: int, unit: float) -> Rounded:
    """1 - beta^step: beta is rounded, and the power may be computed on the device."""
    small = min(unit, _SCALAR_UNIT)
    power = beta**step
    error = (step + _POWER_UNITS) * small * power + ROUNDINGS * small
    return Rounded(np.asarray(1 - power), np.asarray(error), unit)

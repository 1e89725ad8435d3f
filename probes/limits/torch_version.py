"""Limits of the probe `torch_version`."""

from typing import Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import NonNegativeInt, field_validator

from probes.contract import Frozen


class Limits(Frozen):
    """What is expected of this image."""

    #: Versions of torch that are right, a PEP 440 specifier set; None accepts every supported one.
    torch: str | None = None
    #: 0 says that no GPU is to be used here, so that a CPU build is right on a GPU node.
    gpus: NonNegativeInt | Literal["auto"] | None = "auto"
    #: Whether libcuda may come from a CUDA forward-compatibility package.
    forward_compat: bool = False

    @field_validator("torch")
    @classmethod
    def _specifier(cls, value: str | None) -> str | None:
        try:
            SpecifierSet(value or "")
        except InvalidSpecifier as error:
            raise ValueError(f"{error}; write a PEP 440 specifier such as '>=2.6,<3'") from error
        return value

"""Settings in the environment: `GPU_VALIDATOR_RUN__TIMEOUT=30` is `run.timeout: 30`."""

from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from validator.settings.values import is_bounded

ENV_PREFIX: Final = "GPU_VALIDATOR_"
#: Of variables that an image, a unit or a manifest sets, and that everything else beats.
DEFAULTS_PREFIX: Final = f"{ENV_PREFIX}DEFAULTS__"


class Environment(EnvSettingsSource):
    """The environment; a list may be plain text there (`:8790,[::1]:8790`), not JSON alone."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode JSON; what is none is left to the field's own validation, which names the key."""
        try:
            decoded = super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value
        return decoded if is_bounded(decoded) else value

"""The one settings model: flags > environment > YAML file > defaults of the image > defaults."""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from probes.contract import Profile
from validator.settings.environment import DEFAULTS_PREFIX, ENV_PREFIX, Environment
from validator.settings.exclusive import in_place_of_each_other
from validator.settings.values import (
    ABSTRACT,
    NUMBER,
    PATH_SCHEMA,
    SOCKET_BYTES,
    ProbeName,
    Seconds,
    SecondsOrZero,
    Words,
    absolute,
    host_port,
    listed_schema,
    shown,
    usable_path,
)

_MOST_GPUS: Final = 4096
#: Under which the file's content is put beside the flags.
FILE_KEY: Final = "config_file_content"


_Specifier = Annotated[str, Field(max_length=200)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expect(_Section):
    """What this node promises."""

    gpus: Literal["auto"] | Annotated[int, Field(ge=0, le=_MOST_GPUS)] = Field(
        default="auto",
        description="GPUs that must be usable: a number is a promise, `auto` looks for hardware",
    )
    mig_instances: Annotated[int, Field(ge=0, le=_MOST_GPUS), NUMBER] | None = Field(
        default=None, description="MIG instances that must be there; a GPU cut into some is one GPU"
    )
    torch: _Specifier | None = Field(
        default=None, description="versions of torch that are right, a PEP 440 specifier set"
    )
    unproven: Literal["warn", "fail"] = Field(
        default="warn",
        description="what a failed check is on hardware of a type that no release was run on",
    )

    @field_validator("gpus", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value):
            value = int(value)
        if value == "auto" or (type(value) is int and 0 <= value <= _MOST_GPUS):
            return value
        raise ValueError(f"{shown(value)} is no number of GPUs; write auto, or a number such as 8")

    @field_validator("torch")
    @classmethod
    def _specifier(cls, value: str | None) -> str | None:
        try:
            SpecifierSet(value or "")
        except InvalidSpecifier as error:
            raise ValueError(f"{error}; write a PEP 440 specifier such as '>=2.6,<3'") from error
        return value


class Timetable(_Section):
    """When one probe is due: an interval with jitter, or a cron expression."""

    interval: Seconds | None = Field(
        default=None, description="seconds between runs; default: the probe's own"
    )
    cron: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="five cron fields in UTC, in place of an interval"
    )
    jitter: SecondsOrZero | None = Field(
        default=None,
        description="largest random shift in seconds; default: a tenth of the interval",
    )

    @model_validator(mode="after")
    def _one_of(self) -> "Timetable":
        if self.interval is not None and self.cron is not None:
            raise ValueError("interval and cron are both set; keep one of them")
        return self


class ProbeSettings(_Section):
    """How one probe runs."""

    enabled: bool = Field(default=True, description="false: the probe is skipped as `disabled`")
    timeout: Seconds | None = Field(
        default=None, description="deadline in seconds; default: the probe's own"
    )
    limits: dict[str, Any] = Field(
        default_factory=dict, description="the probe's own limits, as `explain` lists them"
    )


class Run(_Section):
    """How one run goes."""

    profile: Profile = Field(default="quick", description="the set of probes by cost")
    timeout: Seconds = Field(default=300.0, description="deadline of a whole run in seconds")
    threads: Annotated[int, Field(ge=1, le=4096), NUMBER] | None = Field(
        default=None, description="threads of each child; default: its share of the cores"
    )
    devices: Annotated[Words, listed_schema(0)] = Field(
        default=(), description="devices to check: `cuda:N`, a UUID, a PCI id, `cpu`; default: all"
    )
    observations: bool = Field(
        default=False,
        description="keep the raw observation of a pass too (some 60 KiB a device), not only of "
        "what failed",
    )
    timings: bool = Field(
        default=False,
        description="keep how long each step and each check took, and the device memory taken",
    )


class Ready(_Section):
    """What /readyz demands."""

    max_age: Seconds | None = Field(
        default=None,
        description="oldest result that counts, seconds, but of probes that load a device at "
        "least three intervals; default: three intervals of its probe",
    )


class Web(_Section):
    """The HTTP server."""

    listen_address: Annotated[Words, listed_schema(1)] = Field(
        default=(":8790",),
        min_length=1,
        description="host:port to listen on; `[::1]:8790` for IPv6",
    )
    unix_socket: str | None = Field(
        default=f"{ABSTRACT}gpu-validator",
        json_schema_extra={"pattern": "^([/@].*)?$", "maxLength": 107},
        description="unix socket to listen on as well, for `check --max-age`: a path, or `@name` "
        "for one without a file; empty: none",
    )
    unix_socket_mode: Annotated[
        str,
        WithJsonSchema(
            {"type": ["string", "integer"], "pattern": "^(0o)?[0-7]{1,4}$", "maximum": 0o777}
        ),
    ] = Field(default="0660", description="who may connect to its path: permissions in octal")
    socket_owner: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.@$-]{1,64}$",
        description="user, by name or number, whose answer over it `check --max-age` believes; "
        "default: root, `gpu-validator` and whoever asks",
    )
    token_file: Path | None = Field(
        default=None,
        json_schema_extra=PATH_SCHEMA,
        description="file with a secret that daemon and `check --max-age` share, so that an "
        "answer over TCP proves itself; at least 16 bytes, of root or its reader, closed to others",
    )

    @field_validator("unix_socket")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        # unix(7): sun_path has room for 107 bytes and a zero.
        if not value:
            return None
        if value.startswith(ABSTRACT):
            usable_path(f"/{value[1:]}", SOCKET_BYTES)
            return value
        return usable_path(value, SOCKET_BYTES)

    @field_validator("token_file", mode="before")
    @classmethod
    def _token(cls, value: object) -> object:
        return absolute(value)

    @field_validator("unix_socket_mode", mode="before")
    @classmethod
    def _octal(cls, value: object) -> str:
        """Text is octal; YAML reads 0660 as octal itself, and 660 as what is no mode."""
        mode = value
        if isinstance(value, str) and re.fullmatch(r"(0o)?[0-7]{1,4}", value):
            mode = int(value, 8)
        if type(mode) is not int or not 0 <= mode <= 0o777:
            raise ValueError(f"{shown(value)} is no mode; write it in octal and quoted, '0660'")
        return f"{mode:04o}"

    @field_validator("listen_address")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            host_port(address)
        return value


class Files(_Section):
    """The verdict as files on the node, for whoever reads no HTTP; each in a folder that exists."""

    ready: Path | None = Field(
        default=None,
        json_schema_extra=PATH_SCHEMA,
        description="a file that is there exactly while the node is ready; it holds the time of "
        "the newest run, and until when it counts",
    )
    nfd: Path | None = Field(
        default=None,
        json_schema_extra=PATH_SCHEMA,
        description="a feature file of Node Feature Discovery, which labels the node; it expires "
        "when nothing more is heard",
    )
    failed: Path | None = Field(
        default=None,
        json_schema_extra=PATH_SCHEMA,
        description="a file of the daemon's own that keeps the fails of probes that load a device "
        "over its restarts, until the same probe passes; each daemon a path of its own",
    )

    @field_validator("ready", "nfd", "failed", mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        return absolute(value)


class Log(_Section):
    """Logs go to stderr, one line an event."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe event that is logged"
    )
    format: Literal["text", "json"] = Field(default="text", description="form of a line")


def socket_path(web: Web) -> str | None:
    """The path of the unix socket; None where there is none, or it has no file."""
    name = web.unix_socket
    return None if name is None or name.startswith(ABSTRACT) else name


class Settings(BaseSettings):
    """Everything that can be set, with its defaults."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__"
    )

    expect: Expect = Expect()
    schedule: dict[ProbeName, Timetable] = Field(default_factory=dict)
    probes: dict[ProbeName, ProbeSettings] = Field(default_factory=dict)
    run: Run = Run()
    ready: Ready = Ready()
    web: Web = Web()
    files: Files = Files()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, the file that `load` put beside them, and what an image sets."""
        flags = dict(init_settings())
        file = flags.pop(FILE_KEY, {})
        return in_place_of_each_other(
            settings_cls,
            InitSettingsSource(settings_cls, init_kwargs=flags),
            Environment(settings_cls),
            InitSettingsSource(settings_cls, init_kwargs=file),
            Environment(settings_cls, env_prefix=DEFAULTS_PREFIX),
        )

"""The one settings model: flags > environment > YAML file > defaults.

Every key is an environment variable too: `GPU_VALIDATOR_RUN__TIMEOUT=30` is `run.timeout: 30`.
"""

import os
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from probes.catalog import BY_NAME
from probes.contract import Profile
from validator.nearest import nearest

ENV_PREFIX: Final = "GPU_VALIDATOR_"
#: Of variables that an image, a unit or a manifest sets, and that everything else beats.
DEFAULTS_PREFIX: Final = f"{ENV_PREFIX}DEFAULTS__"


#: How deep values may be nested, and how many there may be: far more than there are keys.
DEEPEST: Final = 20
MOST_VALUES: Final = 10_000

#: Longest time that a setting may be: a clock of this machine holds it, and so does a person.
LONGEST_S: Final = 366 * 86400.0

_MOST_GPUS: Final = 4096

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h|d))")
DURATIONS: Final = "write seconds (90) or 500ms, 30s, 10m, 1h30m"
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class SettingsError(Exception):
    """The configuration is wrong; the text names each key and what would be right."""


def shown(value: object) -> str:
    """A value that was given, in as many characters as a complaint needs."""
    return _SHOWN.repr(value)


_SHOWN: Final = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 120
_SHOWN.maxlevel = 3


def seconds(value: object) -> object:
    """Read a duration: seconds as a number, or text such as `90`, `500ms`, `10m`, `1h30m`."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no duration; {DURATIONS}")  # noqa: TRY004 - told as a value
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(text) > 64:
        raise ValueError(f"{shown(value)} is no duration; {DURATIONS}")
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{value!r} is no duration; {DURATIONS}")
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def _within_a_year(value: float) -> float:
    if value > LONGEST_S:
        raise ValueError(f"{value:g} s is longer than a year; write 366d or less")
    return value


def _seconds_schema(**least: float) -> dict[str, Any]:
    """A duration for editors: a number, or text with units."""
    text = r"\s*(\d+(\.\d+)?|(\d+(\.\d+)?(ms|s|m|h|d))+)\s*$"
    text = (r"^(?=.*[1-9])" if "exclusiveMinimum" in least else "^") + text
    number = {"type": "number", **least, "maximum": LONGEST_S}
    return {"anyOf": [number, {"type": "string", "maxLength": 64, "pattern": text}]}


Seconds = Annotated[
    float,
    BeforeValidator(seconds),
    Field(gt=0, allow_inf_nan=False),
    AfterValidator(_within_a_year),
    WithJsonSchema(_seconds_schema(exclusiveMinimum=0)),
]
SecondsOrZero = Annotated[
    float,
    BeforeValidator(seconds),
    Field(ge=0, allow_inf_nan=False),
    AfterValidator(_within_a_year),
    WithJsonSchema(_seconds_schema(minimum=0)),
]


def _no_truth_value(value: object) -> object:
    """YAML reads `on` and `yes` as true, which Python takes for 1."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no number; write one, such as 1")  # noqa: TRY004 - told as a value
    return value


_NUMBER: Final = BeforeValidator(_no_truth_value)


def _several(value: object) -> object:
    """Read a list that the environment, or a lone value in the file, gives as text."""
    if isinstance(value, (str, int)):
        return tuple(part.strip() for part in str(value).split(",") if part.strip())
    return value


def _legible(value: str) -> str:
    """Text of one line, without what could steer a terminal or forge a line."""
    if not value.isprintable():
        raise ValueError("holds a character that cannot be printed")
    return value


#: Longer than a UUID of a MIG instance, and than a host's name with its port.
_Word = Annotated[str, Field(max_length=300), AfterValidator(_legible)]
_MOST_WORDS: Final = 128


def _listed_schema(least: int) -> WithJsonSchema:
    """A list for editors; a lone word, or several with commas, is one too."""
    word = {"type": "string", "maxLength": 300}
    several = {"type": "array", "items": word, "minItems": least, "maxItems": _MOST_WORDS}
    return WithJsonSchema({"anyOf": [several, {"type": "string", "minLength": least}]})


_Words = Annotated[tuple[_Word, ...], BeforeValidator(_several), Field(max_length=_MOST_WORDS)]


def usable_path(path: str, most_bytes: int = 4095) -> str:
    """A path that the kernel can take: absolute, no longer than it may be, in its characters.

    Raises:
        ValueError: it is none.
    """
    if not path.startswith("/"):
        raise ValueError(f"{shown(path)} is no absolute path")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ValueError(f"{shown(path)} holds a control character; write the path without it")
    try:
        parts = [len(part) for part in os.fsencode(path).split(b"/")]
    except UnicodeEncodeError as error:
        raise ValueError(f"{shown(path)} holds what no path can; write it as UTF-8") from error
    if sum(parts) + len(parts) - 1 > most_bytes:
        raise ValueError(f"{shown(path)} is too long; write a path of at most {most_bytes} bytes")
    if max(parts) > _MOST_NAME_BYTES:
        raise ValueError(
            f"{shown(path)} has a name of {max(parts)} bytes; {_MOST_NAME_BYTES} are the most"
        )
    return path


def _absolute(value: object) -> object:
    """Refuse a path that no file can be put at, as it was written."""
    if isinstance(value, (str, Path)):
        usable_path(str(value))
    return value


#: For editors; whether it is null is not their concern.
_PATH_SCHEMA: Final[dict[str, Any]] = {"pattern": "^/", "maxLength": 4095}

#: Of a file's name: 255 are the kernel's, and a draft beside it has a longer one.
_MOST_NAME_BYTES: Final = 200

_Specifier = Annotated[str, Field(max_length=200)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expect(_Section):
    """What this node promises."""

    gpus: Literal["auto"] | Annotated[int, Field(ge=0, le=_MOST_GPUS)] = Field(
        default="auto",
        description="GPUs that must be usable: a number is a promise, `auto` looks for hardware",
    )
    mig_instances: Annotated[int, Field(ge=0, le=_MOST_GPUS), _NUMBER] | None = Field(
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
    threads: Annotated[int, Field(ge=1, le=4096), _NUMBER] | None = Field(
        default=None, description="threads of each child; default: its share of the cores"
    )
    devices: Annotated[_Words, _listed_schema(0)] = Field(
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


#: How the name of a unix socket begins that is no path (unix(7), "abstract").
ABSTRACT: Final = "@"
#: Of a unix socket's path or name.
_SOCKET_BYTES: Final = 107


class Web(_Section):
    """The HTTP server."""

    listen_address: Annotated[_Words, _listed_schema(1)] = Field(
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
        json_schema_extra=_PATH_SCHEMA,
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
            usable_path(f"/{value[1:]}", _SOCKET_BYTES)
            return value
        return usable_path(value, _SOCKET_BYTES)

    @field_validator("token_file", mode="before")
    @classmethod
    def _token(cls, value: object) -> object:
        return _absolute(value)

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
        json_schema_extra=_PATH_SCHEMA,
        description="a file that is there exactly while the node is ready; it holds the time of "
        "the newest run, and until when it counts",
    )
    nfd: Path | None = Field(
        default=None,
        json_schema_extra=_PATH_SCHEMA,
        description="a feature file of Node Feature Discovery, which labels the node; it expires "
        "when nothing more is heard",
    )
    failed: Path | None = Field(
        default=None,
        json_schema_extra=_PATH_SCHEMA,
        description="a file of the daemon's own that keeps the fails of probes that load a device "
        "over its restarts, until the same probe passes; each daemon a path of its own",
    )

    @field_validator("ready", "nfd", "failed", mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        return _absolute(value)


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


def socket_address(name: str) -> str:
    """What the kernel is told of a unix socket: of `@name` a zero stands for the first letter."""
    return f"\0{name[1:]}" if name.startswith(ABSTRACT) else name


def host_port(address: str) -> tuple[str, int]:
    """Split `host:port`, `:port` or `[v6]:port`; an empty host is every interface."""
    matched = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]*)\]|([^:\[\]]*)):(\d{1,5})", address.strip())
    if matched is None or int(matched[3]) > 65535:
        raise ValueError(f"{shown(address)} is no address; write host:port, :8790 or [::1]:8790")
    return matched[1] or matched[2] or "", int(matched[3])


def _known_probe(name: str) -> str:
    if name not in BY_NAME:
        raise ValueError(f"unknown probe{nearest(name, BY_NAME)}")
    return name


ProbeName = Annotated[str, AfterValidator(_known_probe)]


def _is_bounded(value: object) -> bool:
    """Whether values are nested no deeper, and are no more, than a file's may be."""
    level, count = [value], 0
    for _ in range(DEEPEST):
        count += len(level)
        level = [
            below
            for one in level
            if isinstance(one, (dict, list))
            for below in (one.values() if isinstance(one, dict) else one)
        ]
        if not level or count > MOST_VALUES:
            return count <= MOST_VALUES
    return False


class _Environment(EnvSettingsSource):
    """The environment; a list may be plain text there (`:8790,[::1]:8790`), not JSON alone."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode JSON; what is none is left to the field's own validation, which names the key."""
        try:
            decoded = super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value
        return decoded if _is_bounded(decoded) else value


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
        """Flags, then environment, then the file that `load` put beside them, then defaults."""
        flags = dict(init_settings())
        file = flags.pop(FILE_KEY, {})
        return (
            InitSettingsSource(settings_cls, init_kwargs=flags),
            _Environment(settings_cls),
            InitSettingsSource(settings_cls, init_kwargs=file),
            _Environment(settings_cls, env_prefix=DEFAULTS_PREFIX),
        )


#: Under which the file's content is put beside the flags.
FILE_KEY: Final = "config_file_content"

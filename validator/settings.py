"""The one settings model: flags > environment > YAML file > defaults.

Every key is an environment variable too: `GPU_VALIDATOR_RUN__TIMEOUT=30` is `run.timeout: 30`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import yaml
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
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
from validator import limits
from validator.nearest import closest, nearest

ENV_PREFIX: Final = "GPU_VALIDATOR_"

#: What Kubernetes puts into every pod for a service whose name starts with `gpu-validator`.
_SERVICE_LINK = re.compile(
    r"(\w+_)?SERVICE_(HOST|PORT(_\w+)?)|(\w+_)?PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h|d))")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class SettingsError(Exception):
    """The configuration is wrong; the text names each key and what would be right."""


def seconds(value: object) -> object:
    """Read a duration: seconds as a number, or text such as `90`, `500ms`, `10m`, `1h30m`."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{value!r} is no duration; write seconds (90) or 500ms, 30s, 10m, 1h30m")
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


Seconds = Annotated[float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, BeforeValidator(seconds), Field(ge=0, allow_inf_nan=False)]


def _several(value: object) -> object:
    """Read a list that the environment, or a lone value in the file, gives as text."""
    if isinstance(value, (str, int)):
        return tuple(part.strip() for part in str(value).split(",") if part.strip())
    return value


Listed = Annotated[tuple[str, ...], BeforeValidator(_several)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expect(_Section):
    """What this node promises."""

    gpus: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        default="auto",
        description="GPUs that must be usable: a number is a promise, `auto` looks for hardware",
    )
    mig_instances: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="MIG instances that must be there; a GPU cut into some is one GPU"
    )
    torch: str | None = Field(
        default=None, description="versions of torch that are right, a PEP 440 specifier set"
    )
    unproven: Literal["warn", "fail"] = Field(
        default="warn",
        description="what a failed check is on hardware of a type that no release was run on",
    )

    @field_validator("gpus", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        if isinstance(value, str) and re.fullmatch(r"\s*\d+\s*", value):
            return int(value)
        if value == "auto" or (type(value) is int and value >= 0):
            return value
        raise ValueError(f"{value!r} is no number of GPUs; write auto, or a number such as 8")

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
    cron: str | None = Field(
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
    threads: int | None = Field(
        default=None, ge=1, description="threads of each child; default: its share of the cores"
    )
    devices: Listed = Field(
        default=(), description="devices to check: `cuda:N`, a UUID, a PCI id, `cpu`; default: all"
    )
    observations: bool = Field(
        default=False,
        description="keep the raw observation of a pass too (some 60 KiB a device), not only of "
        "what failed",
    )


class Ready(_Section):
    """What /readyz demands."""

    max_age: Seconds | None = Field(
        default=None,
        description="oldest result that counts, seconds; default: three intervals of its probe",
    )


class Web(_Section):
    """The HTTP server."""

    listen_address: Listed = Field(
        default=(":8790",),
        min_length=1,
        description="host:port to listen on; `[::1]:8790` for IPv6",
    )
    unix_socket: str | None = Field(
        default=None,
        description="path of a unix socket to listen on as well, for `check --max-age`",
    )
    unix_socket_mode: str = Field(
        default="0660", description="who may connect to it: permissions in octal"
    )

    @field_validator("unix_socket")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        # unix(7): sun_path has room for 107 bytes and a zero.
        if value is not None and not (value.startswith("/") and len(os.fsencode(value)) <= 107):
            raise ValueError(f"{value!r} is no absolute path of at most 107 bytes")
        return value

    @field_validator("unix_socket_mode", mode="before")
    @classmethod
    def _octal(cls, value: object) -> str:
        """Text is octal; YAML reads 0660 as octal itself, and 660 as what is no mode."""
        mode = value
        if isinstance(value, str) and re.fullmatch(r"(0o)?[0-7]{1,4}", value):
            mode = int(value, 8)
        if type(mode) is not int or not 0 <= mode <= 0o777:
            raise ValueError(f"{value!r} is no mode; write it in octal and quoted, '0660'")
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
        description="a file that is there exactly while the node is ready; it holds the time of "
        "the newest run",
    )
    nfd: Path | None = Field(
        default=None,
        description="a feature file of Node Feature Discovery, which labels the node; it expires "
        "when nothing more is heard",
    )

    @field_validator("ready", "nfd")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError(f"{str(value)!r} is no absolute path")
        return value


class Log(_Section):
    """Logs go to stderr, one line an event."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe event that is logged"
    )
    format: Literal["text", "json"] = Field(default="text", description="form of a line")


def host_port(address: str) -> tuple[str, int]:
    """Split `host:port`, `:port` or `[v6]:port`; an empty host is every interface."""
    matched = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]*)\]|([^:\[\]]*)):(\d{1,5})", address.strip())
    if matched is None or int(matched[3]) > 65535:
        raise ValueError(f"{address!r} is no address; write host:port, :8790 or [::1]:8790")
    return matched[1] or matched[2] or "", int(matched[3])


def _known_probe(name: str) -> str:
    if name not in BY_NAME:
        raise ValueError(f"unknown probe{nearest(name, BY_NAME)}")
    return name


ProbeName = Annotated[str, AfterValidator(_known_probe)]


class _Environment(EnvSettingsSource):
    """The environment; a list may be plain text there (`:8790,[::1]:8790`), not JSON alone."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode JSON; what is none is left to the field's own validation, which names the key."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


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
        """Flags, then environment, then the file that `load` put beside them."""
        flags = dict(init_settings())
        file = flags.pop(_FILE_KEY, {})
        return (
            InitSettingsSource(settings_cls, init_kwargs=flags),
            _Environment(settings_cls),
            InitSettingsSource(settings_cls, init_kwargs=file),
        )


_FILE_KEY: Final = "config_file_content"


def load(config_file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings from file, environment and flags.

    Args:
        config_file: a YAML file, or None.
        flags: nested values from the command line, such as `{"run": {"profile": "deep"}}`.

    Raises:
        SettingsError: naming every key that is wrong, and the nearest known one.
    """
    content = _read(config_file) if config_file is not None else {}
    given = flags or {}
    _refuse_unknown_environment()
    try:
        settings = Settings(**{**given, _FILE_KEY: content})
    except ValidationError as error:
        complaints = _complaints(error, given, content, str(config_file))
        raise SettingsError("; ".join(complaints)) from error
    wrong = [
        _origin(path, given, content, str(config_file)) + text
        for name, probe in settings.probes.items()
        for path, text in limits.complaints(name, probe.limits)
    ]
    if wrong:
        raise SettingsError("; ".join(wrong))
    return settings


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a value lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the library's signature
        merge = "tag:yaml.org,2002:merge"  # `<<: *anchor`, which may stand for any keys
        scalars = [key for key, _ in node.value if key.tag != merge]
        keys = [self.construct_object(key, deep=True) for key in scalars]
        for place, key in enumerate(keys):
            if not isinstance(key, str) or key in keys[:place]:
                problem = "stands twice" if isinstance(key, str) else "is no text"
                raise yaml.YAMLError(f"key {key!r} {problem}, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: the top level must be a mapping such as 'run:'")
    # A section whose every line is commented out is an empty one.
    return {key: {} if value is None else value for key, value in content.items()}


def _refuse_unknown_environment() -> None:
    """A misspelt variable would be ignored in silence otherwise."""
    for variable in os.environ:
        rest = variable[len(ENV_PREFIX) :]
        if not variable.startswith(ENV_PREFIX) or _SERVICE_LINK.fullmatch(rest):
            continue
        section = rest.split("__")[0].lower()
        if section not in Settings.model_fields:
            close = closest(section, Settings.model_fields, cutoff=0)
            raise SettingsError(
                f"environment variable {variable}: unknown key {section!r}; "
                f"did you mean {ENV_PREFIX}{(close or 'run').upper()}__...?"
            )


def _complaints(
    error: ValidationError, flags: Mapping[str, Any], file: Mapping[str, Any], file_name: str
) -> Iterator[str]:
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        if path[-1:] == ["[key]"]:  # of a mapping whose key is wrong, and stands before this
            path.pop()
        key = ".".join(path)
        where = _origin(path, flags, file, file_name)
        if item["type"] == "extra_forbidden":
            section = "".join(f"{part}." for part in path[:-1])
            hint = nearest(path[-1], _keys_at(path[:-1]), section)
            yield f"{where}unknown key {key!r}{hint}"
        elif item["type"] == "literal_error":
            choices = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            close = closest(str(item["input"]), choices)
            hint = f"; did you mean {close!r}?" if close else ""
            yield f"{where}{key}: {item['input']!r} is not one of {', '.join(choices)}{hint}"
        elif item["type"] == "value_error":  # ours; it holds the value
            yield f"{where}{key}: {item['msg'].removeprefix('Value error, ')}"
        elif item["type"] == "model_type":
            yield f"{where}{key}: must be a mapping of keys (got {item['input']!r})"
        else:
            yield f"{where}{key}: {item['msg']} (got {item['input']!r})"


def _origin(
    path: list[str], flags: Mapping[str, Any], file: Mapping[str, Any], file_name: str
) -> str:
    """Where a value comes from, by precedence: the command line, a variable, or the file."""
    if _holds(flags, path):
        return ""
    wanted = f"{ENV_PREFIX}{'__'.join(path)}__".upper()
    for variable in os.environ:
        name = f"{variable.upper()}__"
        # A variable may hold the key alone, keys below it, or as JSON the section around it.
        if name.startswith(wanted) or (name.startswith(ENV_PREFIX) and wanted.startswith(name)):
            return f"environment variable {variable}: "
    return f"{file_name}: " if _holds(file, path[:1]) else ""


def _holds(tree: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return bool(path)


def _keys_at(path: list[str]) -> list[str]:
    """The keys that a section knows; `schedule.autograd` is looked up by its value's type."""
    model: Any = Settings
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        if field is not None:
            arguments = get_args(field.annotation)
            model = arguments[1] if arguments else field.annotation
    return list(getattr(model, "model_fields", {}))

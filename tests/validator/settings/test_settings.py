"""Settings: precedence, durations, addresses, and errors that name the key and the nearest one."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from validator.settings.loading import load
from validator.settings.model import Settings
from validator.settings.values import SettingsError, host_port, seconds

PREFIX = "GPU_VALIDATOR_"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours from outside."""
    for variable in list(os.environ):
        if variable.upper().startswith(PREFIX):
            monkeypatch.delenv(variable)


def write(folder: Path, text: str) -> Path:
    """A settings file."""
    file = folder / "settings.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def complaint(file: Path | None = None, flags: dict[str, Any] | None = None) -> str:
    """What loading is refused with."""
    with pytest.raises(SettingsError) as caught:
        load(file, flags)
    return str(caught.value)


def test_defaults() -> None:
    """Without any input everything has a value."""
    settings = load()

    assert settings.run.profile == "quick"
    assert settings.run.timeout == 300
    assert settings.expect.gpus == "auto"
    assert settings.web.listen_address == (":8790",)


def test_flags_beat_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source fills what those before it left open."""
    file = write(tmp_path, "run: {profile: instant, timeout: 7, threads: 3}")
    monkeypatch.setenv("GPU_VALIDATOR_RUN__PROFILE", "deep")
    monkeypatch.setenv("GPU_VALIDATOR_RUN__TIMEOUT", "8")
    run = load(file, {"run": {"profile": "standard"}}).run

    assert (run.profile, run.timeout, run.threads) == ("standard", 8, 3)


#: YAML -> the parts of the complaint.
WRONG_FILES = {
    "rnu: {profile: quick}": ["unknown key 'rnu'", "did you mean 'run'?"],
    "run: {profle: quick}": ["unknown key 'run.profle'", "did you mean 'run.profile'?"],
    "run: {profile: quik}": ["run.profile: 'quik' is not one of", "did you mean 'quick'?"],
    "run: {bogus: 1}": ["unknown key 'run.bogus'", "known: profile, timeout"],
    "run: 3": ["run: must be a mapping"],
    "run: {timeout: 0}": ["run.timeout", "greater than 0"],
    "run: {timeout: .inf}": ["run.timeout", "finite"],
    "run: {timeout: 3 minutes}": ["run.timeout: '3 minutes' is no duration", "1h30m"],
    "run: {threads: 0}": ["run.threads"],
    "probes: {autogard: {enabled: no}}": ["probes.autogard", "did you mean 'autograd'?"],
    "schedule: {autograd: {intervall: 3}}": ["did you mean 'schedule.autograd.interval'?"],
    "schedule: {autograd: {interval: 3, cron: '* * * * *'}}": ["keep one of them"],
    "expect: {gpus: -1}": ["expect.gpus: -1 is no number of GPUs"],
    "expect: {gpus: true}": ["expect.gpus: True is no number of GPUs"],
    "expect: {gpus: many}": ["expect.gpus: 'many' is no number of GPUs"],
    "expect: {torch: x y}": ["expect.torch", "PEP 440"],
    "web: {listen_address: 'host:99999'}": ["web.listen_address", "'host:99999' is no address"],
    "web: {listen_address: []}": ["web.listen_address"],
    "log: {level: INFO}": ["log.level: 'INFO' is not one of", "did you mean 'info'?"],
    "config_file_content: {}": ["unknown key 'config_file_content'"],
    "- a": ["top level must be a mapping"],
    "run: {timeout: 5}\nrun: {timeout: 6}": [".yaml:2: key 'run' stands twice"],
    "run: {timeout: 5, timeout: 6}": ["run: key 'timeout' stands twice"],
    "1: 2": ["key 1 is no text"],
    "run: [": ["not valid YAML"],
    "run: !!python/object:os.system {}": ["run: the tag !!python/object:os.system", "without it"],
    "\0": [".yaml:1: holds the character U+0000"],
}


@pytest.mark.parametrize("text", WRONG_FILES)
def test_a_wrong_file_is_refused(text: str, tmp_path: Path) -> None:
    """The complaint names the file, the key, and what would be right."""
    file = write(tmp_path, text)
    told = complaint(file)

    assert told.startswith(f"{file}:")
    assert [part for part in WRONG_FILES[text] if part not in told] == []


def test_every_wrong_key_is_named(tmp_path: Path) -> None:
    """One look at the complaint is enough to mend all of it."""
    told = complaint(write(tmp_path, "run: {timeout: -1, bogus: 3}\nlog: {format: xml}"))

    assert all(key in told for key in ("run.timeout", "run.bogus", "log.format"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("schedule: [autograd]", "schedule: must be a mapping of keys (got ['autograd'])"),
        ("schedule: {autograd: 5m}", "schedule.autograd: must be a mapping of keys (got '5m')"),
        ("schedule: {autograd: }", "schedule.autograd: must be a mapping of keys (got None)"),
        ("run: quick", "run: must be a mapping of keys (got 'quick')"),
    ],
)
def test_a_section_without_keys_does_not_vanish(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a stronger source gives keys of it; and what else is wrong is told with it."""
    monkeypatch.setenv(f"{PREFIX}SCHEDULE__AUTOGRAD__CRON", "1 * * * *")
    monkeypatch.setenv(f"{PREFIX}RUN__PROFILE", "deep")
    file = write(tmp_path, f"{text}\nlog: {{format: xml}}")
    said = complaint(file)

    assert said.startswith(f"{file}:1: {told}; ")
    assert "log.format" in said
    assert said.count("must be a mapping") == 1


def test_a_section_without_keys_in_a_variable_does_not_vanish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that a default gives as JSON, below a file that has keys of it."""
    monkeypatch.setenv(f"{PREFIX}DEFAULTS__SCHEDULE", '{"autograd": "5m"}')
    told = complaint(write(tmp_path, "schedule: {autograd: {cron: '1 * * * *'}}"))

    assert told == (
        f"environment variable {PREFIX}DEFAULTS__SCHEDULE: "
        "schedule.autograd: must be a mapping of keys (got '5m')"
    )


def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    """A missing file."""
    assert "cannot be read: No such file" in complaint(tmp_path / "none.yaml")


def test_an_empty_section_is_none(tmp_path: Path) -> None:
    """A section whose lines are all commented out, and a file that is."""
    assert load(write(tmp_path, "run:\n#  timeout: 3\n")).run.timeout == 300
    assert load(write(tmp_path, "# nothing\n")).run.timeout == 300


def test_yaml_anchors_merge(tmp_path: Path) -> None:
    """`<<` is no key of its own."""
    text = "schedule: {autograd: &a {interval: 60}, train_eval: {<<: *a, jitter: 1}}"
    settings = load(write(tmp_path, text))

    assert settings.schedule["train_eval"].interval == 60


#: Variable (without prefix), value -> the parts of the complaint.
WRONG_VARIABLES = {
    ("RUN__TIMOUT", "3"): ["unknown key 'run.timout'", "did you mean 'run.timeout'?"],
    ("RUNN__TIMEOUT", "3"): ["unknown key 'runn'", "did you mean GPU_VALIDATOR_RUN__...?"],
    ("RUN", "{"): ["run: must be a mapping"],
    ("EXPECT__GPUS", ""): ["expect.gpus: '' is no number of GPUs"],
    ("PROBES__AUTOGARD__TIMEOUT", "9"): ["probes.autogard", "did you mean 'autograd'?"],
    ("WEB__LISTEN_ADDRESS", "8790"): ["'8790' is no address"],
}


@pytest.mark.parametrize("given", WRONG_VARIABLES)
def test_a_wrong_variable_is_refused(
    given: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The complaint names the variable, also when there is a file beside it."""
    monkeypatch.setenv(PREFIX + given[0], given[1])
    told = complaint(write(tmp_path, "run: {timeout: 3}\nprobes: {autograd: {enabled: true}}"))

    assert told.startswith(f"environment variable {PREFIX}{given[0]}: ")
    assert [part for part in WRONG_VARIABLES[given] if part not in told] == []


@pytest.mark.parametrize(
    "name",
    [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP",
        "PORT",
        "PORT_8790_TCP",
        "PORT_8790_TCP_ADDR",
        "METRICS_SERVICE_HOST",
        "METRICS_PORT_8790_TCP_PROTO",
    ],
)
def test_service_links_are_no_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes puts these into each pod beside a service that is named as we are."""
    monkeypatch.setenv(PREFIX + name, "tcp://10.0.0.1:8790")

    assert load().web.listen_address == (":8790",)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        (":1", (":1",)),
        (":1, [::1]:2", (":1", "[::1]:2")),
        ('["127.0.0.1:1"]', ("127.0.0.1:1",)),
    ],
)
def test_lists_in_the_environment(
    text: str, addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list is plain text with commas, or JSON."""
    monkeypatch.setenv("GPU_VALIDATOR_WEB__LISTEN_ADDRESS", text)

    assert load().web.listen_address == addresses


def test_flags_are_named_as_they_are_typed() -> None:
    """What was typed a moment ago: the flag, and no key or file before it."""
    assert complaint(None, {"run": {"timeout": "x"}}).startswith("--timeout: 'x' is no duration")


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), ("500ms", 0.5), ("30s", 30), ("10m", 600), ("1h30m", 5400), ("1.5d", 129600)],
)
def test_durations(text: str, value: float) -> None:
    """Seconds as a number, or with units."""
    assert seconds(text) == value
    assert load(None, {"run": {"timeout": text}}).run.timeout == value


@pytest.mark.parametrize("text", ["", "s", "-1", "1x", "1m 2", "1e3", "m1"])
def test_no_durations(text: str) -> None:
    """Whatever else is refused, with what would be right."""
    with pytest.raises(ValueError, match="is no duration; write seconds"):
        seconds(text)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        (":8790", ("", 8790)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:8790", ("::1", 8790)),
        ("gpu-17.example:65535", ("gpu-17.example", 65535)),
    ],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    """Host and port of each form."""
    assert host_port(address) == parts


@pytest.mark.parametrize("address", ["8790", "::1:8790", "host:", "host:65536", "host:x", ""])
def test_no_addresses(address: str) -> None:
    """Without a port, an IPv6 address without brackets, a port that is none."""
    with pytest.raises(ValueError, match="is no address; write host:port"):
        host_port(address)


def test_settings_are_frozen() -> None:
    """What a run was planned with cannot change under it."""
    with pytest.raises(ValidationError):
        load().run = Settings().run  # type: ignore[misc]


def test_expected_gpus_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image promises GPUs by a variable, which is text."""
    monkeypatch.setenv("GPU_VALIDATOR_EXPECT__GPUS", "8")

    assert load().expect.gpus == 8


def test_what_an_image_sets_is_beaten_by_whatever_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or its promise of one GPU would take the place of eight."""
    file = tmp_path / "settings.yaml"
    file.write_text("expect: {gpus: 8}")
    silent = tmp_path / "silent.yaml"
    silent.write_text("expect: {torch: '>=2'}")
    monkeypatch.setenv("GPU_VALIDATOR_DEFAULTS__EXPECT__GPUS", "1")

    assert load().expect.gpus == load(silent).expect.gpus == 1
    assert load(silent).expect.torch == ">=2"
    assert load(file).expect.gpus == 8
    assert load(file, {"expect": {"gpus": 2}}).expect.gpus == 2
    monkeypatch.setenv("GPU_VALIDATOR_EXPECT__GPUS", "4")
    assert load(file).expect.gpus == 4


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("EXPECT__GPUS", "many", r"variable GPU_VALIDATOR_DEFAULTS__EXPECT__GPUS: expect\.gpus: "),
        ("EXPEKT__GPUS", "1", "did you mean GPU_VALIDATOR_DEFAULTS__EXPECT__"),
        ("EXPECT__GPSU", "1", r"DEFAULTS__EXPECT__GPSU: unknown key 'expect\.gpsu'"),
    ],
)
def test_a_wrong_default_is_told_by_its_name(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As any variable of ours is."""
    monkeypatch.setenv(f"GPU_VALIDATOR_DEFAULTS__{name}", value)

    with pytest.raises(SettingsError, match=told):
        load()


@pytest.mark.parametrize(
    ("variable", "value", "text", "told"),
    [
        (
            "DEFAULTS__EXPECT__GPUS",
            "many",
            "expect: {torch: '>=2'}",
            "variable {name}: expect.gpus",
        ),
        ("DEFAULTS__EXPECT__GPSU", "1", "expect: {torch: '>=2'}", "variable {name}: unknown key"),
        (
            "DEFAULTS__PROBES__CONTAINER__LIMITS__CORES",
            "many",
            "probes: {container: {timeout: 5}}",
            "variable {name}: probes.container.limits.cores",
        ),
        ("RUN", '{"profile": "deep"}', "run: {timeout: bad}", "settings.yaml:1: run.timeout"),
        ("DEFAULTS__RUN", '{"timeout": 5}', "run: {timeout: bad}", "settings.yaml:1: run.timeout"),
        (
            "RUN__DEVICES",
            "cuda:0," + "x" * 301,
            "run: {timeout: 5}",
            "variable {name}: run.devices",
        ),
    ],
)
def test_a_wrong_value_is_told_where_it_is_given(
    variable: str,
    value: str,
    text: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not where another key of its section stands."""
    monkeypatch.setenv(f"{PREFIX}{variable}", value)

    assert told.format(name=f"{PREFIX}{variable}") in complaint(write(tmp_path, text))


@pytest.mark.parametrize("variable", ["DEFAULTS__EXPECT", "DEFAULTS__PROBES__CONTAINER"])
def test_a_section_that_cannot_be_read_is_no_silence(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promise that an image made in broken JSON would be gone with the first key of the file."""
    monkeypatch.setenv(f"{PREFIX}{variable}", '{"gpus": 8')
    file = write(tmp_path, "expect: {torch: '>=2'}\nprobes: {container: {timeout: 5}}")

    assert f"variable {PREFIX}{variable}: " in complaint(file)


@pytest.mark.parametrize("prefix", [PREFIX, f"{PREFIX}DEFAULTS__"])
@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("INTERVAL", "1h", "schedule: {matmul: {cron: '0 3 * * *', jitter: 5}}"),
        ("CRON", "0 3 * * *", "schedule: {matmul: {interval: 1h, jitter: 5}}"),
    ],
)
def test_a_timetable_takes_the_place_of_a_weaker_one(
    variable: str,
    value: str,
    text: str,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever sets the hour has overruled an image's interval; one source gives one of them."""
    monkeypatch.setenv(f"{prefix}SCHEDULE__MATMUL__{variable}", value)
    by_variable = prefix == PREFIX
    table = load(write(tmp_path, text)).schedule["matmul"]

    assert (table.interval is None) is (by_variable == (variable == "CRON"))
    assert (table.cron is None) is not (table.interval is None)
    assert table.jitter == 5
    monkeypatch.setenv(f"{prefix}SCHEDULE__MATMUL__INTERVAL", "1h")
    monkeypatch.setenv(f"{prefix}SCHEDULE__MATMUL__CRON", "0 3 * * *")
    assert "keep one of them" in complaint()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Run: {timeout: 5}", "{file}:1: unknown key 'Run'; did you mean 'run'?"),
        (
            "run: {threads: 6}\nRUN: {threads: 5}",
            "{file}:2: unknown key 'RUN'; did you mean 'run'?",
        ),
        ("Log: {}\nReady: {}", "{file}:1: unknown key 'Log'; did you mean 'log'?; {file}:2: unkn"),
        (
            "run: {timeot: 6}\nLog: {}",
            "{file}:2: unknown key 'Log'; did you mean 'log'?; {file}:1: ",
        ),
    ],
)
def test_a_section_is_written_small(text: str, told: str, tmp_path: Path) -> None:
    """Or it would be taken for the other one, and one of two would win in silence."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        load(file)

    assert str(refused.value).startswith(told.format(file=file))


@pytest.mark.parametrize(
    "variable", ["gpu_validator_expct__gpus", "Gpu_Validator_EXPCT__GPUS", "gpu_validator_x"]
)
def test_a_misspelt_variable_is_refused_however_it_is_written(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is heeded however it is written."""
    monkeypatch.setenv(variable, "8")
    with pytest.raises(SettingsError, match=f"environment variable {variable}: unknown key"):
        load()


@pytest.mark.parametrize("word", ["on", "yes", "true", "off"])
@pytest.mark.parametrize(
    "key",
    [
        *("run.threads", "expect.mig_instances", "expect.gpus", "run.timeout"),
        *("probes.container.limits.cores", "probes.torch_version.limits.gpus"),
        *("probes.telemetry.limits.retired_pages", "probes.hot_products.limits.cpu_seconds"),
    ],
)
def test_a_truth_value_is_no_number(key: str, word: str, tmp_path: Path) -> None:
    """Python takes it for 1 or 0."""
    file = tmp_path / "settings.yaml"
    *sections, name = key.split(".")
    file.write_text("".join(f"{part}: {{" for part in sections) + f"{name}: {word}")
    file.write_text(file.read_text() + "}" * len(sections))
    with pytest.raises(SettingsError, match=f"{key}: (True|False) is no "):
        load(file)


def test_an_empty_path_is_told_as_it_was_written() -> None:
    """Not as the `.` that Python makes of it."""
    for key in ("ready", "nfd"):
        with pytest.raises(SettingsError, match=f"files.{key}: '' is no absolute path"):
            load(None, {"files": {key: ""}})

"""What the documents and manifests tell people to type is there: commands, options and paths."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import typer

from probes.faults.table import BY_NAME as FAULTS
from validator.cli.app import COMMANDS, parser
from validator.render import explain

ROOT: Final = Path(__file__).parents[1]

#: Where people are told what to type; the changelog tells what there was.
PAGES: Final = sorted(
    {
        *(page for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / ".github").rglob("*.md"),
        *(path for path in (ROOT / "deploy").rglob("*") if path.is_file()),
        *(ROOT / name for name in ("Dockerfile", "docker-compose.yml", "docker-compose.cpu.yml")),
    }
)

_NAMES: Final = "|".join(COMMANDS)
#: The command as one types it, in an image, in Apptainer's file, or where it is installed.
_TYPED: Final = re.compile(
    rf"(?:^|[\s`'\"(/])gpu-validator(?:\.sif)? ((?:{_NAMES})\b(?:[^\n`|;&#)>]|(?<=\w)>)*)"
    "|`gpu-validator (-[a-zA-Z-]+)`"
)
#: One that goes on in the next line of a comment.
_WRAPPED: Final = re.compile(r"(`gpu-validator [^`\n]*)\n\s*# ([^`\n]*`)")
#: Arguments of a manifest.
_LISTED: Final = re.compile(rf"^\s*(?:args|command): \[((?:{_NAMES})\b[^\]]*)\]", re.MULTILINE)
#: Where the command is installed by the documents, and called from.
_PLACE: Final = re.compile(r"/[\w./-]*/bin/gpu-validator(?![\w-])")

#: A line as far as its quotes are closed; the next one is that of a string around it.
_BALANCED: Final = re.compile(r"""(?:[^'"]|'[^']*'|"[^"]*")*""")

#: What stands for a name in an example.
_PLACEHOLDERS: Final = {"<name>": "autograd", "PROBE": "autograd", "PROBE.CHECK": "autograd.detach"}


def commands(text: str) -> Iterator[list[str]]:
    """The command lines in a text, each as the shell would split it."""
    whole = _WRAPPED.sub(r"\1 \2", re.sub(r"\\\n\s*", "", text))
    typed = [first or second for first, second in _TYPED.findall(whole)]
    listed = [one.replace(",", " ") for one in _LISTED.findall(text)]
    for told in (*typed, *listed):
        if "{{" in told:  # of a template: what a chart renders is tested beside it
            continue
        for placeholder, name in _PLACEHOLDERS.items():
            told = re.sub(rf"(?<![\w.]){re.escape(placeholder)}(?![\w.])", name, told)  # noqa: PLW2901
        whole_of = _BALANCED.match(told)
        yield shlex.split(whole_of[0] if whole_of else "")


def complaint(argv: list[str]) -> str:
    """What the command line itself has against it; nothing is run."""
    if argv[0].startswith("-"):  # such as --install-completion, which is not tried here
        options = typer.main.get_command(parser(())).params
        known = any(argv[0] in option.opts for option in options)
        return "" if known else f"{argv}: no such option"
    try:
        parsed = parser(argv)(argv, standalone_mode=False)
        if argv[0] == "explain":
            explain.find(argv[1])
    except Exception as error:  # noqa: BLE001 - whatever it is, the page is wrong
        return f"{argv}: {type(error).__name__}: {error}"
    return "" if callable(parsed) else f"{argv}: gives {parsed!r}"


@pytest.mark.slow
def test_every_command_that_is_told_is_understood() -> None:
    """With its options, values and names, by the program's own parser."""
    found = {
        (str(page.relative_to(ROOT)), tuple(argv))
        for page in PAGES
        for argv in commands(page.read_text(encoding="utf-8", errors="replace"))
    }
    lines = {argv for _, argv in found}
    wrong = [text for argv in sorted(lines) if (text := complaint(list(argv)))]

    assert len(lines) > 40
    assert {page for page, _ in found} >= {"README.md", "docs/hpc.md", "docs/selftest.md"}
    assert wrong == []


def test_what_is_wrong_in_a_page_is_seen() -> None:
    """An option, a probe, a value and a form that there are none of; comments are not read."""
    page = (
        "```console\n$ gpu-validator check --outptu json   # a comment\n```\n"
        "`gpu-validator explain autogard`, or\n"
        "ExecStart=/opt/gpu-validator/bin/gpu-validator check --probe \\\n    autograd,matmull\n"
        "      args: [burn, --output, xml]\n"
        "sbatch --wrap 'srun gpu-validator check --profil deep'\n"
        """ssh node "gpu-validator check --device 'cuda:0' --profil deep"\n"""
    )
    found = list(commands(page))

    assert found == [
        ["check", "--outptu", "json"],
        ["explain", "autogard"],
        ["check", "--probe", "autograd,matmull"],
        ["check", "--profil", "deep"],
        ["check", "--device", "cuda:0", "--profil", "deep"],
        ["burn", "--output", "xml"],
    ]
    assert all(complaint(argv) for argv in found)
    assert not any(map(complaint, commands("gpu-validator check -q # all right\n")))
    assert not any(map(complaint, commands("run `gpu-validator --install-completion`\n")))
    assert any(map(complaint, commands("run `gpu-validator --install-complete`\n")))


def test_every_file_that_is_told_of_is_there() -> None:
    """Under deploy/, tools/ and tests/, in any page; patterns match something."""
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"(?<![\w./-])(?:deploy|tools)/[\w*./-]+", text):
            name = path.rstrip("./")
            assert list(ROOT.glob(name)), f"{page.name}: {path}"


def test_the_command_is_installed_where_it_is_called() -> None:
    """One place for hosts and images: where docs/hpc.md makes it, and the Dockerfile."""
    places = {
        str(page.relative_to(ROOT)): set(_PLACE.findall(page.read_text(encoding="utf-8")))
        for page in PAGES
        if page.suffix != ".json"
    }
    hpc = (ROOT / "docs" / "hpc.md").read_text(encoding="utf-8")
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    called = {page for page, found in places.items() if found}

    assert set().union(*places.values()) == {"/opt/gpu-validator/bin/gpu-validator"}
    assert called >= {"Dockerfile", "deploy/slurm/settings", "deploy/systemd/gpu-validator.service"}
    assert "python3 -m venv /opt/gpu-validator " in hpc
    assert "ln -s /opt/gpu-validator/bin/gpu-validator /usr/local/bin" in hpc  # on PATH from there
    assert "ENV PATH=/opt/gpu-validator/bin:${PATH}" in dockerfile
    assert "[python3, -m, venv, /opt/gpu-validator]" in (
        ROOT / "deploy" / "cloud-init" / "gpu-node.yaml"
    ).read_text(encoding="utf-8")


def test_faults_that_are_told_of_are_known() -> None:
    """Their names are checked when they are read, as those above are."""
    page = (ROOT / "docs" / "selftest.md").read_text(encoding="utf-8")
    named = re.findall(r"--fault ([\w.]+)", page)

    assert named
    assert set(named) <= set(FAULTS)

"""The ready file's content: what it says, until when, and whether that counts now.

Its lines: when the newest run ended, the verdict, then `name: value`. `from` and `until` are
seconds since 1970; `boot` is the kernel's boot_id, where there is one. deploy/ has the reader in
shell.
"""

import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from validator import whole_file

#: How long a status file counts after it was written; a daemon that runs renews it in time.
LEASE_S: Final = 300.0

#: A longer life than this is a clock that jumped, or no file of ours.
_LONGEST_S: Final = 3600

#: Clocks may be set back so far, and a second is not divided.
_SLACK_S: Final = 5

#: The file is some 300 bytes; a verdict of many GPUs is a long line.
MOST_BYTES: Final = 64 * 1024

_OWN: Final = "by: gpu-validator"
#: What 0.1.0 wrote: two lines that never expired.
_OF_0_1: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n(?:pass|warn): [^\n]*\n")

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def text(at: datetime, reason: str, lasts_s: float) -> str:
    """A file that vouches from now on for `lasts_s` seconds; `at` is when the newest run ended."""
    now = int(time.time())
    until = now + int(lasts_s)
    lines = [rfc3339(at), " ".join(reason.split()), _OWN]
    if boot := _boot_id():
        lines.append(f"boot: {boot}")
    expires = rfc3339(datetime.fromtimestamp(until, timezone.utc))
    lines += [f"from: {now}", f"until: {until}", f"expires: {expires}"]
    return "\n".join(lines) + "\n"


def is_ours(content: str) -> bool:
    """Whether a daemon of ours wrote this."""
    return _OWN in content.splitlines() or _OF_0_1.fullmatch(content) is not None


def without_term(content: str) -> str:
    """The beginning that is still known as ours and vouches for nothing."""
    return content[: content.find(f"{_OWN}\n") + len(_OWN) + 1] if _OWN in content else ""


def objection(path: Path) -> str:
    """Why the ready file at a path does not vouch for this node now; empty when it does."""
    try:
        with whole_file.at(path) as place:
            content = place.read(MOST_BYTES).decode(errors="replace")
    except OSError as error:
        return f"{path}: {error.strerror}"
    # The verdict above them is text of any kind.
    fields = dict(line.partition(": ")[::2] for line in content.splitlines()[2:])
    try:
        ours = fields["by"] == "gpu-validator"
        since, until = int(fields["from"]), int(fields["until"])
    except (KeyError, ValueError):
        ours = False
    if not ours:
        return f"{path}: is no ready file that says until when it counts"
    now = time.time()
    if now >= until:
        return f"{path}: expired {now - until:.0f} s ago"
    if since > now + _SLACK_S or until - since > _LONGEST_S:
        return f"{path}: its time is not to be believed: the clock was changed"
    here = _boot_id()
    if here and fields.get("boot", here) != here:
        return f"{path}: was written before this node was started"
    return ""


def rfc3339(at: datetime) -> str:
    """A time in UTC, to the second."""
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""

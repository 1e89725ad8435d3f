"""The command `burn`: rounds until the time is over, their document, and the verdict as code."""

import asyncio
import sys

from validator.cli import one_run
from validator.cli.early import EarlyWorker
from validator.cli.errors import UsageError, cannot_tell, say
from validator.cli.standing import rounded
from validator.engine.burning import Wishes, burn, burn_plan
from validator.engine.plan import Plan
from validator.engine.runner import Runner
from validator.engine.stopping import Stop
from validator.engine.tally import Round
from validator.render.burn import ranges
from validator.report import Report, exit_code
from validator.settings.model import Settings


def run(
    settings: Settings,
    options: one_run.Options,
    wishes: Wishes,
    early: EarlyWorker,
    *,
    gives_way: bool,
) -> int:
    """Burn, write the report where it is wanted, and give the exit code."""
    try:
        plan = burn_plan(settings, options.only, options.without, gives_way=gives_way)
    except ValueError as error:
        raise UsageError(f"--probe: {error}") from error
    if not plan.specs:
        raise UsageError("no probe is left to burn with: see --probe, --no-probe")
    one_run.refuse_unwritable_files(options)
    stop = Stop()
    report = _burn(plan, settings, options, wishes, early, stop)
    early.signals.resume(stop.by)
    if stop.by is not None:
        say(f"{stop.why} in round {report.burn.rounds if report.burn else 0}")
    elif report.not_run and report.burn and not any(one.runs for one in report.burn.devices):
        say("the time was over before a probe could start: give a longer --duration")
    delivered = stop.at_once.is_set() or one_run.deliver(report, options)
    if stop.by is not None:
        return 128 + stop.by
    if not delivered and report.status in {"pass", "warn"}:
        return cannot_tell(sys.argv[1:])
    return exit_code(
        report, style=options.exit_style, strict=options.strict, fail_open=options.fail_open
    )


def _burn(
    plan: Plan,
    settings: Settings,
    options: one_run.Options,
    wishes: Wishes,
    early: EarlyWorker,
    stop: Stop,
) -> Report:
    """A burn, whole or until a signal stopped it."""
    runner = Runner(early.take())

    def tell(done: Round, left_s: float) -> None:
        if not options.quiet:
            say(line(done, left_s), patience_s=0)  # the rounds go on

    async def until_stopped() -> Report:
        stop.listen()
        for number in early.signals.caught:
            stop.take(number)
        return await burn(plan, settings, wishes, runner, listener, tell, stop)

    with one_run.listening(settings, options) as listener:
        return asyncio.run(until_stopped())


def line(done: Round, left_s: float) -> str:
    """A round in one line: what it came to, what the boards said, and how long it will be."""
    counted = ", ".join(f"{count} {status}" for status, count in done.statuses.items())
    bad = f" ({', '.join(done.failed)})" if done.failed else ""
    left = f"{rounded(left_s)} left" if left_s else ""
    parts = (f"round {done.number}: {counted or 'nothing ended'}{bad}", ranges(done.ranges), left)
    return "; ".join(part for part in parts if part)

"""Start, log and end a script."""

import argparse
import errno
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path

from lib.core import cost, energy, interrupts
from lib.core.artifacts import PARAMETERS
from lib.core.errors import InputError, SettingError


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`. An InputError, Ctrl-C or a full disk becomes one line on standard error. The exit status
    is 1, or 130 after Ctrl-C. A SettingError becomes a line per setting, with the name of params.yaml.

    If the reader of standard output has ended, as in `COMMAND | head`, the command ends without a message. Its status is
    141, that of programs which SIGPIPE ends.
    """
    try:
        interrupts.end_loading()
        try:
            main()
        finally:
            sys.stdout.flush()  # not at exit, where Python would report that the reader has ended
    except SettingError as error:
        sys.exit(f"error: {error.prefix_lines(str(PARAMETERS))}")
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(interrupts.LINE, file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        if not _has_lost_reader():  # another pipe
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if not disk_is_full(error):
            raise
        reason = " ".join(str(error).split())
        sys.exit(f"error: {reason}; free disk space and run the command again (finished parts are kept)")


def _has_lost_reader() -> bool:
    """Return whether the reader of standard output has ended."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors of the file are always reported
    return bool(poll.poll(0))


def disk_is_full(error: BaseException | None) -> bool:
    """Return whether an error was caused by a full disk, a quota or the largest size of a file."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if isinstance(error, RuntimeError) and "inline_container" in str(error):  # torch.save's
            return True
        error = error.__cause__ or error.__context__
    return False


def run_stage(main: Callable[[], None], stage: str | None = None) -> None:
    """Run a stage's `main`, which reads its settings from params.yaml. `--help` describes the stage.

    stage: its name, by default the name of the script. Log messages go to logs/STAGE.log. They also go to standard error,
    unless that is a terminal, where they would break the progress bar.
    """
    script = sys.modules["__main__"]
    argparse.ArgumentParser(
        description=script.__doc__, epilog="Everything is set in params.yaml; `dvc repro` runs it."
    ).parse_args()
    stage = stage or Path(str(script.__file__)).stem
    others: list[logging.Handler] = []
    if not sys.stderr.isatty():
        others = [logging.StreamHandler()]
        others[0].addFilter(lambda record: not hasattr(record, "printed"))
    log_to(stage, others)
    log = logging.getLogger(stage)
    log.setLevel(logging.INFO)
    log.info("begins")
    estimators: list[energy.Estimator | None] = []
    run(lambda: estimators.append(energy.start_estimator()))
    meter = cost.Meter(estimator=estimators[0])
    try:
        run(main)
    except BaseException as error:
        log.info("ends with %s: %s", type(error).__name__, error, extra={"printed": True})
        cost.record(stage, meter.read(), type(error).__name__)
        raise
    total = meter.read()
    cost.record(stage, total, "done")
    log.info("ends after %.1f s", total.seconds)


def log_to(name: str, others: Sequence[logging.Handler] = ()) -> None:
    """Log to logs/NAME.log and to `others`. The file is created with its first message."""
    handlers = [LogFile(Path("logs", f"{name}.log"), delay=True), *others]
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", handlers=handlers)  # of libraries, warnings alone


class LogFile(logging.FileHandler):
    """A log file that also creates its folder. Messages go to standard error if nothing can be written there."""

    def _open(self) -> TextIOWrapper:
        try:
            Path(self.baseFilename).parent.mkdir(exist_ok=True)
            return super()._open()
        except OSError:
            return os.fdopen(os.dup(sys.stderr.fileno()), "w")

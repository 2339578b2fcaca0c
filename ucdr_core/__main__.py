"""The program `ucdr`: what is true of a process is settled here, before anything that takes time is imported."""

import os
import signal
import sys


def main() -> int:
    """Runs the command line; see `ucdr_core.cli.main` for the exit codes."""
    while (handle := os.open(os.devnull, os.O_RDWR)) < 3:  # else the first file that is opened becomes a closed stdout
        pass
    os.close(handle)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else interrupts are ignored, as by nohup
        signal.signal(signal.SIGINT, leave)
    from ucdr_core.cli import main as command_line

    return command_line(working=interruptible)


def leave(*_: object) -> None:
    """Ends at once: an exception that is raised within an import is lost in some of the libraries."""
    os.write(2, b"interrupted; the same command goes on from here\n")
    os._exit(130)


def interruptible(work: bool) -> None:
    """Interrupts are exceptions while there is work, which keeps what it has done; before and after they end the
    process."""
    if signal.getsignal(signal.SIGINT) in (leave, signal.default_int_handler):
        signal.signal(signal.SIGINT, signal.default_int_handler if work else leave)


if __name__ == "__main__":
    sys.exit(main())

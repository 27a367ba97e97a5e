"""The program: `encodec-hk` or `python -m encodec_hk`, and `python run.py` in a clone."""

from __future__ import annotations

import sys

from encodec_hk.commands import help_pages
from encodec_hk.commands import startup


def main() -> None:
    """Run the command of `sys.argv`, and exit with its status."""
    startup.open_closed_streams()
    if help_pages.is_asked(sys.argv):
        sys.exit(startup.with_exit_status(help_pages.show)(sys.argv))
    startup.prepare()
    # Imported here because `prepare` may start the process anew.
    from absl import app

    from encodec_hk.commands import command_line

    app.run(startup.with_exit_status(command_line.run), flags_parser=command_line.parse)


if __name__ == "__main__":
    main()

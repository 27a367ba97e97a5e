"""EnCodec from the command line, in a clone: `python run.py --help` lists the commands."""

from __future__ import annotations

from encodec_hk import __main__

if __name__ == "__main__":
    __main__.main()

"""One module per command of run.py: arguments in, calls, progress and printing out."""

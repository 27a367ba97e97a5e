"""Files, the machine, signals, optional packages: nothing about sound."""

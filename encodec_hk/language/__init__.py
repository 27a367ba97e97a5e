"""Language models over codes: integers that are the same on every machine."""

"""Rows of any lengths through the compiled block computation: scheduling, segments, streams."""

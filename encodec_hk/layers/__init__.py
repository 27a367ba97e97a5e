"""The layers of EnCodec's networks: plain functions and small Haiku modules."""

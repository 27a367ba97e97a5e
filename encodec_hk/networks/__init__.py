"""EnCodec's networks in Haiku: layers over blocks of rows, and `model.build` over them."""

"""Speed of the codec, beside PyTorch's implementations and the machine's limit."""

"""The layers of a whole row in plain numpy, float64: what the block computation is held against.

Written from the definitions (PyTorch's documentation, Meta's padding rule), for one row [T, C].
"""

import numpy as np


def pad(x, left, right, mode):
    """Pads a row; one no longer than its padding is reflected as if zeros followed it."""
    if mode == "constant":
        return np.pad(x, ((left, right), (0, 0)))
    length = len(x)
    short = max(max(left, right) - length + 1, 0) if length <= max(left, right) else 0
    padded = np.pad(np.pad(x, ((0, short), (0, 0))), ((left, right), (0, 0)), mode="reflect")
    return padded[: left + length + right]


def conv_padding(length, kernel_size, stride, dilation, causal):
    """Steps before and after a row of `length`."""
    total = (kernel_size - 1) * dilation + 1 - stride
    right = 0 if causal else total // 2
    return total - right, right + -length % stride


def conv(x, w, b, *, stride=1, dilation=1, causal, mode):
    """A convolution of a whole row: w [kernel, C, D], b [D]."""
    left, right = conv_padding(len(x), len(w), stride, dilation, causal)
    padded = pad(x.astype(np.float64), left, right, mode)
    steps = -(-len(x) // stride)
    y = np.zeros((steps, w.shape[2]))
    for step in range(steps):
        for tap in range(len(w)):
            y[step] += padded[step * stride + tap * dilation] @ w[tap]
    return y + b


def conv_transpose(x, taps, b, *, stride, causal, norm=lambda y: y):
    """A transposed convolution of a whole row: taps [2 * stride, C, D], b [D]."""
    full = np.zeros(((len(x) + 1) * stride, taps.shape[2]))
    for step, value in enumerate(x.astype(np.float64)):
        for tap, weight in enumerate(taps):
            full[step * stride + tap] += value @ weight
    full = norm(full + b)
    trim = 0 if causal else stride - stride // 2
    return full[trim : trim + len(x) * stride]


def polyphase(taps):
    """Taps [2 * stride, C, D] as the parameter w [2, C, stride * D] of `ConvTranspose`."""
    double, channels, features = taps.shape
    halves = taps.reshape(2, double // 2, channels, features).transpose(0, 2, 1, 3)
    return halves.reshape(2, channels, -1)[::-1]


def group_norm(x, scale, offset, eps=1e-5):
    """One group over time and channels of a row."""
    x = x.astype(np.float64)
    return (x - x.mean()) / np.sqrt(x.var() + eps) * scale + offset


def lstm_layer(x, w_i, w_h, b):
    """A layer of `torch.nn.LSTM` from a zero state, gates i, f, g, o."""
    width = x.shape[1]
    h, c, outputs = np.zeros(width), np.zeros(width), []
    for value in x.astype(np.float64):
        i, f, g, o = np.split(value @ w_i + h @ w_h + b, 4)
        sigmoid_i, sigmoid_f, sigmoid_o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = sigmoid_f * c + sigmoid_i * np.tanh(g)
        h = sigmoid_o * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def quantize(codebooks, latents):
    """Codes [K, F] of latents [F, D], and the margin [K, F] to the second nearest entry."""
    residual, codes, margins = latents.astype(np.float64), [], []
    for book in codebooks.astype(np.float64):
        distance = ((residual[:, None] - book) ** 2).sum(-1)
        nearest = np.sort(distance, axis=1)[:, :2]
        codes.append(distance.argmin(1))
        margins.append(nearest[:, 1] - nearest[:, 0])
        residual = residual - book[codes[-1]]
    return np.stack(codes), np.stack(margins)

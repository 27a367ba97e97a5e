"""How near to a tie codes are where two implementations differ."""

import numpy as np


def margins(latents, codebooks, found, expected):
    """Margins of the first differing code of each frame that has one.

    Each is the difference of the two codes' squared distances, as a share of the residual's energy.

    Args:
      latents: [F, D].
      codebooks: [K, N, D].
      found, expected: codes [K, F].
    """
    latents, different = np.asarray(latents, np.float64), found != expected
    books = [np.asarray(book, np.float64) for book in codebooks]
    shares = []
    for frame in np.flatnonzero(different.any(axis=0)):
        first = int(different[:, frame].argmax())
        residual = latents[frame] - sum(books[k][expected[k, frame]] for k in range(first))
        ours, theirs = (
            ((residual - books[first][codes[first, frame]]) ** 2).sum()
            for codes in (found, expected)
        )
        shares.append(abs(ours - theirs) / (residual**2).sum())
    return shares

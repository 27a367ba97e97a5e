// Packed codes of .ecdc files: a fixed number of bits each.
//
// Codes are ordered by frame, and within a frame by codebook.

/** Returns the codes of the first `count` codebooks. */
export function prefix(codes, codebooks, count) {
  if (count === codebooks) return codes;
  const frames = codes.length / codebooks;
  const some = new Int32Array(frames * count);
  for (let frame = 0; frame < frames; frame += 1) {
    for (let k = 0; k < count; k += 1) some[frame * count + k] = codes[frame * codebooks + k];
  }
  return some;
}

/** Packs codes of `bits` bits each, consecutive, least significant bit first. */
export function pack(codes, bits) {
  const bytes = new Uint8Array(Math.ceil((codes.length * bits) / 8));
  let waiting = 0, count = 0, at = 0;  // bits that wait for a whole byte: fewer than 8 + 24
  for (const code of codes) {
    waiting += code * 2 ** count;
    count += bits;
    while (count >= 8) {
      bytes[at++] = waiting % 256;
      waiting = Math.floor(waiting / 256);
      count -= 8;
    }
  }
  if (count) bytes[at] = waiting;
  return bytes;
}

/** Returns `count` codes of packed bytes. */
export function unpack(bytes, bits, count) {
  const codes = new Int32Array(count);
  const limit = 2 ** bits;
  let waiting = 0, held = 0, at = 0;
  for (let index = 0; index < count; index += 1) {
    while (held < bits) {
      waiting += bytes[at++] * 2 ** held;
      held += 8;
    }
    codes[index] = waiting % limit;
    waiting = Math.floor(waiting / limit);
    held -= bits;
  }
  return codes;
}

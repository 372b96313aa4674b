/** XXH3-128 of the first n bytes of `pattern`, computed with the Python package xxhash 3 (not with this code). */
export const VECTORS: readonly (readonly [number, string])[] = [
  [0, '99aa06d3014798d86001c324468d497f'],
  [1, 'db5934bc0727b16fb95d064157e4a8b4'],
  [3, '66092b7c8199899e4b2bf643aad9977c'],
  [8, 'e80cb1671d366ac1e372b3db83e06468'],
  [16, '3b35ba78666c6373d590454012dfdf3b'],
  [17, '19066fa6acb043d584a75d8e2ca8bf3b'],
  [128, '7da00d787541617307546f37fa46327e'],
  [129, '908ba7e6c596874d280a49314bddf7e5'],
  [240, 'b7ba761d40ed703dc4e2041b1e2fa9a6'],
  [241, '1253eabfa3bc7c14e458863ec159b424'],
  [512, '3c49a68612b1f7233b402f6c44d36ce5'],
  [1023, 'b10c6c9df96fa7a7179d4ca7b3c06b69'],
  [1024, '2d7c49ac4e3824b1c5eb3b0e7580130f'],
  [1025, '1a0d1e1d3481694240846007943e297d'],
  [1088, '4420e859639e8ae1e9cea1c8d904e8c1'],
  [2048, '2ff31b3ba60795601767e6dce9d4ac74'],
  [2049, '61acac1f851891c2bcf9f79fee759d28'],
  [65536, '8c4a045aa685aa236fac6b85b321bd36'],
  [1048576, '6136830e7f0d7027674d693831b84cd2'],
  [2097151, '298d00006f30f37ad93489dcd660370e'],
  [2097152, '9db67494798ac7d91d4e200b705761ae'],
  [2097153, 'f009af4de06cc7432ca3c05b82e9373d'],
  [4194304, '62c5cc433810c0a6b5b2a7a9e7f276a6'],
  [4194305, 'b8b71a31911c86e208d1d2d9ecafef03'],
  [5255225, '24c93cca0ca689899a3e8ba6048c4c1a'],
];

export const PATTERN_BYTES = VECTORS.at(-1)![0];

/** A linear congruential generator: x = x * 1103515245 + 12345 mod 2^31 from 12345; each byte is bits 16 to 23. */
export function pattern(length = PATTERN_BYTES): Buffer {
  const bytes = Buffer.alloc(length);
  let x = 12345;
  for (let i = 0; i < length; i++) {
    x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff;
    bytes[i] = (x >>> 16) & 0xff;
  }
  return bytes;
}

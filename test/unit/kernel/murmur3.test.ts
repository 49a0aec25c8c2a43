import t from 'tap'
import { murmur3 } from '#kernel/murmur3.ts'

// Vectors made with the reference code (SMHasher), as collected at https://stackoverflow.com/a/31929528.
const vectors: [text: string, seed: number, hash: number][] = [
  ['', 0, 0],
  ['', 1, 0x514e28b7],
  ['', 0xffffffff, 0x81f16f39],
  ['\0\0\0\0', 0, 0x2362f9de],
  ['\0\0\0', 0, 0x85f0b427],
  ['\0\0', 0, 0x30f4c306],
  ['\0', 0, 0x514e28b7],
  ['!Ce', 0, 0x7e4a8634],
  ['!C', 0, 0xa0f7b07a],
  ['!', 0, 0x72661cf4],
  ['aaaa', 0x9747b28c, 0x5a97808a],
  ['aaa', 0x9747b28c, 0x283e0130],
  ['aa', 0x9747b28c, 0x5d211726],
  ['a', 0x9747b28c, 0x7fa09ea6],
  ['abcd', 0x9747b28c, 0xf0478627],
  ['Hello, world!', 0x9747b28c, 0x24884cba],
  ['ππππππππ', 0x9747b28c, 0xd58063c1],
  ['The quick brown fox jumps over the lazy dog', 0x9747b28c, 0x2fa826cd],
  ['a'.repeat(256), 0x9747b28c, 0x37405bdc],
]

t.test('the published vectors', async (t) => {
  for (const [text, seed, hash] of vectors) t.equal(murmur3(text, seed), hash, JSON.stringify(text.slice(0, 20)))
})

t.test('a text longer than the scratch buffer hashes like any other', async (t) => {
  const long = 'monogram'.repeat(1_000)
  t.equal(murmur3(long), murmur3(long))
  t.not(murmur3(long), murmur3(`${long}x`))
})

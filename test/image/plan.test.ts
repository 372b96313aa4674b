/** Goal: the planner writes exactly the format. Method: golden bytes, both sides of each boundary, read back by our reader. */
import { expect, it } from 'vitest';
import { bufferSource } from '../../daxfs/byte-source.ts';
import type { Image } from '../../daxfs/image.ts';
import { planImage } from '../../daxfs/image-plan.ts';
import { type TreeEntry, withParents } from '../../daxfs/image-tree.ts';
import { validateImage } from '../../daxfs/image-validate.ts';
import { directory, file, imageOf, open, render, symlink } from './build.ts';

const MIB = 1024 * 1024;
const report = (bytes: Buffer) => validateImage(bufferSource(bytes)).findings;

/** Every 16-byte line that is not zero, as offset and hex. */
function byteMap(bytes: Buffer): string[] {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const line = bytes.subarray(at, at + 16);
    if (line.some((byte) => byte !== 0)) lines.push(`${at.toString(16).padStart(6, '0')} ${line.toString('hex')}`);
  }
  return lines;
}

const small = (): TreeEntry[] => [
  directory('', { mode: 0o755 }),
  file('b.txt', 'hello', { mode: 0o100640, uid: 1000, gid: 1001 }),
  directory('d', { mode: 0o700 }),
  file('d/empty', ''),
  file('d/link-of-b', 'ignored: the first name has the bytes', { linkKey: 'b' }),
  file('c', 'hard', { linkKey: 'b' }),
  symlink('z', '../target'),
];

it('golden byte map of a small image', () => {
  expect(byteMap(imageOf(small()))).toMatchSnapshot();
});

it('entries in any order give the same bytes, sorted by the bytes of the names', () => {
  const image = imageOf(small());
  expect(render(planImage([...small()].reverse()))).toEqual(image);
  const names = ['a', 'a-b', 'a.b', 'a/x', 'a0', 'é', 'B'];
  const walked = [...open(imageOf(names.map((name) => (name === 'a' ? directory('a') : file(name, ''))))).walk()];
  expect(walked.map(({ path }) => path.toString())).toEqual(['', 'B', 'a', 'a/x', 'a-b', 'a.b', 'a0', 'é']);
});

it('hard links: one inode, one copy, no empty slot in the table', () => {
  const plan = planImage(small());
  expect(plan.inodeCount).toBe(6);
  const bytes = render(plan);
  const image = open(bytes);
  expect(image.lookup('c').ino).toBe(image.lookup('d/link-of-b').ino);
  expect(image.lookup('c').nlink).toBe(2);
  expect(image.readFile(image.lookup('d/link-of-b')).toString()).toBe('hard');
  expect(image.root().nlink).toBe(3);
  expect(report(bytes)).toEqual([]);
});

// 272 * 15 = 4080 and 271 * 15 = 4065 lie in one block; with 16 entries both need two. 271 * 604 = 163684 fits 40 blocks
// (163840), 272 * 604 = 164288 does not; 271 * 4096 is exactly 271 blocks, 272 * 4096 is 272.
it.each([1, 15, 16, 603, 604, 605, 4096])(
  'a directory of %i entries keeps its last entry whole (271 and 272)',
  (count) => {
    const name = (i: number) => String(i).padStart(55, '0');
    const next = file('zz', Buffer.alloc(8192, 0xff));
    const bytes = imageOf([...Array.from({ length: count }, (_, i) => file(`d/${name(i)}`, '')), next]);
    expect(report(bytes)).toEqual([]);
    const image = open(bytes);
    const node = image.lookup('d');
    expect(node.size).toBe(count * 271);
    expect([...image.entries(node)].map((entry) => entry.name.toString())).toEqual(
      Array.from({ length: count }, (_, i) => name(i)),
    );
    expect(image.readFile(image.lookup('zz')).every((byte) => byte === 0xff)).toBe(true);
  },
);

it('names of 1 and 255 bytes, bytes that are no UTF-8, and 256 bytes refused', () => {
  const raw = Buffer.from([0xff, 0x80, 0x41, 0x0a]);
  const long = 'x'.repeat(255);
  const bytes = imageOf([file('1', '1'), file(long, '255')]);
  expect(open(bytes).readFile(open(bytes).lookup(long)).toString()).toBe('255');
  const withRaw = render(planImage([directory(''), file(raw, 'raw'), symlink('l', raw)]));
  expect(open(withRaw).readFile(open(withRaw).lookup(raw)).toString()).toBe('raw');
  expect(open(withRaw).readLink(open(withRaw).lookup('l'))).toEqual(raw);
  expect(() => imageOf([file(`${long}x`, '')])).toThrow(/more than 255/);
});

it('a directory of 100,000 entries', () => {
  const entries = Array.from({ length: 100_000 }, (_, i) => file(`many/${i}`, ''));
  const plan = planImage(withParents(entries));
  expect(plan.inodeCount).toBe(100_002);
  const bytes = render(plan);
  expect(report(bytes)).toEqual([]);
  const image = open(bytes);
  expect(image.lookup('many/99999').ino).toBeGreaterThan(2);
  let names = 0;
  for (const _ of image.walk()) names++;
  expect(names).toBe(100_002);
});

it('large files start on 2 MiB boundaries, everything else before them', () => {
  const large = Buffer.alloc(2 * MIB + 5, 1);
  const entries = [
    file('a', large),
    file('b', 'small'),
    file('c', Buffer.alloc(2 * MIB)),
    file('d', Buffer.alloc(2 * MIB - 1)),
  ];
  const plan = planImage(withParents(entries), { largeFileAlign: 2 * MIB });
  const at = new Map(plan.files.map(({ path, offset }) => [path, offset]));
  expect(at.get('b')).toBeLessThan(2 * MIB);
  expect(at.get('a')! % (2 * MIB)).toBe(0);
  expect(at.get('c')! % (2 * MIB)).toBe(0);
  expect(at.get('d')! % (2 * MIB)).not.toBe(0);
  expect(at.get('a')).toBeGreaterThan(at.get('d')!);
  const bytes = render(plan);
  expect(report(bytes)).toEqual([]);
  expect(open(bytes).readFile(open(bytes).lookup('a')).equals(large)).toBe(true);
  expect(planImage(withParents(entries)).totalSize).toBeLessThan(plan.totalSize);
});

it('an empty root, an empty file at the end, a deep path', () => {
  const empty = imageOf([]);
  expect(report(empty)).toEqual([]);
  expect([...open(empty).walk()].length).toBe(1);
  expect(report(imageOf([file('a', 'x'), file('z', '')]))).toEqual([]);
  const deep = Array.from({ length: 1500 }, () => 'd').join('/');
  const bytes = imageOf([file(`${deep}/f`, 'deep')]);
  expect(report(bytes)).toEqual([]);
  expect(
    open(bytes)
      .readFile(open(bytes).lookup(`/${deep}/f`))
      .toString(),
  ).toBe('deep');
});

it('files above 4 GiB are planned without rounding', () => {
  const size = 5 * 1024 ** 3 + 1;
  const origin = { path: '/nowhere', mtimeNs: 0n, ino: 1n };
  const entries: TreeEntry[] = ['a', 'b'].map((path) => ({ ...file(path, ''), size, origin }));
  const plan = planImage(withParents(entries));
  const [a, b] = plan.files;
  expect(b!.offset - a!.offset).toBe(5 * 1024 ** 3 + 4096);
  expect(plan.totalSize).toBe(b!.offset + 5 * 1024 ** 3 + 4096);
});

it.each([
  ['the root missing', [file('a', '')], /no parent/],
  ['a parent missing', [directory(''), file('a/b', '')], /no parent/],
  ['a parent that is a file', [directory(''), file('a', ''), file('a/b', '')], /no parent/],
  ['a name twice', [directory(''), file('a', ''), directory('a')], /twice/],
  ['nothing', [], /empty/],
  ['a root that is a file', [file('', '')], /root/],
  ['a leading slash', [directory(''), file('/a', '')], /slash/],
  ['a trailing slash', [directory(''), directory('a'), file('a/', '')], /empty part/],
  ['a double slash', [directory(''), directory('a'), file('a//b', '')], /parent/],
  ['dot', [directory(''), file('.', '')], /"\."/],
  ['dot dot', [directory(''), directory('..')], /"\.\."/],
  ['a NUL', [directory(''), file('a\0b', '')], /NUL/],
  ['an empty link', [directory(''), symlink('l', '')], /target/],
  ['a NUL in a link', [directory(''), symlink('l', 'a\0b')], /target/],
  ['a file without bytes', [directory(''), { path: 'f', type: 'file', mode: 0, uid: 0, gid: 0 }], /origin/],
] satisfies [string, TreeEntry[], RegExp][])('refuses %s', (_, entries, message) => {
  expect(() => planImage(entries)).toThrow(
    expect.objectContaining({ code: 'DAXFS_BAD_TREE', message: expect.stringMatching(message) }),
  );
});

it('the reader takes only what is asked of the right type', () => {
  const image: Image = open(imageOf(small()));
  expect(() => image.lookup('nothing')).toThrow(expect.objectContaining({ code: 'DAXFS_NO_ENTRY' }));
  expect(() => image.lookup('b.txt/x')).toThrow(expect.objectContaining({ code: 'DAXFS_NO_ENTRY' }));
  expect(() => image.readFile(image.lookup('d'))).toThrow(expect.objectContaining({ code: 'DAXFS_WRONG_TYPE' }));
  expect(() => image.readLink(image.lookup('c'))).toThrow(expect.objectContaining({ code: 'DAXFS_WRONG_TYPE' }));
  expect(() => [...image.entries(image.lookup('c'))]).toThrow(expect.objectContaining({ code: 'DAXFS_WRONG_TYPE' }));
  expect(image.extent(image.lookup('d/empty')).length).toBe(0);
});

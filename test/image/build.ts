/** Images in memory, from entries; entries from real directories; comparing an image with what it was made of. */
import { lstatSync, readFileSync, readlinkSync } from 'node:fs';
import { bufferSource } from '../../daxfs/byte-source.ts';
import { Image } from '../../daxfs/image.ts';
import { type ImagePlan, type PlanOptions, planImage } from '../../daxfs/image-plan.ts';
import { type TreeEntry, withParents } from '../../daxfs/image-tree.ts';

/** Renders a plan as a region would: over old bytes, so a forgotten zero shows. Fails when ranges overlap or leave a hole. */
export function render(plan: ImagePlan): Buffer {
  const image = Buffer.alloc(plan.totalSize, 0xaa);
  const covered = new Uint8Array(plan.totalSize);
  const put = (offset: number, bytes: Buffer) => {
    for (let i = 0; i < bytes.length; i++) {
      if (covered[offset + i] !== 0) throw new Error(`byte ${offset + i} is planned twice`);
      covered[offset + i] = 1;
    }
    bytes.copy(image, offset);
  };
  for (const { offset, bytes } of plan.metadata) put(offset, bytes);
  for (const { offset, length } of plan.zero) put(offset, Buffer.alloc(length));
  for (const { origin, offset } of plan.files) if ('path' in origin) put(offset, readFileSync(origin.path));
  const hole = covered.indexOf(0);
  if (hole >= 0) throw new Error(`byte ${hole} is not planned`);
  return image;
}

export const file = (path: string | Buffer, bytes: Buffer | string, more: Partial<TreeEntry> = {}): TreeEntry => ({
  path,
  type: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  origin: { bytes: Buffer.from(bytes) },
  ...more,
});
export const directory = (path: string | Buffer, more: Partial<TreeEntry> = {}): TreeEntry => ({
  path,
  type: 'directory',
  mode: 0o755,
  uid: 0,
  gid: 0,
  ...more,
});
export const symlink = (path: string | Buffer, target: Buffer | string): TreeEntry => ({
  path,
  type: 'symlink',
  mode: 0o777,
  uid: 0,
  gid: 0,
  target: Buffer.from(target),
});

/** Image of entries whose parents are added. */
export function imageOf(entries: readonly TreeEntry[], options: PlanOptions = {}): Buffer {
  return render(planImage(withParents(entries), options));
}

export const open = (bytes: Buffer): Image => new Image(bufferSource(bytes));

/** What the image says about every name, to compare with `describeTree`. */
export function describeImage(image: Image): Map<string, string> {
  const inos = new Map<number, string>();
  const described = new Map<string, string>();
  for (const { path, node } of image.walk()) {
    const name = path.toString('latin1');
    const same = node.type === 'file' ? (inos.get(node.ino) ?? name) : name;
    inos.set(node.ino, same);
    const content =
      node.type === 'file'
        ? image.readFile(node).toString('latin1')
        : node.type === 'symlink'
          ? image.readLink(node).toString('latin1')
          : '';
    described.set(name, [node.mode.toString(8), node.uid, node.gid, node.nlink, same, content].join(' '));
  }
  return described;
}

/** The same of a real directory. */
export function describeTree(root: Buffer, names: Iterable<string>): Map<string, string> {
  const inos = new Map<number, string>();
  const described = new Map<string, string>();
  for (const name of names) {
    const path = name === '' ? root : Buffer.concat([root, Buffer.from('/'), Buffer.from(name, 'latin1')]);
    const stat = lstatSync(path);
    const same = stat.isFile() ? (inos.get(stat.ino) ?? name) : name;
    inos.set(stat.ino, same);
    const content = stat.isFile()
      ? readFileSync(path, 'latin1')
      : stat.isSymbolicLink()
        ? readlinkSync(path, 'latin1')
        : '';
    described.set(name, [stat.mode.toString(8), stat.uid, stat.gid, stat.nlink, same, content].join(' '));
  }
  return described;
}

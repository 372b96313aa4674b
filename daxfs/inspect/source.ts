/** Where daxfs-inspect reads: a file, a device, a range of physical memory, or the memory behind a mount. */
import { closeSync, fstatSync, openSync, readFileSync, realpathSync } from 'node:fs';
import { native } from '../../native/index.ts';
import { openBacking } from '../backing.ts';
import { type ByteSource, fileSource, mappingSource } from '../byte-source.ts';
import { daxfsError } from '../errors.ts';

export type SourceChoice =
  | { kind: 'file'; path: string }
  | { kind: 'physical'; address: number; size: number }
  | { kind: 'mount'; path: string };

export interface OpenSource {
  source: ByteSource;
  /** For messages and headings. */
  name: string;
  close(): void;
}

/** What a mount of type daxfs says of its memory. */
export interface MountFacts {
  mountpoint: string;
  /** Bytes, from `size=`. */
  size: number | undefined;
  /** From `phys=`; a dma-buf has none. */
  physical: number | undefined;
}

const MEMORY_DEVICE = '/dev/mem';

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code ?? String(error);

function bad(message: string, cause?: unknown) {
  return daxfsError('DAXFS_BAD_BACKING', message, { cause });
}

/** Space, tab, newline and backslash are written as \\ooo in mountinfo. */
const plainText = (text: string) => text.replace(/\\([0-7]{3})/g, (_, digits: string) => octal(digits));
const octal = (digits: string) => String.fromCharCode(Number.parseInt(digits, 8));

function numberOf(options: readonly string[], name: string): number | undefined {
  const text = options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
  const number = text === undefined || text === '' ? Number.NaN : Number(text);
  return Number.isSafeInteger(number) && number >= 0 ? number : undefined;
}

/**
 * The daxfs mount at a path; the last one counts when several lie on each other.
 * @param mountinfo text of /proc/self/mountinfo
 * @returns undefined when nothing is mounted there; the type when it is of another one
 */
export function findMount(mountinfo: string, path: string): MountFacts | { type: string } | undefined {
  let found: MountFacts | { type: string } | undefined;
  for (const line of mountinfo.split('\n')) {
    const [place, filesystem] = line.split(' - ');
    const mountpoint = plainText(place?.split(' ')[4] ?? '');
    if (mountpoint !== path || filesystem === undefined) continue;
    const [type = '', , options = ''] = filesystem.split(' ');
    const list = options.split(',');
    found =
      type === 'daxfs' ? { mountpoint, size: numberOf(list, 'size'), physical: numberOf(list, 'phys') } : { type };
  }
  return found;
}

function openFile(path: string): OpenSource {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    const what = codeOf(error) === 'ENOENT' ? 'is not there' : `cannot be read (${codeOf(error)})`;
    throw bad(`${path} ${what}; give an image, a region or a device.`, error);
  }
  const stat = fstatSync(fd);
  if (stat.isFile()) return { source: fileSource(fd), name: path, close: () => closeSync(fd) };
  closeSync(fd);
  const backing = openBacking({ path }, { write: false, create: false });
  return openMapping(backing.fd, 0, backing.sizeBytes, path);
}

/** Maps a range for reading and closes the descriptor. */
function openMapping(fd: number, offset: number, size: number, name: string): OpenSource {
  try {
    const mapping = new native.Mapping(fd, offset, size, {});
    return { source: mappingSource(mapping, 0, size), name, close: () => mapping.close() };
  } catch (error) {
    throw bad(`${name} cannot be mapped, ${size} bytes from ${offset} (${codeOf(error)}).`, error);
  } finally {
    closeSync(fd);
  }
}

function openPhysical(address: number, size: number): OpenSource {
  const name = `physical memory at 0x${address.toString(16)}`;
  let fd: number;
  try {
    fd = openSync(MEMORY_DEVICE, 'r');
  } catch (error) {
    throw bad(
      `${name} cannot be read: ${MEMORY_DEVICE} ${codeOf(error) === 'ENOENT' ? 'is not there' : `gives ${codeOf(error)}`}; run as root on a kernel with CONFIG_DEVMEM, or use -f on the device.`,
      error,
    );
  }
  return openMapping(fd, address, size, name);
}

function openMountBuffer(path: string): number {
  const fd = openSync(path, 'r');
  try {
    return native.daxfsDmaBuf(fd);
  } catch (error) {
    throw bad(`The mount ${path} does not give its memory (${codeOf(error)}); use -p ADDR -s SIZE.`, error);
  } finally {
    closeSync(fd);
  }
}

function openMount(path: string): OpenSource {
  let real: string;
  try {
    real = realpathSync(path);
  } catch (error) {
    throw bad(`${path} cannot be read (${codeOf(error)}); give the mount point of a daxfs.`, error);
  }
  const mount = findMount(readFileSync('/proc/self/mountinfo', 'utf8'), real);
  if (!mount || 'type' in mount) {
    const what = mount ? `is a mount of type ${mount.type}` : 'is no mount point';
    throw bad(`${path} ${what}, not a mounted daxfs; mount one there, or read its file or device with -f.`);
  }
  const { size, physical } = mount;
  if (size === undefined) throw bad(`The mount ${path} does not state its size; use -p ADDR -s SIZE.`);
  if (physical !== undefined) return { ...openPhysical(physical, size), name: path };
  return openMapping(openMountBuffer(real), 0, size, path);
}

/** Opens for reading. @throws DaxfsError DAXFS_BAD_BACKING with what to do, in one line */
export function openSource(choice: SourceChoice): OpenSource {
  if (choice.kind === 'file') return openFile(choice.path);
  return choice.kind === 'mount' ? openMount(choice.path) : openPhysical(choice.address, choice.size);
}

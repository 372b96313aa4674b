/** Which pages are behind a mapping, and on which memory nodes: read from what the kernel says about this process. */
import { fstatSync, readFileSync } from 'node:fs';

export interface PagesInForce {
  /** Bytes of the pages that back most of what is mapped now. */
  pageBytes: number;
  /** Resident bytes of the mapping, and those of them in huge pages. */
  residentBytes: number;
  hugeBytes: number;
}

const HUGE_PMD_BYTES = 2 * 2 ** 20;

/** One `NAME: 123 kB` line of a section, in bytes. */
function bytesOf(section: string, name: string): number {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(section);
  return match ? Number(match[1]) * 1024 : 0;
}

/** Sections of a smaps text whose mapping shows the file with this inode. */
function sectionsOf(smaps: string, inode: number | bigint): string[] {
  const sections = smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  return sections.filter((text) => /^\S+ \S+ \S+ \S+ (\d+)/.exec(text)?.[1] === String(inode));
}

/** @param smaps text of /proc/PID/smaps */
export function parsePages(smaps: string, inode: number | bigint): PagesInForce | null {
  const sections = sectionsOf(smaps, inode);
  if (sections.length === 0) return null;
  const sum = (...names: string[]) =>
    sections.reduce((total, section) => total + names.reduce((bytes, name) => bytes + bytesOf(section, name), 0), 0);
  const kernelPage = Math.max(...sections.map((section) => bytesOf(section, 'KernelPageSize')));
  const hugetlb = sum('Shared_Hugetlb', 'Private_Hugetlb');
  const residentBytes = sum('Rss') + hugetlb;
  const hugeBytes = hugetlb + sum('AnonHugePages', 'ShmemPmdMapped', 'FilePmdMapped');
  if (kernelPage > 4096) return { pageBytes: kernelPage, residentBytes, hugeBytes: residentBytes };
  const pageBytes = hugeBytes * 2 > residentBytes ? HUGE_PMD_BYTES : kernelPage;
  return { pageBytes, residentBytes, hugeBytes };
}

/** Memory policy of a mapping as the kernel words it (`default`, `interleave:0-1`, `bind:0`); null without NUMA support. */
export function parseNumaPolicy(numaMaps: string, path: string): string | null {
  const line = numaMaps.split('\n').find((text) => text.includes(`file=${path} `) || text.endsWith(`file=${path}`));
  return /^\S+ (\S+)/.exec(line ?? '')?.[1] ?? null;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** What is in force for this process's mappings of the file behind `fd`; the mapping must have been touched. */
export function pagesOf(fd: number): PagesInForce | null {
  return parsePages(readText('/proc/self/smaps'), fstatSync(fd, { bigint: true }).ino);
}

/** @param path as in the mapping: links resolved */
export function numaPolicyOf(path: string | null): string | null {
  return path === null ? null : parseNumaPolicy(readText('/proc/self/numa_maps'), path);
}

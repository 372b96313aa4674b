/** `region check [--repair]`: what `daxfs/check` finds, for people and for programs. Exit code 0 sound, 1 findings. */
import type { Command } from 'commander';
import { type CheckReport, checkRegion } from '../../daxfs/check/check.ts';
import type { ManifestReader } from '../../daxfs/check/check-images.ts';
import { CHECK_RULES, type CheckCode, type CheckFinding } from '../../daxfs/check/findings.ts';
import { type RepairReport, repairRegion } from '../../daxfs/check/repair.ts';
import {
  checkManifestSize,
  contentDigest,
  decodeManifestPaced,
  formatIndex,
  MANIFEST_PATH,
} from '../../loaders/index.ts';
import { serverError } from '../errors.ts';
import { bytes, print, printableText } from './output.ts';

/** Manifests for the check, which knows nothing of loaders. */
export const manifestReader: ManifestReader = {
  path: MANIFEST_PATH,
  checkSize: checkManifestSize,
  decode: async (file) => {
    const { files, tensors, format } = await decodeManifestPaced(file);
    return { files, contentDigest: contentDigest(files), tensorCount: tensors.length, format: formatIndex(format) };
  },
};

interface CheckOptions {
  region?: string;
  json?: boolean;
  repair?: boolean;
  digests?: boolean;
  dropQuarantined?: boolean;
}

/** Findings of one kind that are shown one by one. */
const shownPerCode = 5;

function groupText(code: CheckCode, group: readonly CheckFinding[]): string[] {
  const fixable = CHECK_RULES[code].repairable ? '' : ', not repairable';
  const lines = group.slice(0, shownPerCode).map(({ message, where }) => `    ${message} (byte ${where.offset})`);
  const more = group.length - lines.length;
  const head = `${code}  ${group.length} x ${CHECK_RULES[code].title}${fixable}`;
  return [head, ...lines, ...(more > 0 ? [`    and ${more} more`] : [])];
}

/** By kind, in the order of the table. */
function listText(findings: readonly CheckFinding[]): string[] {
  const groups = new Map<CheckCode, CheckFinding[]>();
  for (const finding of findings) groups.set(finding.code, [...(groups.get(finding.code) ?? []), finding]);
  return (Object.keys(CHECK_RULES) as CheckCode[]).flatMap((code) => {
    const group = groups.get(code);
    return group ? groupText(code, group) : [];
  });
}

export function reportText({ contents, images, names, hosts, findings, leftovers }: CheckReport): string {
  const verdict = findings.length === 0 ? 'no rule is broken' : `${findings.length} findings`;
  return [
    ...listText(findings),
    ...(leftovers.length > 0 ? ['Left behind, harmless:', ...listText(leftovers)] : []),
    `${contents} contents, ${images} images, ${names} names, ${hosts} hosts: ${verdict}`,
  ]
    .map(printableText)
    .join('\n');
}

function repairText({ steps, kept, before, after }: RepairReport): string {
  const done = steps.length === 0 ? 'nothing to repair' : `${steps.length} repairs`;
  const was = before.findings.length;
  return [
    ...steps.map((step) => printableText(`repaired: ${step}`)),
    ...kept.map((text) => printableText(`kept: ${text}`)),
    `${done}; ${was} findings before, ${after.findings.length} left`,
    reportText(after),
  ].join('\n');
}

/** One line that redraws itself on a terminal; nothing elsewhere. */
function progressLine(digests: boolean): ((done: number, total: number) => void) | undefined {
  const out = process.stderr;
  if (!out.isTTY) return undefined;
  return (done, total) => {
    const amount = digests ? `${bytes(done)} of ${bytes(total)}` : `${done} of ${total} contents`;
    out.write(done < total ? `\rchecked ${amount}\x1b[K` : '\r\x1b[K');
  };
}

async function check(path: string, options: CheckOptions): Promise<void> {
  const { json = false, digests = false, dropQuarantined = false } = options;
  if (dropQuarantined && !options.repair)
    throw serverError('SERVER_BAD_CONFIG', '--drop-quarantined changes the region; give --repair with it.');
  const how = { manifest: manifestReader, digests, onProgress: progressLine(digests) };
  if (!options.repair) {
    const report = await checkRegion({ path }, how);
    print(json, report, () => reportText(report));
    if (!report.sound) process.exitCode = 1;
    return;
  }
  const report = await repairRegion({ path }, { ...how, dropQuarantined });
  print(json, report, () => repairText(report));
  if (!report.after.sound) process.exitCode = 1;
}

/** Fills in the command. @param pathOf which region its options mean */
export function addRegionCheck(command: Command, pathOf: (options: CheckOptions) => string): void {
  command
    .option('--repair', 'mend what a crash or damage left; no service may have the region open')
    .option('--digests', 'compare the bytes of every file with its manifest')
    .option('--drop-quarantined', 'with --repair: free quarantined contents that nobody maps')
    .action((options: CheckOptions) => check(pathOf(options), options));
}

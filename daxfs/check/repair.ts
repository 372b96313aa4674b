/**
 * `region check --repair`: mends what can be mended and fences off what cannot. The region is taken exclusively on this
 * kernel; workers may go on mapping what they hold. Every step leaves a state that the next run goes on from, so a repair
 * that is killed is simply run again.
 */
import type { BackingRequest } from '../backing.ts';
import { takeHostRow } from '../host.ts';
import { hostIdentity, lockDomain } from '../host-identity.ts';
import { NO_HOST } from '../layout.ts';
import { Region } from '../region.ts';
import type { RegionHeader } from '../region-format.ts';
import { Registry } from '../registry.ts';
import { type CheckOptions, type CheckReport, checkImage, checkOpened, lostReport } from './check.ts';
import { mendImage } from './check-image.ts';
import { checkImages, chunkArea } from './check-images.ts';
import { lookOnce } from './check-registry.ts';
import { type OpenedForCheck, openForCheck } from './open-check.ts';
import { type OpenedImage, openImage } from './open-image.ts';
import {
  recoverHosts,
  repairAnchors,
  repairContentFields,
  repairFront,
  repairHostNames,
  repairHostWords,
  repairIntents,
  repairState,
} from './repair-base.ts';
import { releaseChunks, releaseContents, repairChunks, repairContents, repairImages } from './repair-contents.ts';
import type { RepairContext } from './repair-context.ts';
import { repairFrontContents } from './repair-front-contents.ts';
import { repairNames } from './repair-names.ts';
import type { ContentEntry } from './tables.ts';

export interface RepairOptions extends CheckOptions {
  /** Frees quarantined contents and chunks that nobody maps. */
  dropQuarantined?: boolean | undefined;
  /** Called after every change. */
  onStep?: ((step: string) => void) | undefined;
}

export interface RepairReport {
  before: CheckReport;
  /** What was changed, in order. */
  steps: string[];
  /** What could not be freed, and why. */
  kept: string[];
  after: CheckReport;
}

/** Mending one thing may show another; no damage needs more rounds than this. */
const roundsMax = 4;
const hostName = 'region-check';

type Step = (text: string) => void;

class Repair {
  readonly #opened: OpenedForCheck & { header: RegionHeader };
  readonly #region: Region;
  readonly #registry: Registry;
  readonly #options: RepairOptions;
  readonly #step: Step;
  readonly kept = new Set<string>();
  #suspects: ContentEntry[] = [];
  #self = { index: NO_HOST, generation: 0 };

  constructor(opened: OpenedForCheck & { header: RegionHeader }, region: Region, options: RepairOptions, step: Step) {
    this.#opened = opened;
    this.#region = region;
    this.#registry = new Registry(region);
    this.#options = options;
    this.#step = step;
  }

  async run(): Promise<void> {
    const identity = hostIdentity(hostName, this.#region);
    const row = await takeHostRow(this.#region, identity, (index) => {
      this.#self = { index, generation: this.#registry.attach(index, identity).generation };
    });
    try {
      await this.#rounds();
    } finally {
      this.#registry.detach();
      row.release();
    }
  }

  #look(): RepairContext {
    const { tables, findings } = lookOnce(this.#opened);
    const ownBootId = lockDomain(this.#opened.backing).toString('hex');
    const keep = (text: string) => void this.kept.add(text);
    const own = { region: this.#region, registry: this.#registry, self: this.#self };
    return { ...own, tables, findings, ownBootId, step: this.#step, keep };
  }

  async #rounds(): Promise<void> {
    recoverHosts(this.#look());
    for (let round = 0; round < roundsMax; round++) {
      let changes = 0;
      const counting: Step = (text) => {
        changes += 1;
        this.#step(text);
      };
      this.#tables(counting);
      await this.#images(counting);
      this.#release(counting);
      // Rows whose last pin or claim went just now.
      recoverHosts({ ...this.#look(), step: counting });
      if (changes === 0) return;
    }
  }

  #tables(step: Step): void {
    const phases = [
      (context: RepairContext) => {
        repairState(context);
        repairFront(context);
        repairIntents(context);
        repairHostNames(context);
        repairContentFields(context);
      },
      repairFrontContents,
      repairContents,
      (context: RepairContext) => {
        this.#suspects = [...repairChunks(context)];
      },
      repairNames,
    ];
    for (const phase of phases) phase({ ...this.#look(), step });
  }

  async #images(step: Step): Promise<void> {
    const context = { ...this.#look(), step };
    const area = chunkArea(this.#region.mapping, context.tables.header);
    const { findings } = await checkImages(area, context.tables, this.#options);
    const indexes = new Set([...findings.map(({ where }) => where.index), ...this.#suspects.map(({ index }) => index)]);
    const suspects = [...indexes].flatMap((index) => context.tables.contents.get(index) ?? []);
    await repairImages(context, suspects, this.#options);
  }

  #release(step: Step): void {
    const context = { ...this.#look(), step };
    releaseContents(context, this.#options.dropQuarantined ?? false);
    if (this.#options.dropQuarantined) releaseChunks(context);
  }
}

async function repairOpened(
  opened: OpenedForCheck & { header: RegionHeader },
  options: RepairOptions,
): Promise<RepairReport> {
  const before = await checkOpened(opened, options);
  const steps: string[] = [];
  const step: Step = (text) => {
    steps.push(text);
    options.onStep?.(text);
  };
  const nothing = before.sound && before.leftovers.length === 0;
  if (nothing || before.findings.some(({ code }) => code === 'UNFINISHED'))
    return { before, steps, kept: [], after: before };
  repairAnchors(opened.mapping, opened.header, step);
  repairHostWords(opened.mapping, lookOnce(opened).findings, step);
  const region = Region.over(opened);
  const repair = new Repair(opened, region, options, step);
  try {
    await repair.run();
  } finally {
    region.fence.close();
  }
  return { before, steps, kept: [...repair.kept], after: await checkOpened(opened, options) };
}

async function repairImage(image: OpenedImage, options: RepairOptions): Promise<RepairReport> {
  const before = await checkImage(image);
  const steps: string[] = [];
  const step: Step = (text) => {
    steps.push(text);
    options.onStep?.(text);
  };
  if (!before.sound || before.leftovers.length > 0) mendImage(image, step);
  return { before, steps, kept: [], after: steps.length === 0 ? before : await checkImage(image) };
}

/**
 * Repairs a region, or an image with overlay or page cache, and checks it again.
 * @throws DaxfsError DAXFS_IN_USE naming who has it open; DAXFS_HOSTS_FULL; and what `checkRegion` throws
 */
export async function repairRegion(request: BackingRequest, options: RepairOptions = {}): Promise<RepairReport> {
  const image = openImage(request, true);
  if (image) return repairImage(image, options).finally(image.close);
  const opened = await openForCheck(request, true);
  try {
    const { header } = opened;
    if (header !== null) return await repairOpened({ ...opened, header }, options);
    const lost = lostReport(opened);
    return { before: lost, steps: [], kept: [], after: lost };
  } finally {
    opened.close();
  }
}

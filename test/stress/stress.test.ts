/**
 * Goal: what a process of a region was told is done stays done, whoever is killed when, and the region stays sound. Method:
 * eight native processes at a seeded mix of all operations, SIGKILL at random moments, successors; then `check`, every
 * acknowledged operation, `--repair`. The long form is `npm run stress`. DAXSERVE_SEED replays operations, not the scheduling.
 */
import { execFileSync } from 'node:child_process';
import { beforeAll, expect, it } from 'vitest';
import { seed } from '../support/seed.ts';
import { runStress } from './stress.ts';

const native = new URL('../../native', import.meta.url).pathname;

beforeAll(() => {
  execFileSync('make', ['-s', '-C', native, 'stress'], { stdio: ['ignore', 'ignore', 'inherit'] });
});

it.each([false, true])('nothing acknowledged is lost (kernel-mountable: %s)', async (kernelMountable) => {
  const overlayBytes = (kernelMountable ? 96 : 24) * 2 ** 20;
  const options = {
    seed: seed % 1e6,
    kernelMountable,
    overlayBytes,
    operations: 20_000,
    kills: 30,
    killsPerLook: 10,
  };
  const { operations, kills, looks, cutDone, cutUndone } = await runStress(options).catch((error) => {
    throw new Error(`DAXSERVE_SEED=${seed} draws the same operations again.\n${(error as Error).message}`);
  });
  expect(operations).toBeGreaterThanOrEqual(options.operations);
  expect(kills).toBeGreaterThanOrEqual(options.kills);
  expect(looks).toBeGreaterThan(1);
  // The kills hit processes at work.
  expect(cutDone + cutUndone).toBeGreaterThan(0);
});

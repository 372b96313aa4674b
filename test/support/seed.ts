/** Seeds of random tests: printed when a test fails, replayed with DAXSERVE_SEED. */
import fc from 'fast-check';

/** The seed of this run, a 31-bit integer. */
export const seed = Number(process.env.DAXSERVE_SEED ?? Math.floor(Math.random() * 0x7fffffff));

/** Runs a property; a failure says how to replay it. */
export async function holds(property: fc.IRawProperty<unknown>, numRuns = 200): Promise<void> {
  const result = await fc.check(property as fc.IAsyncProperty<unknown>, { seed, numRuns });
  if (!result.failed) return;
  throw new Error(`DAXSERVE_SEED=${seed} replays this.\n${fc.defaultReportMessage(result)}`, {
    cause: result.errorInstance,
  });
}

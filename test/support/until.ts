/** Waiting for what must come, by condition: a busy machine takes longer, and only what never comes reaches the limit. */
import { setTimeout as sleep } from 'node:timers/promises';

const limitMs = 60_000;

/** Resolves with what `attempt` returns once it throws no more; rejects with its last reason at the limit. */
export async function eventually<T>(attempt: () => T | Promise<T>): Promise<T> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    await sleep(5);
  }
}

/** Resolves once `condition` holds. @param what for the error, as in "it happened" */
export async function until(condition: () => boolean | Promise<boolean>, what = 'it happened'): Promise<void> {
  await eventually(async () => {
    if (!(await condition())) throw new Error(`Not within ${limitMs / 1000} s: ${what}.`);
  });
}

/** Goal: pages over keys give every item once, in order, and make no more of them than they show. Method: random keys, a sorted model. */
import { expect, test } from 'vitest';
import { pageOfKeys } from '../../server/paging.ts';
import { randomOf } from '../support/random.ts';
import { seed } from '../support/seed.ts';

test(`pages of keys (seed ${seed}, replay with DAXSERVE_SEED)`, () => {
  const random = randomOf(seed);
  for (const total of [0, 1, 9, 10, 11, 2000]) {
    const keys = [...new Set(Array.from({ length: total }, () => random(2 ** 32).toString(36)))];
    const limit = total < 20 ? 10 : 37;
    const seen: string[] = [];
    for (let after: string | undefined; ; ) {
      let made = 0;
      const page = pageOfKeys(keys, { limit, ...(after !== undefined && { after }) }, (key) => {
        made += 1;
        return { key };
      });
      expect([made, page.items.length <= limit]).toEqual([page.items.length, true]);
      seen.push(...page.items.map(({ key }) => key));
      if (page.next === undefined) break;
      after = page.next;
    }
    expect(seen).toEqual(keys.sort());
  }
});

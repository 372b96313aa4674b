/** Goal: so many work at a time, the others in their order, and who leaves the queue takes no place. Method: work that ends when told. */
import { expect, it } from 'vitest';
import { Gate } from '../../server/store/gate.ts';

class Works {
  readonly gate = new Gate(2);
  readonly begun: string[] = [];
  readonly #ends = new Map<string, () => void>();

  enter(name: string, signal = new AbortController().signal): Promise<string> {
    return this.gate.pass(signal, async () => {
      this.begun.push(name);
      await new Promise<void>((resolve) => this.#ends.set(name, resolve));
      return name;
    });
  }

  end(name: string): void {
    this.#ends.get(name)!();
  }
}

it('lets two in, and each next one in its order when a place is free', async () => {
  const works = new Works();
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => works.enter(name));
  expect(works.begun).toEqual(['a', 'b']);
  works.end('b');
  expect(await b).toBe('b');
  await expect.poll(() => works.begun).toEqual(['a', 'b', 'c']);
  works.end('a');
  expect(await a).toBe('a');
  await expect.poll(() => works.begun).toEqual(['a', 'b', 'c', 'd']);
  for (const name of ['c', 'd']) works.end(name);
  expect(await Promise.all([c, d])).toEqual(['c', 'd']);
});

it('who gives up while it waits rejects with the reason, and the next one gets the place', async () => {
  const works = new Works();
  const first = ['a', 'b'].map((name) => works.enter(name));
  const stop = new AbortController();
  const waiting = works.enter('c', stop.signal);
  const last = works.enter('d');
  stop.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  for (const name of ['a', 'b']) works.end(name);
  await Promise.all(first);
  await expect.poll(() => works.begun).toEqual(['a', 'b', 'd']);
  works.end('d');
  expect(await last).toBe('d');
  await expect(works.enter('e', stop.signal)).rejects.toThrow('enough');
});

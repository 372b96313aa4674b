/** Progress of a load: a bar that redraws itself on a terminal, a plain line now and then elsewhere. */
import { fullName } from '../model-name.ts';
import type { Model } from '../services.ts';
import { bytes, duration, printableText, screenOf } from './output.ts';

const BAR_CELLS = 24;
const PLAIN_INTERVAL_MS = 5000;

function bar(fraction: number): string {
  const filled = Math.round(fraction * BAR_CELLS);
  return `[${'#'.repeat(filled)}${'.'.repeat(BAR_CELLS - filled)}]`;
}

/** One line that says how far a model is. */
export function progressText(model: Model, withBar: boolean): string {
  const { phase, bytesDone, bytesTotal, bytesPerSecond, etaSeconds } = model.progress;
  const fraction = bytesTotal > 0 ? Math.min(1, bytesDone / bytesTotal) : 0;
  const rate = bytesPerSecond > 0 ? `  ${bytes(bytesPerSecond)}/s` : '';
  const eta = etaSeconds === null || bytesPerSecond === 0 ? '' : `  ${duration(etaSeconds)} left`;
  const amount = bytesTotal > 0 ? `${bytes(bytesDone)} of ${bytes(bytesTotal)}` : 'size unknown';
  const share = `${Math.floor(fraction * 100)} %`.padStart(5);
  return printableText(
    `${fullName(model)}  ${withBar ? `${bar(fraction)} ` : ''}${share}  ${phase}  ${amount}${rate}${eta}`,
  );
}

/** How a load ended. */
export function settledText(model: Model): string {
  if (model.error)
    return printableText(`${fullName(model)}  ${model.state}: ${model.error.detail} (${model.error.code})`);
  const seconds = model.loadSeconds === null ? '' : ` in ${duration(model.loadSeconds)}`;
  return printableText(`${fullName(model)}  ${model.state}, ${bytes(model.bytes)}${seconds}`);
}

/** Shows states of one model on a stream (standard error, so that standard output stays for results). */
export class ProgressView {
  readonly #out: NodeJS.WriteStream;
  #shownAt = 0;
  #phase = '';

  constructor(out: NodeJS.WriteStream = process.stderr) {
    this.#out = out;
  }

  update(model: Model): void {
    if (this.#out.isTTY) {
      const line = progressText(model, true).slice(0, screenOf(this.#out).columns - 1);
      this.#out.write(`\r${line}\x1b[K`);
      return;
    }
    const now = Date.now();
    const { phase } = model.progress;
    if (phase === this.#phase && now - this.#shownAt < PLAIN_INTERVAL_MS) return;
    this.#phase = phase;
    this.#shownAt = now;
    this.#out.write(`${progressText(model, false)}\n`);
  }

  finish(model: Model): void {
    this.#out.write(`${this.#out.isTTY ? '\r' : ''}${settledText(model)}${this.#out.isTTY ? '\x1b[K' : ''}\n`);
  }
}

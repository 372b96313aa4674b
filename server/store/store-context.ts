/** What the parts of the store share. */
import type { Region, Registry } from '../../daxfs/index.ts';
import type { SourcePolicy } from '../../loaders/index.ts';
import type { StoreEvent } from '../services.ts';
import type { ContentViews } from './content-views.ts';
import type { Damage } from './damage.ts';
import type { Gate } from './gate.ts';
import type { Holds } from './holds.ts';

/** The part of a pino logger that the store uses. */
export interface StoreLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface StoreContext {
  readonly region: Region;
  readonly registry: Registry;
  readonly holds: Holds;
  readonly views: ContentViews;
  readonly damage: Damage;
  /** Loads that read and copy at the same time. */
  readonly gate: Gate;
  readonly sources: SourcePolicy;
  /** May least recently used contents make room? */
  readonly evict: boolean;
  /** Silence after which a host of another kernel, and its workers, are taken for gone; milliseconds, Infinity: never. */
  readonly deadAfterMs: number;
  readonly log: StoreLog;
  now(): number;
  emit(event: StoreEvent): void;
}

/** Makes room for a load: least recently used, unheld, not kept contents go first. */
import type { Content } from '../../daxfs/index.ts';
import { isSound } from './names.ts';
import type { StoreContext } from './store-context.ts';

/** Contents that eviction may take now, least recently used first. */
export function evictable({ registry, holds }: StoreContext): Content[] {
  return registry
    .contents()
    .filter((content) => isSound(content) && !content.keep && !holds.isPinnedElsewhere(content))
    .filter((content) => !holds.mayBeHeld(content))
    .sort((a, b) => lastUse(a) - lastUse(b));
}

const lastUse = (content: Content) => Math.max(content.lastAccessMs, content.readyAtMs);
const imageBytes = (content: Content, chunkBytes: number) =>
  content.images.reduce((sum, image) => sum + image.chunkCount * chunkBytes, 0);

export function evictableBytes(context: StoreContext): number {
  return bytesOf(context, evictable(context));
}

const bytesOf = ({ region }: StoreContext, contents: readonly Content[]) =>
  contents.reduce((sum, content) => sum + imageBytes(content, region.chunkBytes), 0);

/** Evicts one content, if it may and can, and if evicting could make room at all. True when its chunks are free. */
export function evictOne(context: StoreContext, neededBytes: number): boolean {
  if (!context.evict) return false;
  const { registry, holds, views, log, region } = context;
  const candidates = evictable(context);
  if (bytesOf(context, candidates) + registry.chunkStats().free * region.chunkBytes < neededBytes) return false;
  for (const content of candidates) {
    // Somebody may have attached since we looked: then it stays.
    if (!registry.drain(content, { unpinned: true })) continue;
    const freed = holds.review(content);
    views.forget(content);
    if (!freed) continue;
    const bytes = imageBytes(content, region.chunkBytes);
    context.emit({ type: 'evicted', bytes });
    log.info({ event: 'content.evicted', digest: content.digest, bytes }, 'evicted a model to make room');
    return true;
  }
  return false;
}

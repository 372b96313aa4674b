/** Makes room for a load: least recently used, unheld, not kept contents go first. */
import type { Content } from '../../daxfs/index.ts';
import { isSound } from './names.ts';
import type { StoreContext } from './store-context.ts';

/** Contents that eviction may take now, least recently used first. */
export function evictable({ registry, holds }: StoreContext): Content[] {
  return registry
    .contents()
    .filter((content) => isSound(content) && !content.keep && !holds.isPinnedElsewhere(content))
    .filter((content) => !holds.isHeld(content))
    .sort((a, b) => lastUse(a) - lastUse(b));
}

const lastUse = (content: Content) => Math.max(content.lastAccessMs, content.readyAtMs);
const imageBytes = (content: Content, chunkBytes: number) =>
  content.images.reduce((sum, image) => sum + image.chunkCount * chunkBytes, 0);

export function evictableBytes(context: StoreContext): number {
  return evictable(context).reduce((sum, content) => sum + imageBytes(content, context.region.chunkBytes), 0);
}

/** Evicts one content, if it may and can. True when its chunks are free. */
export function evictOne(context: StoreContext, neededBytes: number): boolean {
  if (!context.evict) return false;
  const { registry, holds, views, log } = context;
  if (evictableBytes(context) + registry.chunkStats().free * context.region.chunkBytes < neededBytes) return false;
  for (const content of evictable(context)) {
    // Somebody may have attached since we looked: then it stays.
    if (!registry.drain(content, { unpinned: true })) continue;
    const freed = holds.review(content);
    views.forget(content);
    if (!freed) continue;
    const bytes = imageBytes(content, context.region.chunkBytes);
    context.emit({ type: 'evicted', bytes });
    log.info({ event: 'content.evicted', digest: content.digest, bytes }, 'evicted a model to make room');
    return true;
  }
  return false;
}

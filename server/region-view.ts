/** What the HTTP layer and the metrics see of the region. Both calls are cheap: no locks, no scan of the chunks. */
import type { HostInfo, RegionInfo } from './schemas/region.ts';

export interface RegionView {
  info(): RegionInfo;
  hosts(): HostInfo[];
}

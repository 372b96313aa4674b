/** The public names of the filesystem layer. */
export { type Backing, type BackingKind, openBacking, readDaxGeometry } from './backing.ts';
export { copyIntoRegion, type FileCopy } from './copy.ts';
export { chooseDefault, type DefaultBacking } from './default-backing.ts';
export { DAXFS_ERRORS, DaxfsError, daxfsError, type ErrorKind, type ErrorTable } from './errors.ts';
export { type ByteRange, Fence, type RangeLock, type ReadOnlyStrength } from './fence.ts';
export { type HostLock, type HostOnKernel, isHostDead, isRowLocked, takeHostRow } from './host.ts';
export { bootId, hostIdentity } from './host-identity.ts';
export { type ImagePlan, planImage } from './image-plan.ts';
export { type TreeEntry, withParents } from './image-tree.ts';
export { cgroupLimit, memoryAvailable } from './memory-limits.ts';
export { type OpenOrCreateOptions, Region, type RegionFacts } from './region.ts';
export { type CreateOptions, deleteRegion } from './region-create.ts';
export type { Coherence, RegionHeader } from './region-format.ts';
export type { Capacities, Geometry } from './region-layout.ts';
export type { OpenOptions } from './region-open.ts';
export { formatBytes, type NumaPlacement, parseNuma, parseSize } from './units.ts';

/** The public names of the filesystem layer. */
export { type Backing, type BackingKind, openBacking, readDaxGeometry } from './backing.ts';
export { type CheckOptions, type CheckReport, checkRegion } from './check/check.ts';
export type { ManifestReader } from './check/check-images.ts';
export {
  CHECK_RULES,
  type CheckCode,
  type CheckFinding,
  type CheckRule,
  type Severity,
  type Where,
} from './check/findings.ts';
export { type RepairOptions, type RepairReport, repairRegion } from './check/repair.ts';
export { contentFiles, contentFilesPaced, type FilePlace } from './content-files.ts';
export type { Content, ContentFields, ContentImage } from './content-row.ts';
export { copyIntoRegion, type FileCopy } from './copy.ts';
export { chooseDefault, type DefaultBacking, findDefault } from './default-backing.ts';
export { DAXFS_ERRORS, DaxfsError, daxfsError, type ErrorKind, type ErrorTable } from './errors.ts';
export { type ByteRange, Fence, type RangeLock, type ReadOnlyStrength } from './fence.ts';
export type { Data, DataParts, PathLike } from './fs/arguments.ts';
export type { CopyTreeOptions } from './fs/copy-tree.ts';
export type { RegionDir } from './fs/directory.ts';
export type { ReadFileOptions, RegionFileHandle, WriteFileOptions } from './fs/file-handle.ts';
export type { FsError } from './fs/fs-error.ts';
export type { PinnedBlock } from './fs/pinned-block.ts';
export { RegionFs } from './fs/region-fs.ts';
export type { MakeDirectoryOptions, NameOptions, ReadDirectoryOptions, StatOptions } from './fs/region-fs-sync.ts';
export type { RemoveOptions } from './fs/remove-tree.ts';
export type { RegionBigIntStats, RegionDirent, RegionStats } from './fs/stats.ts';
export type { ReadStreamOptions, WriteStreamOptions } from './fs/streams.ts';
export type { ReadOptions, TransferOptions } from './fs/transfer.ts';
export { type HostLock, type HostOnKernel, isHostDead, isRowLocked, takeHostRow, tryLockAttaching } from './host.ts';
export { bootId, hostIdentity, lockDomain } from './host-identity.ts';
export { type ImagePlan, planFilesPaced, planImage } from './image-plan.ts';
export { type TreeEntry, withParents } from './image-tree.ts';
export { cgroupLimit, memoryAvailable } from './memory-limits.ts';
export { type OpenedRegion, type OpenRegionOptions, openRegion } from './open-region.ts';
export { type OpenOrCreateOptions, Region, type RegionFacts } from './region.ts';
export { type CreateOptions, deleteRegion } from './region-create.ts';
export type { Coherence, RegionHeader } from './region-format.ts';
export { findBeating, type HostRow, readHostRow } from './region-hosts.ts';
export type { Capacities, Geometry } from './region-layout.ts';
export type { OpenOptions } from './region-open.ts';
export { type Host, Registry } from './registry.ts';
export { type RootImageOptions, writeRootImage } from './root-image.ts';
export { formatBytes, type NumaPlacement, parseNuma, parseSize } from './units.ts';

/** One look at everything but the images, and what two looks agree on: other hosts may be changing words meanwhile. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Mapping, native } from '../../native/index.ts';
import type { Backing } from '../backing.ts';
import { lockDomain } from '../host-identity.ts';
import { HOST_STATE, registryState } from '../layout.ts';
import type { RegionHeader } from '../region-format.ts';
import { hostRowOffset } from '../region-hosts.ts';
import { checkAnchors } from './anchors.ts';
import { checkChunks, checkState } from './check-chunks.ts';
import { checkContents } from './check-contents.ts';
import { checkFront } from './check-front.ts';
import { checkHosts, checkIntents } from './check-hosts.ts';
import { checkNames } from './check-names.ts';
import { confirmed, FindingList, type Seen } from './findings.ts';
import { type HostOracle, readTables, type Tables } from './tables.ts';

export interface CheckedRegion {
  backing: Backing;
  mapping: Mapping;
  header: RegionHeader;
}

/** Looks after the first at a region in which hosts live, and the pause before each: longer than any protocol step. */
const looksMax = 4;
const pauseMs = 60;

function oracleOf({ backing, header }: CheckedRegion): HostOracle {
  return {
    locked: (index) => native.ofdHeld(backing.fd, hostRowOffset(header, index), 1),
    ownBootId: lockDomain(backing).toString('hex'),
  };
}

export function lookAtTables(region: CheckedRegion): Tables {
  return readTables(region.mapping, region.header, oracleOf(region));
}

/** One look; nothing of it is proof where hosts live. */
function look(region: CheckedRegion): { tables: Tables; found: FindingList } {
  const { mapping, header } = region;
  const found = new FindingList();
  checkAnchors(mapping, header, found);
  const tables = lookAtTables(region);
  const { registryOffset, stateOffset } = header.geometry;
  checkState(mapping.read(registryOffset + stateOffset, registryState.size), tables, found);
  checkHosts(tables, found);
  checkContents(tables, found);
  checkChunks(tables, found);
  checkNames(tables, found);
  checkIntents(tables, found);
  checkFront(mapping, tables, found.counts.has('INTENT_DEAD'), found);
  return { tables, found };
}

function hasLiveHosts({ hosts, liveness }: Tables): boolean {
  return hosts.some(
    ({ index, bits }) => bits.state === HOST_STATE.LIVE && liveness(index, bits.generation ?? 0) === 'live',
  );
}

/** One look, for whoever has the region to himself. */
export function lookOnce(region: CheckedRegion): { tables: Tables; findings: readonly Seen[] } {
  const { tables, found } = look(region);
  return { tables, findings: found.list };
}

/** What every look saw, on the same words. */
export async function checkRegistry(region: CheckedRegion): Promise<{ tables: Tables; findings: readonly Seen[] }> {
  const first = look(region);
  let findings: readonly Seen[] = first.found.list;
  const looks = hasLiveHosts(first.tables) ? looksMax : 1;
  for (let more = 0; more < looks && findings.length > 0; more++) {
    if (looks > 1) await sleep(pauseMs);
    findings = confirmed(findings, look(region).found.list);
  }
  return { tables: first.tables, findings };
}

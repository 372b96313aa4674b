/** The operator's word that a host and all its workers are gone: what it held is given back. */
import { findBeating, type Host, isRowLocked, lockDomain, readHostRow } from '../../daxfs/index.ts';
import type { Recovered } from '../../native/index.ts';
import { serverError } from '../errors.ts';
import { emitRecovered, recoveredCounts } from './recovered.ts';
import type { StoreContext } from './store-context.ts';

/** What a fenced host had left. */
export type Fenced = Recovered & { name: string };

type FencingContext = Pick<StoreContext, 'region' | 'registry' | 'log' | 'emit'>;

function alive({ name, pid }: Host, where: string): Error {
  const text = `Host ${JSON.stringify(name)} is alive: process ${pid} on ${where}; stop it first.`;
  return serverError('HOST_ALIVE', text);
}

/** On this kernel the lock speaks, on another one the heartbeat. @throws ServerError HOST_ALIVE */
async function refuseAlive({ region, registry }: FencingContext, host: Host): Promise<void> {
  if (host.index === registry.hostIndex) throw alive(host, 'this machine, the one you are talking to');
  if (isRowLocked(region, host.index)) throw alive(host, 'this machine');
  if (host.state !== 'live') return;
  const { mapping, header } = region;
  if (await findBeating(mapping, header, [readHostRow(mapping, header, host.index)]))
    throw alive(host, 'another kernel');
}

/**
 * Fences the host of that name. Of one that died on this kernel the claims alone are undone: its workers may live, and the
 * locks tell when they are gone. Of one on another kernel the pins go too. Takes the region's heartbeat limit (5 s).
 * @throws ServerError HOST_NOT_FOUND, HOST_ALIVE
 */
export async function fenceHost(context: FencingContext, name: string): Promise<Fenced> {
  const { region, registry } = context;
  const host = registry.hosts().find((one) => one.name === name);
  if (!host)
    throw serverError('HOST_NOT_FOUND', `There is no host ${JSON.stringify(name)}; "daxserve hosts" lists them.`);
  await refuseAlive(context, host);
  const here = host.bootId === lockDomain(region).toString('hex');
  return declareDead(context, host, here ? 'dead' : 'gone', 'an operator says so');
}

/** Undoes the claims of a dead host; of one whose workers are `gone` as well the pins too. @param why for the log */
export function declareDead(context: FencingContext, host: Host, proof: 'dead' | 'gone', why: string): Fenced {
  const { registry, log, emit } = context;
  registry.lapse(host);
  const undone = registry.recover(host.index, proof);
  emitRecovered(emit, undone);
  const { name, index: row } = host;
  log.warn(
    { event: 'host.fenced', host: name, row, ...recoveredCounts(undone) },
    `a host is taken for ${proof}: ${why}`,
  );
  return { name, ...undone };
}

/** handles, hosts. */
import type { Command } from 'commander';
import { serverError } from '../errors.ts';
import { type ApiOptions, clientOf, withApi } from './api-options.ts';
import { print, table } from './output.ts';

async function listHandles(options: ApiOptions): Promise<void> {
  const handles = await clientOf(options).handles();
  print(options.json ?? false, handles, () =>
    table(
      ['ID', 'MODEL', 'KIND', 'PID', 'UID', 'EXPIRES'],
      handles.map(({ id, model, kind, worker, expiresAt }) => [
        id,
        model,
        kind,
        worker ? String(worker.pid) : '-',
        worker ? String(worker.uid) : '-',
        expiresAt ?? '-',
      ]),
    ),
  );
}

async function listHosts(options: ApiOptions): Promise<void> {
  const hosts = await clientOf(options).hosts();
  print(options.json ?? false, hosts, () =>
    table(
      ['ROW', 'NAME', 'STATE', 'PID', 'BOOT', 'ATTACHED'],
      hosts.map((host) => [
        String(host.row),
        host.self ? `${host.name} (this service)` : host.name,
        host.state,
        String(host.pid),
        host.bootId,
        host.attachedAt,
      ]),
    ),
  );
}

async function fence(name: string, options: ApiOptions & { yes?: boolean }): Promise<void> {
  if (!options.yes)
    throw serverError(
      'SERVER_BAD_CONFIG',
      `Fencing ${name} gives back what it and its workers held, also where they still read it; add --yes when they are gone.`,
    );
  const fenced = await clientOf(options).fenceHost(name);
  const { contents, chunks, names, pins } = fenced;
  print(
    options.json ?? false,
    fenced,
    () => `fenced ${name}: undid ${contents} loads, ${chunks} chunks, ${names} names, ${pins} pins`,
  );
}

export function addLeaseCommands(program: Command): void {
  withApi(program.command('handles').description('list leases')).action(listHandles);
  const hosts = withApi(program.command('hosts').description('list the services on this region')).action(listHosts);
  withApi(hosts.command('fence <name>').description('declare a host dead, so that what it held is given back'))
    .option('--yes', 'it and all its workers are gone for good')
    // The options of `hosts` have the same names and take them, wherever they stand.
    .action((name: string, _own, command: Command) => fence(name, command.optsWithGlobals()));
}

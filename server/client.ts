/** The HTTP API, typed, for the commands. */
import type { Static } from 'typebox';
import { DaxfsError } from '../daxfs/errors.ts';
import type { TensorInfo } from '../loaders/tensor.ts';
import { findCode } from './codes.ts';
import type { HandleInList } from './schemas/handle.ts';
import type { FencedHost, HostInfo, RegionInfo } from './schemas/region.ts';
import type { LoadRequest, Model } from './services.ts';

export type ListedHandle = Static<typeof HandleInList>;
type Query = Record<string, string | number | boolean | undefined>;

export const DEFAULT_URL = 'http://127.0.0.1:8420';

const CLIENT_ERRORS = {
  CLIENT_NO_SERVICE: { kind: 'unavailable', title: 'No service answers' },
  CLIENT_BAD_ANSWER: { kind: 'corrupt', title: 'The answer is not from daxserve' },
} as const;

function noService(url: string, cause: unknown): DaxfsError {
  const { cause: inner } = cause as { cause?: { code?: string } };
  const reason = inner?.code ?? (cause instanceof Error ? cause.message : String(cause));
  const message = `No daxserve service answers on ${url} (${reason}): start one with "daxserve serve", or give --url.`;
  return new DaxfsError(CLIENT_ERRORS, 'CLIENT_NO_SERVICE', message, { cause });
}

async function refusal(url: string, response: Response): Promise<DaxfsError> {
  const body: unknown = await response.json().catch(() => null);
  const { code, detail, ...extra } = (body ?? {}) as { code?: unknown; detail?: unknown } & Record<string, unknown>;
  if (typeof code !== 'string' || typeof detail !== 'string')
    return new DaxfsError(
      CLIENT_ERRORS,
      'CLIENT_BAD_ANSWER',
      `${url} answers ${response.status}, but not as daxserve.`,
    );
  const entry = findCode(code) ?? { kind: 'conflict' as const, title: String(extra.title ?? code) };
  return new DaxfsError({ [code]: entry }, code, detail, { extra });
}

function withQuery(path: string, query: Query): string {
  const given = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value !== undefined) given.set(key, String(value));
  return given.size === 0 ? path : `${path}?${given}`;
}

const modelPath = (name: string) => `/models/${encodeURIComponent(name)}`;

/** The `data` of server-sent events. @throws when the connection breaks */
async function* eventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let text = '';
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    const events = (text + chunk).split('\n\n');
    text = events.pop() ?? '';
    for (const event of events) {
      const data = /^data: (.*)$/m.exec(event)?.[1];
      if (data !== undefined) yield data;
    }
  }
}

export class ApiClient {
  readonly url: string;
  readonly #headers: Record<string, string>;

  constructor(url: string, token?: string) {
    this.url = url.replace(/\/+$/, '');
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  /** Starts, joins or finds. */
  load(request: LoadRequest): Promise<Model> {
    return this.#json('POST', '/models', request);
  }

  models(state?: string): Promise<Model[]> {
    return this.#all('/models', { state });
  }

  model(name: string): Promise<Model> {
    return this.#json('GET', modelPath(name));
  }

  tensors(name: string): Promise<TensorInfo[]> {
    return this.#all(`${modelPath(name)}/tensors`, { limit: 10_000 });
  }

  /** @returns null when the model is free already */
  async remove(name: string, drain: boolean): Promise<Model | null> {
    const response = await this.#send('DELETE', withQuery(modelPath(name), { drain: drain || undefined }));
    return response.status === 204 ? null : ((await response.json()) as Model);
  }

  retarget(name: string, digest: string): Promise<Model> {
    return this.#json('PUT', modelPath(name), { digest });
  }

  handles(): Promise<ListedHandle[]> {
    return this.#all('/handles', {});
  }

  hosts(): Promise<HostInfo[]> {
    return this.#all('/hosts', {});
  }

  /** Takes seconds: the service watches the host's heartbeat first. */
  fenceHost(name: string): Promise<FencedHost> {
    return this.#json('POST', `/hosts/${encodeURIComponent(name)}/fence`);
  }

  region(): Promise<RegionInfo> {
    return this.#json('GET', '/region');
  }

  health(): Promise<{ status: string; version: string }> {
    return this.#json('GET', '/healthz');
  }

  /** Every state of a model until it leaves `loading`. */
  async *watch(name: string): AsyncGenerator<Model> {
    const response = await this.#send('GET', `${modelPath(name)}/events`);
    try {
      for await (const data of eventData(response.body!)) yield JSON.parse(data) as Model;
    } catch (cause) {
      throw noService(this.url, cause);
    }
  }

  async #all<T>(path: string, query: Query): Promise<T[]> {
    const items: T[] = [];
    for (let after: string | undefined; ; ) {
      const page = await this.#json<{ items: T[]; next?: string }>(
        'GET',
        withQuery(path, { limit: path.startsWith('/hosts') ? 100 : 1000, ...query, after }),
      );
      items.push(...page.items);
      if (page.next === undefined) return items;
      after = page.next;
    }
  }

  async #json<T>(method: string, path: string, body?: unknown): Promise<T> {
    return (await (await this.#send(method, path, body)).json()) as T;
  }

  async #send(method: string, path: string, body?: unknown): Promise<Response> {
    const init = {
      method,
      headers: { ...this.#headers, ...(body !== undefined && { 'content-type': 'application/json' }) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    };
    let response: Response;
    try {
      response = await fetch(`${this.url}${path}`, init);
    } catch (cause) {
      throw noService(this.url, cause);
    }
    if (response.ok) return response;
    throw await refusal(this.url, response);
  }
}

/** Progress of a load as server-sent events. */
import type { ServerResponse } from 'node:http';
import Type from 'typebox';
import { ModelParams } from '../schemas/model.ts';
import { problems } from '../schemas/problem.ts';
import type { Model } from '../services.ts';
import type { App, Deps } from '../web.ts';

const HEARTBEAT_MS = 15_000;
/** A peer that takes nothing for this long is given up. */
const STALLED_MS = 60_000;

/** One open stream. A slow peer gets fewer events, never a backlog: only the newest state waits for it. */
class EventStream {
  readonly #response: ServerResponse;
  readonly #heartbeat: NodeJS.Timeout;
  #waiting: Model | null = null;
  #blockedSince: number | null = null;
  #ended = false;

  constructor(response: ServerResponse, onClose: () => void) {
    this.#response = response;
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS).unref();
    response.on('drain', () => this.#drained());
    response.once('close', () => {
      clearInterval(this.#heartbeat);
      onClose();
    });
  }

  send(model: Model): void {
    if (this.#ended) return;
    if (this.#blockedSince !== null) {
      this.#waiting = model;
      return;
    }
    const event = model.state === 'loading' ? 'progress' : 'settled';
    this.#write(`event: ${event}\ndata: ${JSON.stringify(model)}\n\n`);
    if (event === 'settled') this.end();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#response.end();
  }

  #write(text: string): void {
    if (!this.#response.write(text)) this.#blockedSince = Date.now();
  }

  #drained(): void {
    this.#blockedSince = null;
    const model = this.#waiting;
    this.#waiting = null;
    if (model) this.send(model);
  }

  #beat(): void {
    if (this.#blockedSince === null) this.#write(': still here\n\n');
    else if (Date.now() - this.#blockedSince > STALLED_MS) this.#response.destroy();
  }
}

export function eventRoutes(app: App, { lifecycle }: Deps): void {
  const streams = new Set<EventStream>();
  app.addHook('preClose', async () => {
    for (const stream of streams) stream.end();
  });
  app.get(
    '/models/:name/events',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['models'],
        operationId: 'watchModel',
        summary: 'Progress as server-sent events: `progress` with the model at each change, `settled` at the end',
        params: ModelParams,
        response: {
          200: {
            description: 'text/event-stream; ends when the model has left `loading`',
            content: { 'text/event-stream': { schema: Type.String() } },
          } as unknown as ReturnType<typeof Type.String>,
          ...problems(400, 401, 404, 500, 503),
        },
      },
    },
    async (request, reply) => {
      const { store } = lifecycle.services;
      const { name } = request.params;
      const model = await store.get(name);
      reply.hijack();
      reply.raw.writeHead(200, {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
      });
      let unwatch = () => {};
      const stream: EventStream = new EventStream(reply.raw, () => {
        streams.delete(stream);
        unwatch();
      });
      streams.add(stream);
      const send = (seen: Model) => stream.send(withoutFiles(seen));
      unwatch = store.watch(name, send);
      send(model);
    },
  );
}

/** Files can be many, and progress is sent often. */
function withoutFiles({ files: _, ...model }: Model): Model {
  return model;
}

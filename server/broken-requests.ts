/** Requests that break before any route sees them: a URL that cannot be decoded, bytes that are no HTTP. */
import type { Socket } from 'node:net';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { serverError } from './errors.ts';
import { problemOf, sendProblem } from './problem.ts';

const BAD_URL = 'The URL cannot be decoded: write it in UTF-8 with percent signs, and a / in a name as %2F.';
const LONG_URL = 'A part of the URL is longer than any name; send a shorter one.';

/** What Node's parser says -> status line and sentence. */
const REFUSALS: Partial<Record<string, readonly [status: string, sentence: string]>> = {
  HPE_HEADER_OVERFLOW: [
    '431 Request Header Fields Too Large',
    'The request has more than 16 KiB of headers; send fewer.',
  ],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'The request did not arrive in time; send it again.'],
};

function refuseUrl({ code }: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const sentence = code === 'FST_ERR_MAX_PARAM_LENGTH' ? LONG_URL : BAD_URL;
  sendProblem(request, reply, serverError('SERVER_BAD_REQUEST', sentence));
}

function refuseBytes({ code }: NodeJS.ErrnoException, socket: Socket): void {
  if (code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const [status, sentence] = REFUSALS[code ?? ''] ?? ['400 Bad Request', 'The bytes are no HTTP request; see /docs.'];
  const problem = { ...problemOf(serverError('SERVER_BAD_REQUEST', sentence)), status: Number.parseInt(status, 10) };
  const body = JSON.stringify(problem);
  const head = `HTTP/1.1 ${status}\r\ncontent-type: application/problem+json\r\ncontent-length: ${body.length}`;
  socket.end(`${head}\r\nconnection: close\r\n\r\n${body}`, () => socket.destroy());
}

/** Options for Fastify, which would answer these in a form of its own. */
export const brokenRequests = { frameworkErrors: refuseUrl, clientErrorHandler: refuseBytes };

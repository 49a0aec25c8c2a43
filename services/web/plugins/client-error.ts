import type { FastifyBaseLogger } from 'fastify'
import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import { problem, type ProblemError } from '#kernel/errors.ts'
import { problemBody } from './problem.ts'

/** Answers what is not even a request of HTTP, or came too slowly, and hangs up. */
export function clientErrors(log: FastifyBaseLogger) {
  return (error: Error & { code?: string }, socket: Socket): void => {
    if (error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) {
      socket.destroy()
      return
    }
    const told = describe(error)
    const requestId = randomUUID()
    log.info({ requestId, status: told.status, cause: error.code }, 'a request that cannot be read')
    const body = JSON.stringify(problemBody(told, { id: requestId, path: '' }))
    socket.end(
      `HTTP/1.1 ${told.status} ${told.title}\r\nConnection: close\r\nX-Request-Id: ${requestId}\r\n` +
        `Content-Type: application/problem+json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    )
  }
}

function describe(error: { code?: string }): ProblemError {
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') return problem('request_timeout', 'The request did not arrive in time.')
  if (error.code === 'HPE_HEADER_OVERFLOW') return problem('invalid_request', 'The address and the headers are too long.')
  return problem('invalid_request', 'This is not a request of HTTP/1.1.')
}

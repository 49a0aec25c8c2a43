/** What we use of memjs 1.3.2: its connection (with SASL) and its packets. Its Client is only measured against. */
declare module 'memjs' {
  import type { Socket } from 'node:net'

  export class Server {
    constructor(
      host: string,
      port: number,
      username?: string,
      password?: string,
      /** In seconds, but for keepAlive. */
      options?: { timeout?: number; conntimeout?: number; keepAlive?: boolean; keepAliveDelay?: number },
    )
    username: string | undefined
    password: string | undefined
    _socket: Socket | undefined
    /** Opens the socket if there is none and calls `go` once it is connected and authenticated. */
    sock(sasl: boolean, go: (socket: Socket) => void): void
    respond(response: unknown): void
    error(error: Error | string): void
    /** Takes what the socket brings. */
    responseHandler(chunk: Buffer): void
  }

  export class Client {
    static create(servers: string, options?: { timeout?: number }): Client
    get(key: string): Promise<{ value: Buffer | null }>
    set(key: string, value: Buffer, options: { expires: number }): Promise<boolean>
    close(): void
  }

  export const Utils: {
    makeRequestBuffer(
      opcode: number,
      key: string | Buffer,
      extras: string | Buffer,
      value: string | Buffer,
      opaque: number,
    ): Buffer
    makeExpiration(seconds: number): Buffer
    makeAmountInitialAndExpiration(amount: number, initial: number, seconds: number): Buffer
  }
}

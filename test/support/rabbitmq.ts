import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { startRabbitmq } from '../../scripts/stack/rabbitmq.ts'
import type { Rabbitmq } from '../../scripts/stack/rabbitmq.ts'
import { readServerPids } from '../../scripts/stack/server-pids.ts'
import { endWithUs, type Guard } from './guard.ts'

/** A RabbitMQ of one test file's own, to be used and abused. */
export interface TestBroker {
  port: number
  /** Makes a virtual host and gives its URL. */
  vhost: () => Promise<TestVhost>
  /** Runs rabbitmqctl. */
  control: (...args: string[]) => Promise<string>
  /** Stops the broker in an orderly way, or kills it; what is durable stays. */
  stop: () => Promise<void>
  kill: () => Promise<void>
  /** Starts it again on the same port. */
  start: () => Promise<void>
  /** Raises an alarm: the broker takes no publishes. */
  alarm: (alarm: Alarm) => Promise<void>
  /** Ends the alarm. */
  calm: (alarm: Alarm) => Promise<void>
}

/** What a broker can be short of. */
export type Alarm = 'memory' | 'disk'

export interface TestVhost {
  url: string
  /** Cuts every client's connection from the broker's side. */
  closeConnections: () => Promise<void>
  control: (...args: string[]) => Promise<string>
}

/** How rabbitmqctl brings each alarm about, by a limit that no machine keeps, and ends it. */
const ALARMS: Record<Alarm, { command: string; raise: string; end: string }> = {
  memory: { command: 'set_vm_memory_high_watermark', raise: '0.000001', end: '0.6' },
  disk: { command: 'set_disk_free_limit', raise: '1000000GB', end: '50MB' },
}

/** Starts a broker for this test file; it is stopped and removed at teardown. */
export async function startTestBroker(t: Test): Promise<TestBroker> {
  const directory = await mkdtemp(join(process.env.MONOGRAM_TEST_DIRECTORY ?? tmpdir(), 'rabbitmq-'))
  let server: Rabbitmq = await startRabbitmq({ directory })
  let guard = await guardOf(directory)
  t.teardown(async () => {
    guard.release()
    await server.kill()
    await rm(directory, { recursive: true, force: true })
  })
  const control = (...args: string[]): Promise<string> => server.control(...args)
  let vhosts = 0
  return {
    port: server.port,
    control,
    async vhost() {
      const name = `test-${++vhosts}`
      await control('add_vhost', name)
      await control('set_permissions', '-p', name, 'guest', '.*', '.*', '.*')
      return testVhost(server.url(name), (command, ...args) => control(command, '-p', name, ...args))
    },
    stop: () => server.stop(),
    kill: () => server.kill(),
    async start() {
      server = await startRabbitmq({ directory })
      guard.release()
      guard = await guardOf(directory)
    },
    async alarm(alarm) {
      await control(ALARMS[alarm].command, ALARMS[alarm].raise)
    },
    async calm(alarm) {
      await control(ALARMS[alarm].command, ALARMS[alarm].end)
    },
  }
}

/** Ends the broker and its port mapper with us. Release it before the broker ends in an orderly way. */
async function guardOf(directory: string): Promise<Guard> {
  const pids = await readServerPids(join(directory, 'server.pid'))
  return endWithUs(pids.map(({ pid }) => pid), 'KILL')
}

function testVhost(url: string, control: (command: string, ...args: string[]) => Promise<string>): TestVhost {
  return {
    url,
    control,
    async closeConnections() {
      await control('close_all_connections', 'by the test').catch(() => undefined)
    },
  }
}

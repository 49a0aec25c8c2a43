import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, LOOPBACK } from './free-port.ts'
import type { NeededPackage } from './packages.ts'
import { endServerPids, keepServerPids } from './server-pids.ts'

export interface RabbitmqOptions {
  /** Where the broker keeps everything; a broker that was stopped there goes on with its queues and its port. */
  directory: string
  /** True for a session of its own: a Ctrl-C in the terminal then reaches us and not it. */
  detached?: boolean
}

/** A RabbitMQ of our own, on the loopback address. */
export interface Rabbitmq {
  /** Its AMQP URL for a virtual host, which must exist; the default one when not said. */
  url: (vhost?: string) => string
  port: number
  /** Runs rabbitmqctl on it and gives what it printed. Throws with the complaint when it fails. */
  control: (...args: string[]) => Promise<string>
  /** Stops it in an orderly way; durable queues and their messages stay. Safe to call twice. */
  stop: () => Promise<void>
  /** Ends it with SIGKILL, as a machine that loses power. */
  kill: () => Promise<void>
}

/** What a broker remembers from one start to the next: its data goes with its name, and its clients with its port. */
interface Memory {
  name: string
  port: number
  distributionPort: number
  epmdPort: number
}

export const RABBITMQ_PACKAGE: NeededPackage = { command: 'rabbitmq-server', debian: 'rabbitmq-server', homebrew: 'rabbitmq' }
const MEMORY_FILE = 'server.json'
const PID_FILE = 'server.pid'
const START_DEADLINE_MS = 60_000
const STOP_DEADLINE_MS = 20_000
const LOG_LINES_TOLD = 20
/** Names a directory with the scripts of another RabbitMQ, to run in place of the one that is installed. */
const BIN_VARIABLE = 'MONOGRAM_RABBITMQ_BIN'
/** Where packages put the plain scripts; Debian's own wrapper in the PATH insists on its user and its files. */
const PLACES = [
  '/usr/lib/rabbitmq/bin',
  '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin',
  '/opt/homebrew/opt/rabbitmq/sbin',
  '/usr/local/opt/rabbitmq/sbin',
  '/home/linuxbrew/.linuxbrew/opt/rabbitmq/sbin',
]

/** True if a RabbitMQ that `startRabbitmq` can use is installed. */
export function isRabbitmqInstalled(): boolean {
  return findScripts() !== undefined
}

/**
 * Starts a private broker: own node name, data, log, cookie and port mapper, no plugins, nothing shared with a RabbitMQ
 * of the system. Works as root and as an ordinary user, with RabbitMQ 3.10 and later. One that still runs in the
 * directory, because whoever started it was killed, is stopped first.
 *
 * @throws Error when none is installed, or with the end of what it printed when it does not start
 */
export async function startRabbitmq({ directory, detached = false }: RabbitmqOptions): Promise<Rabbitmq> {
  const scripts = findScripts()
  if (scripts === undefined) throw new Error('RabbitMQ is not installed: its package is rabbitmq-server (Debian) or rabbitmq (Homebrew).')
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await endLeftoverRabbitmq(directory)
  const memory = await recall(directory)
  const env = environment(directory, memory)
  await writeFile(join(directory, 'rabbitmq.conf'), settings(memory))
  await writeFile(join(directory, 'enabled_plugins'), '[].\n')

  const epmd = spawn('epmd', ['-port', String(memory.epmdPort), '-address', LOOPBACK], { cwd: '/', stdio: 'ignore', detached })
  epmd.on('error', () => undefined)
  const server = spawn(join(scripts, 'rabbitmq-server'), [], { cwd: directory, env, stdio: ['ignore', 'pipe', 'pipe'], detached })
  const ended = new Promise<void>((resolve) => server.once('close', () => resolve()))
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    server.kill(signal)
    if (signal === 'SIGKILL') epmd.kill()
    const impatience = setTimeout(() => server.kill('SIGKILL'), STOP_DEADLINE_MS)
    await ended
    clearTimeout(impatience)
    epmd.kill()
    await rm(join(directory, PID_FILE), { force: true })
  }
  await keepServerPids(join(directory, PID_FILE), [
    { pid: server.pid ?? 0, mark: `-home ${directory} ` },
    { pid: epmd.pid ?? 0, mark: `-port ${memory.epmdPort} ` },
  ])
  try {
    await untilStarted(server)
  } catch (error) {
    await end('SIGKILL')
    throw error
  }
  for (const handle of [server, epmd, server.stdout, server.stderr]) unref(handle)
  return {
    url: (vhost = '/') => `amqp://guest:guest@${LOOPBACK}:${memory.port}/${encodeURIComponent(vhost)}`,
    port: memory.port,
    control: (...args) => runScript(join(scripts, 'rabbitmqctl'), ['--quiet', ...args], env),
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
  }
}

/** Stops the broker of `directory` if it still runs because whoever started it was killed; keeps what it has. */
export async function endLeftoverRabbitmq(directory: string): Promise<void> {
  await endServerPids(join(directory, PID_FILE), STOP_DEADLINE_MS)
}

/** Removes everything that a broker of that directory kept; stops it if it runs. */
export async function removeRabbitmq(directory: string): Promise<void> {
  await endLeftoverRabbitmq(directory)
  await rm(directory, { recursive: true, force: true })
}

function findScripts(): string | undefined {
  const said = process.env[BIN_VARIABLE]
  const inPath = (process.env.PATH ?? '').split(':').filter((place) => place !== '/usr/sbin')
  const places = said === undefined ? [...PLACES.flatMap((pattern) => globSync(pattern)), ...inPath] : [said]
  return places.find((place) => existsSync(join(place, 'rabbitmqctl')) && existsSync(join(place, 'rabbitmq-server')))
}

/** Ports that somebody else took meanwhile are replaced; the name stays. */
async function recall(directory: string): Promise<Memory> {
  const file = join(directory, MEMORY_FILE)
  const text = await readFile(file, 'utf8').catch(() => '')
  const kept = text === '' ? undefined : (JSON.parse(text) as Memory)
  const port = await freePort(kept?.port)
  const distributionPort = await freePort(kept?.distributionPort)
  const memory = { name: kept?.name ?? `monogram-${port}`, port, distributionPort, epmdPort: await freePort(kept?.epmdPort) }
  await writeFile(file, JSON.stringify(memory))
  return memory
}

/** The broker's whole environment: nothing of the shell's may change how it behaves. */
function environment(directory: string, { name, port, distributionPort, epmdPort }: Memory): NodeJS.ProcessEnv {
  const absent = join(directory, 'absent')
  return {
    PATH: process.env.PATH,
    HOME: directory,
    LC_ALL: 'C.UTF-8',
    TZ: 'UTC',
    // Makes the script become the server, so that our signals reach it.
    RUNNING_UNDER_SYSTEMD: 'true',
    RABBITMQ_NODENAME: `${name}@localhost`,
    RABBITMQ_NODE_PORT: String(port),
    RABBITMQ_NODE_IP_ADDRESS: LOOPBACK,
    RABBITMQ_DIST_PORT: String(distributionPort),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: `-kernel inet_dist_use_interface {${LOOPBACK.replaceAll('.', ',')}}`,
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: LOOPBACK,
    RABBITMQ_MNESIA_BASE: join(directory, 'data'),
    RABBITMQ_LOG_BASE: join(directory, 'log'),
    RABBITMQ_GENERATED_CONFIG_DIR: join(directory, 'config'),
    RABBITMQ_SCHEMA_DIR: join(directory, 'schema'),
    RABBITMQ_CONFIG_FILE: join(directory, 'rabbitmq.conf'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'enabled_plugins'),
    RABBITMQ_ADVANCED_CONFIG_FILE: absent,
    RABBITMQ_CONF_ENV_FILE: absent,
  }
}

/** A write-ahead log of 512 MB, the default, is for machines that do nothing else. */
function settings({ port }: Memory): string {
  return [
    `listeners.tcp.default = ${LOOPBACK}:${port}`,
    'log.file.level = warning',
    'log.console = true',
    'log.console.level = error',
    'disk_free_limit.absolute = 50MB',
    'raft.wal_max_size_bytes = 67108864',
    '',
  ].join('\n')
}

/** The streams of a child are sockets, which is not in their type. */
function unref(handle: object): void {
  ;(handle as { unref?: () => void }).unref?.()
}

async function untilStarted(server: ChildProcess): Promise<void> {
  let printed = ''
  const started = Promise.withResolvers<undefined>()
  const tail = (): string => printed.split('\n').slice(-LOG_LINES_TOLD).join('\n')
  for (const stream of [server.stdout, server.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      printed = (printed + text).slice(-64_000)
      if (/completed with \d+ plugins/.test(printed)) started.resolve(undefined)
    })
  }
  server.once('error', started.reject)
  server.once('close', () => started.reject(new Error(`RabbitMQ ended while it started.\n${tail()}`)))
  const late = setTimeout(() => started.reject(new Error(`RabbitMQ has not started in time.\n${tail()}`)), START_DEADLINE_MS)
  await started.promise.finally(() => clearTimeout(late))
}

async function runScript(file: string, args: string[], env: NodeJS.ProcessEnv): Promise<string> {
  const child = spawn(file, args, { cwd: '/', env, stdio: ['ignore', 'pipe', 'pipe'] })
  let printed = ''
  let complaints = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaints += text))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve(printed)
      else reject(new Error(`rabbitmqctl ${args.join(' ')} ended with ${String(code)}.\n${(complaints || printed).trim()}`))
    })
  })
}

import { Command, InvalidArgumentError } from 'commander'

/** What `scripts/dev` was asked for. */
export interface DevOptions {
  port: number
  fresh: boolean
  demo: boolean
  /** All levers on, with data of their own. */
  full: boolean
  /** How many of each process type of the Procfile. */
  counts: Map<string, number>
}

const PORT_DEFAULT = 3000
const PORT_MAX = 65_535
const COUNT_MAX = 50

const HELP = `
With --full the levers are on: two PostgreSQL nodes with a replica each, PgBouncer before all four, three memcached,
RabbitMQ and an S3 server, each a private server on a port that it keeps. Missing packages (postgresql, pgbouncer,
memcached, rabbitmq-server) are installed, which takes root or a sudo without password on Debian, Homebrew on a Mac. As pictures are then in S3 and not on the disk, --full has data of its own (.monogram/full):
each of the two stacks finds what it had, whichever ran in between.`

/** Reads the command line; every process type has an option of its own. Prints help or a mistake, and exits, itself. */
export function readDevOptions(argv: readonly string[], types: readonly string[]): DevOptions {
  const command = new Command('scripts/dev')
    .description('Installs what is missing, starts PostgreSQL, migrates, and runs every process of the Procfile until Ctrl-C.')
    .option('--port <port>', 'port of the API; web.2 takes the next, and so on', wholeNumber(1, PORT_MAX), PORT_DEFAULT)
    .option('--full', 'with every lever on, and with data of its own (see below)', false)
    .option('--fresh', 'first remove all data of this checkout (with --full: that of --full, else all other)', false)
    .option('--demo', 'fill it with people, follows and pictures, and show how to look at them', false)
  for (const type of types) command.option(`--${type} <count>`, `how many ${type} processes`, wholeNumber(0, COUNT_MAX), 1)
  command.addHelpText('after', HELP).showHelpAfterError().parse(argv)
  // Not the camel-cased keys of opts(): a type is what the Procfile calls it.
  const counts = new Map(types.map((type) => [type, optionValue(command, type)]))
  const { port, fresh, demo, full } = command.opts<Omit<DevOptions, 'counts'>>()
  return { port, fresh, demo, full, counts }
}

function optionValue(command: Command, name: string): number {
  const option = command.options.find(({ long }) => long === `--${name}`)
  return Number(command.getOptionValue(option?.attributeName() ?? name))
}

function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^\d+$/.test(text) || value < min || value > max) throw new InvalidArgumentError(`Not a whole number from ${min} to ${max}.`)
    return value
  }
}

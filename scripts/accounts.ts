import { Argument, Command } from 'commander'
import { findAccountByUsername, setRole } from '#domain/accounts/accounts.queries.ts'
import { normaliseUsername } from '#domain/accounts/accounts.rules.ts'
import type { AccountRole } from '#domain/accounts/accounts.table.ts'
import type { Database } from '#domain/database.ts'
import { loadLogLevel, loadNodes } from '#platform/config/config.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { openRouter } from '#platform/postgres/router.ts'

const program = new Command('accounts').description('What operators change about accounts.').addHelpText(
  'after',
  '\nReads DATABASE_URL, or the variables that DATABASE_NODES lists.',
)

program
  .command('role')
  .description('makes an account a moderator, or a member again; it is so within five seconds')
  .argument('<username>')
  .addArgument(new Argument('<role>').choices(['moderator', 'member']))
  .action(changeRole)

program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`accounts: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})

async function changeRole(name: string, role: AccountRole): Promise<void> {
  const log = createLogger({ process: 'accounts', level: loadLogLevel(process.env) })
  const nodes = loadNodes(process.env)
  const router = await openRouter<Database>({ nodes, poolMax: 1, applicationName: 'monogram accounts' }, log)
  try {
    const account = await findAccountByUsername(router, normaliseUsername(name) ?? '')
    if (account === undefined) throw new Error(`there is no account ${name}`)
    await setRole(router, account.id, role)
    process.stdout.write(`${account.username} is a ${role}\n`)
  } finally {
    await router.close()
  }
}

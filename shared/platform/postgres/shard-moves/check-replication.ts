import { probeServer } from '../probe-server.ts'
import type { Ends } from './align-rows.ts'
import type { AnnouncedMove } from './announcements.ts'
import { ShardRefusedError } from './shard-refused.ts'

interface SourceFacts {
  readonly version: number
  readonly walLevel: string
  readonly mayReplicate: boolean
  readonly mayPublish: boolean
  readonly freeSlots: number
  readonly freeSenders: number
}

interface TargetFacts {
  readonly version: number
  readonly isSuperuser: boolean
  readonly maySubscribe: boolean
}

/** Of publications: those with conditions for rows, which 15 brought. */
const VERSION_MIN = 150_000
/** Before, only a superuser subscribes. */
const SUBSCRIBER_ROLE_VERSION = 160_000

const SOURCE_FACTS = `
  select current_setting('server_version_num')::int as version, current_setting('wal_level') as "walLevel",
    r.rolsuper or r.rolreplication as "mayReplicate",
    has_database_privilege(current_database(), 'create') as "mayPublish",
    current_setting('max_replication_slots')::int - (select count(*)::int from pg_replication_slots) as "freeSlots",
    current_setting('max_wal_senders')::int
      - (select count(*)::int from pg_stat_activity where backend_type = 'walsender') as "freeSenders"
  from pg_roles r where r.rolname = current_user`
const TARGET_FACTS = `
  select current_setting('server_version_num')::int as version, r.rolsuper as "isSuperuser",
    has_database_privilege(current_database(), 'create') and exists (
      select from pg_roles s where s.rolname = 'pg_create_subscription' and pg_has_role(s.oid, 'member')) as "maySubscribe"
  from pg_roles r where r.rolname = current_user`

/**
 * Makes sure that a shard may go from one node to the other by logical replication.
 *
 * @param needed how many tables are replicated: each takes a slot of its own while its rows are copied, and one all of them
 * @throws ShardRefusedError that says what is in the way and what to do about it; Error when a server does not answer
 */
export async function checkReplication(
  ends: Ends,
  move: Pick<AnnouncedMove, 'source' | 'target'>,
  sourceUrl: string,
  tables: number,
): Promise<void> {
  const refuse = (reason: string, cure: string): never => {
    throw new ShardRefusedError(`Replication is not to be had: ${reason}. ${cure}, or move without --via replication.`)
  }
  const { source, target } = move
  if ((await probeServer({ name: source, url: sourceUrl })).isPooled) {
    refuse(`the URL of ${source} leads to a pooler`, `Name a variable with the server's own in ${source}_DIRECT`)
  }
  const [there] = await ends.source.query<SourceFacts>(SOURCE_FACTS)
  const [here] = await ends.target.query<TargetFacts>(TARGET_FACTS)
  if (there === undefined || here === undefined) throw new Error('A node does not know our role.')
  if (Math.min(there.version, here.version) < VERSION_MIN) refuse('it takes PostgreSQL 15 on both nodes', 'Upgrade them')
  if (there.walLevel !== 'logical') refuse(`wal_level of ${source} is ${there.walLevel}`, 'Set it to logical and restart that server')
  if (!there.mayReplicate) refuse(`our role on ${source} may not replicate`, 'Let a superuser say ALTER ROLE … REPLICATION there')
  if (!there.mayPublish) refuse(`our role may not publish on ${source}`, 'Let the owner say GRANT CREATE ON DATABASE … there')
  const needed = tables + 1
  if (there.freeSlots < needed) {
    refuse(`${source} has ${there.freeSlots} free replication slots of the ${needed} it takes`, 'Drop unused ones, or raise max_replication_slots')
  }
  if (there.freeSenders < needed) {
    refuse(`${source} has ${there.freeSenders} free WAL senders of the ${needed} it takes`, 'Raise max_wal_senders')
  }
  if (here.isSuperuser) return
  if (here.version < SUBSCRIBER_ROLE_VERSION) refuse(`only a superuser may subscribe on ${target} up to PostgreSQL 15`, `Give the command a superuser's URL`)
  if (!here.maySubscribe) {
    refuse(`our role may not subscribe on ${target}`, 'Let a superuser say GRANT pg_create_subscription TO … and GRANT CREATE ON DATABASE … there')
  }
}

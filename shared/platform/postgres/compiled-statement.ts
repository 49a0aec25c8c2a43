import { createHash } from 'node:crypto'
import {
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type Compilable,
} from 'kysely'

/** Runs a statement that was compiled when it was declared, with these parameters, in the order of its `$1`, `$2`, … */
export type CompiledStatement<DB, Row> = (db: Kysely<DB>, parameters: readonly unknown[]) => Promise<Row[]>

const NAME_HEX_DIGITS = 24

/** Its result changes with the table, where a prepared statement's must not. */
const STAR = /(select|returning|,) \*|"\.\*/i

/** Names by text. Statements are declared where modules load, so there are few, and they stay. */
const names = new Map<string, string>()

/**
 * Declares a hot statement: built once, and prepared under a name on each connection of a pool that allows it.
 * It takes all its values as parameters: whatever `build` puts in their place only holds it.
 *
 * @throws TypeError for `select *`; when run, for another number of parameters than it has
 */
export function compileStatement<DB, Row>(build: (db: Kysely<DB>) => Compilable<Row>): CompiledStatement<DB, Row> {
  const compiled = build(builder<DB>()).compile()
  if (STAR.test(compiled.sql)) throw new TypeError(`A prepared statement lists its columns: ${compiled.sql}`)
  // Named by what it says: behind a pooler two releases share connections, and their statements may differ.
  const name = `m_${createHash('sha256').update(compiled.sql).digest('hex').slice(0, NAME_HEX_DIGITS)}`
  names.set(compiled.sql, name)
  return async (db, parameters) => {
    if (parameters.length !== compiled.parameters.length) {
      throw new TypeError(`${parameters.length} parameters, not ${compiled.parameters.length}, for ${compiled.sql}`)
    }
    return (await db.executeQuery<Row>({ ...compiled, parameters })).rows
  }
}

/** The name of a compiled statement; undefined for any other. */
export function statementName(text: string): string | undefined {
  return names.get(text)
}

/** A handle that compiles and never connects. */
function builder<DB>(): Kysely<DB> {
  return new Kysely<DB>({
    dialect: {
      createAdapter: () => new PostgresAdapter(),
      createDriver: () => new DummyDriver(),
      createIntrospector: (db) => new PostgresIntrospector(db),
      createQueryCompiler: () => new PostgresQueryCompiler(),
    },
  })
}

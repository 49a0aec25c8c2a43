import { sql, type Kysely, type RawBuilder } from 'kysely'
import type { CompiledStatement } from './compiled-statement.ts'

/** A statement asks for so many keys at most; a tick that asks for more sends several. */
export const BATCH_KEYS = 500

/**
 * Reads rows by key, all that one tick asks of a node in one statement, which is sent when the tick ends: what a call
 * gets was read after the call, so a cache may be filled with it. Rows are shared by whoever asked for them in that
 * tick, and not to be changed.
 */
export interface GatheredRead<DB, Key, Row> {
  /** @throws whatever PostgreSQL says of the statement, the same for all who asked */
  one(db: Kysely<DB>, key: Key): Promise<Row | undefined>
  /** Those that exist, in the order of the keys. @throws as `one` */
  many(db: Kysely<DB>, keys: readonly Key[]): Promise<Row[]>
}

export interface GatheredReadOptions<DB, Key, Row> {
  readonly statement: CompiledStatement<DB, Row>
  readonly parametersOf: (keys: readonly Key[]) => readonly unknown[]
  /** What tells a row: unique on a node. */
  readonly idOfKey: (key: Key) => bigint
  readonly idOfRow: (row: Row) => bigint
}

/** What was asked in this tick, still to be sent. */
interface Batch<Key, Row> {
  readonly keys: Key[]
  readonly answer: PromiseWithResolvers<ReadonlyMap<bigint, Row>>
}

export function gatheredRead<DB, Key, Row>(options: GatheredReadOptions<DB, Key, Row>): GatheredRead<DB, Key, Row> {
  const { statement, parametersOf, idOfKey, idOfRow } = options
  const open = new WeakMap<Kysely<DB>, Batch<Key, Row>>()

  async function read(db: Kysely<DB>, keys: readonly Key[]): Promise<ReadonlyMap<bigint, Row>> {
    const rows = await statement(db, parametersOf(keys))
    return new Map(rows.map((row) => [idOfRow(row), row]))
  }

  function send(db: Kysely<DB>, batch: Batch<Key, Row>): void {
    if (open.get(db) !== batch) return
    open.delete(db)
    batch.answer.resolve(read(db, batch.keys))
  }

  /** Adds a key to the tick's batch; gives what the batch will hold. */
  function ask(db: Kysely<DB>, key: Key): Promise<ReadonlyMap<bigint, Row>> {
    let batch = open.get(db)
    if (batch === undefined) {
      const opened: Batch<Key, Row> = { keys: [], answer: Promise.withResolvers() }
      open.set(db, opened)
      setImmediate(() => send(db, opened))
      batch = opened
    }
    batch.keys.push(key)
    if (batch.keys.length === BATCH_KEYS) send(db, batch)
    return batch.answer.promise
  }

  return {
    one: async (db, key) => (await ask(db, key)).get(idOfKey(key)),
    async many(db, keys) {
      const answers = await Promise.all(new Set(keys.map((key) => ask(db, key))))
      return keys.flatMap((key) => {
        for (const rows of answers) {
          const row = rows.get(idOfKey(key))
          if (row !== undefined) return [row]
        }
        return []
      })
    },
  }
}

/** A gathered read by a table's id. @param statement takes the ids as `anyId()` */
export function gatheredById<DB, Row extends { readonly id: bigint }>(
  statement: CompiledStatement<DB, Row>,
): GatheredRead<DB, Row['id'], Row> {
  return gatheredRead({
    statement,
    parametersOf: (ids) => [int8Array(ids)],
    idOfKey: (id) => id,
    idOfRow: (row) => row.id,
  })
}

/** `any($n)` of a compiled statement, for a parameter made by `int8Array`. */
export function anyId<Id extends bigint>(): RawBuilder<Id> {
  return sql<Id>`any(${'{}'}::bigint[])`
}

/** Integers as PostgreSQL reads a bigint[]: pg would quote every element. */
export function int8Array(values: readonly bigint[]): string {
  return `{${values.join(',')}}`
}

import type { Kysely } from 'kysely'
import type { ReplicaSet } from './replica-set.ts'

/** One PostgreSQL server and its replicas. */
export interface Node<DB> {
  readonly name: string
  readonly primary: Kysely<DB>
  /** Null when it has none, or none that this process reads. */
  readonly replicas: ReplicaSet<DB> | null
}

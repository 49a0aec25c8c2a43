import type { Kysely } from 'kysely'
import type { ReplicaSet } from './replica-set.ts'

/** One PostgreSQL server, for those who leave its replicas alone. */
export interface PrimaryNode<DB> {
  readonly name: string
  readonly primary: Kysely<DB>
}

/** One PostgreSQL server and its replicas. */
export interface Node<DB> extends PrimaryNode<DB> {
  /** Null when it has none, or none that this process reads. */
  readonly replicas: ReplicaSet<DB> | null
}

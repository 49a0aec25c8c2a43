import type { AppRouter, Db } from '#domain/database.ts'

/**
 * Runs `work` on every node at the same time and to its end on each, so that one node that is down holds back
 * none of the others.
 *
 * @throws the error of the first node (in the router's order) whose work failed
 */
export async function eachNode(router: AppRouter, work: (db: Db) => Promise<void>): Promise<void> {
  const outcomes = await Promise.allSettled(router.nodes.map((node) => work(node.primary)))
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
}

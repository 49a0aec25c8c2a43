import type { Verdict } from './photos.table.ts'

const SEVERITY: Record<Verdict, number> = { clean: 0, review: 1, reject: 2 }

/** The verdict on a photo that several screens have judged: the worst wins, and what nobody objects to is clean. */
export function worstVerdict(verdicts: Iterable<Verdict>): Verdict {
  let worst: Verdict = 'clean'
  for (const verdict of verdicts) if (SEVERITY[verdict] > SEVERITY[worst]) worst = verdict
  return worst
}

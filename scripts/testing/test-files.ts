import { globSync } from 'node:fs'

/** The kinds of tests. */
export const STAGES = ['unit', 'integration', 'system', 'faults'] as const

export type Stage = (typeof STAGES)[number]

/** The longest a file may take. */
export const FILE_SECONDS_MAX: Record<Stage, number> = { unit: 120, integration: 120, system: 600, faults: 600 }

/** Files that assert how long something takes: what runs beside them must not count. */
const ALONE = ['faults/broker-alarm', 'faults/broker-outage', 'faults/cache-outage', 'faults/cache-outage-over-http']

/** The longest of the others, in their order: nothing should be left to wait for one that began last. */
export const LONG = [
  'faults/random-kills',
  'system/feed-model',
  'system/levers',
  'system/levers-of-data',
  'faults/moving-shards',
  'system/upload-to-feed-on-tiers',
  'system/upload-to-feed',
  'system/dev-full',
  'faults/failover',
  'system/dev',
  'system/git-push',
  'system/read-your-writes',
  'faults/killed-workers',
  'faults/broker-jobs',
  'faults/killed-while-moving',
  'faults/moving-nodes',
  'faults/terminated',
]

/** The test files of one stage, sorted. */
export function filesOf(stage: Stage): string[] {
  return globSync(`test/${stage}/**/*.test.ts`).sort()
}

/** The stage a file belongs to by its folder. Throws for a file that is not a test of ours. */
export function stageOf(file: string): Stage {
  const stage = STAGES.find((name) => new RegExp(`(^|/)test/${name}/.*\\.test\\.ts$`).test(file))
  if (stage === undefined) throw new Error(`${file} is not a test: tests are test/{${STAGES.join(',')}}/**/*.test.ts`)
  return stage
}

export function isAlone(file: string): boolean {
  return ALONE.includes(nameOf(file))
}

/** Units first, as they are quick and tell most; then the longest, and integration last, as its files fill every gap. */
export function inOrder(files: readonly string[]): string[] {
  const rankOf = (file: string): number => {
    const stage = stageOf(file)
    if (stage === 'unit') return 0
    const long = LONG.indexOf(nameOf(file))
    if (long >= 0) return 1 + long
    return 1 + LONG.length + (stage === 'integration' ? 1 : 0)
  }
  return files.toSorted((a, b) => rankOf(a) - rankOf(b))
}

/** A test file's name as the lists above have it. */
function nameOf(file: string): string {
  return /(?:^|\/)test\/(.*)\.test\.ts$/.exec(file)?.[1] ?? file
}

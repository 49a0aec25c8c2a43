import { globSync } from 'node:fs'

/** The kinds of tests, in the order they run: what is quick and tells most comes first. */
export const STAGES = ['unit', 'integration', 'system', 'faults'] as const

export type Stage = (typeof STAGES)[number]

export interface StageLimits {
  /** Files at the same time: those that start a whole system each get the machine for themselves. */
  jobs: number
  /** The longest a file may take. */
  fileTimeoutSeconds: number
}

export const STAGE_LIMITS: Record<Stage, StageLimits> = {
  unit: { jobs: 2, fileTimeoutSeconds: 120 },
  integration: { jobs: 2, fileTimeoutSeconds: 120 },
  system: { jobs: 1, fileTimeoutSeconds: 600 },
  faults: { jobs: 1, fileTimeoutSeconds: 600 },
}

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

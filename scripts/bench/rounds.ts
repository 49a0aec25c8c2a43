/** Rounds that count, after one that only warms up. */
const ROUNDS = 5

export interface RoundsOptions {
  readonly rounds?: number
}

/** How one case did. */
export interface Rate {
  readonly name: string
  /** Median of the rounds. */
  readonly perSecond: number
  /** To the first case: the median of the ratios within each round, which the machine's moods hardly move. */
  readonly ratio: number
}

/**
 * Runs every case once a round, the rounds interleaved and each beginning with another case, so that what disturbs
 * the machine for a while disturbs all alike.
 * @param cases what to compare, the ceiling first; each gives its own rate per second
 */
export async function compareRounds(
  cases: Readonly<Record<string, () => number | Promise<number>>>,
  { rounds = ROUNDS }: RoundsOptions = {},
): Promise<Rate[]> {
  const entries = Object.entries(cases)
  const ratesOf = entries.map((): number[] => [])
  for (let round = 0; round <= rounds; round++) {
    for (let turn = 0; turn < entries.length; turn++) {
      const at = (round + turn) % entries.length
      const rate = await entries[at]?.[1]()
      if (round > 0 && rate !== undefined) ratesOf[at]?.push(rate)
    }
  }
  const ceilings = ratesOf[0] ?? []
  return entries.map(([name], at) => {
    const rates = ratesOf[at] ?? []
    const ratios = rates.map((rate, round) => rate / (ceilings[round] ?? NaN))
    return { name, perSecond: median(rates), ratio: median(ratios) }
  })
}

/**
 * Compares cases that only do their work: each is timed.
 * @param items how many of what is counted one run of any case does
 */
export function medianRates(
  items: number,
  cases: Readonly<Record<string, () => unknown>>,
  options?: RoundsOptions,
): Promise<Rate[]> {
  const timed = Object.entries(cases).map(([name, run]) => [name, () => timeRate(items, run)] as const)
  return compareRounds(Object.fromEntries(timed), options)
}

/** Runs `run` once, awaiting what it returns; gives items per second. */
export async function timeRate(items: number, run: () => unknown): Promise<number> {
  const startMs = performance.now()
  await run()
  return (items / (performance.now() - startMs)) * 1_000
}

/** Prints a table: what is counted, then a line per case with its median and its ratio to the first. */
export function printRates(title: string, rates: readonly Rate[]): void {
  const width = Math.max(title.length, ...rates.map((rate) => rate.name.length))
  const lines = rates.map(
    ({ name, perSecond, ratio }) => `${name.padEnd(width)}  ${format(perSecond).padStart(12)}  ${ratio.toFixed(2).padStart(6)}`,
  )
  console.log([`${title.padEnd(width)}  ${'median'.padStart(12)}  ${'ratio'.padStart(6)}`, ...lines, ''].join('\n'))
}

/** The ratio of one case to another, from a comparison's figures. @throws RangeError if a name is not in it */
export function ratioBetween(rates: readonly Rate[], name: string, other: string): number {
  const [one, two] = [name, other].map((wanted) => rates.find((rate) => rate.name === wanted))
  if (one === undefined || two === undefined) throw new RangeError(`there is no case ${name} or ${other}`)
  return one.ratio / two.ratio
}

function format(rate: number): string {
  const digits = rate < 10 ? 2 : rate < 1_000 ? 1 : 0
  return rate.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2
}

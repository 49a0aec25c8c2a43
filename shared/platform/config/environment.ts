/** A variable of the environment that is missing or that we cannot use; several are reported at once. */
export class ConfigError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(`The environment is not usable:\n${problems.map((line) => `  - ${line}`).join('\n')}`)
    this.name = 'ConfigError'
    this.problems = problems
  }
}

export type Environment = Readonly<Record<string, string | undefined>>

/** Reads one variable at a time, and collects what is wrong so that one boot names every bad variable. */
export interface EnvironmentReader {
  text(name: string, fallback?: string): string
  optionalText(name: string): string | null
  integer(name: string, bounds: { min: number; max: number; fallback: number }): number
  optionalInteger(name: string, bounds: { min: number; max: number }): number | null
  fraction(name: string, fallback: number): number
  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T
  list(name: string): string[]
  refuse(name: string, reason: string): void
  /** @throws ConfigError naming every variable refused so far */
  finish(): void
}

/** An empty variable counts as absent, as hosts cannot always unset one. */
export function readEnvironment(env: Environment): EnvironmentReader {
  const problems: string[] = []
  const value = (name: string): string | undefined => env[name]?.trim() || undefined
  const refuse = (name: string, reason: string): void => {
    problems.push(`${name} ${reason}`)
  }

  function number(name: string, text: string, bounds: { min: number; max: number }): number {
    const parsed = Number(text)
    if (!Number.isInteger(parsed) || parsed < bounds.min || parsed > bounds.max) {
      refuse(name, `must be a whole number from ${bounds.min} to ${bounds.max}, not "${text}"`)
    }
    return parsed
  }

  return {
    text(name, fallback) {
      const text = value(name) ?? fallback
      if (text === undefined) refuse(name, 'is required and not set')
      return text ?? ''
    },
    optionalText: (name) => value(name) ?? null,
    integer(name, { fallback, ...bounds }) {
      const text = value(name)
      return text === undefined ? fallback : number(name, text, bounds)
    },
    optionalInteger(name, bounds) {
      const text = value(name)
      return text === undefined ? null : number(name, text, bounds)
    },
    fraction(name, fallback) {
      const text = value(name)
      const parsed = text === undefined ? fallback : Number(text)
      if (!(parsed >= 0 && parsed <= 1)) refuse(name, `must be a number from 0 to 1, not "${text ?? ''}"`)
      return parsed
    },
    oneOf(name, values, fallback) {
      const text = value(name) ?? fallback
      const found = values.find((candidate) => candidate === text)
      if (found === undefined) refuse(name, `must be one of ${values.join(', ')}, not "${text}"`)
      return found ?? fallback
    },
    list: (name) =>
      (value(name) ?? '')
        .split(',')
        .map((item) => item.trim())
        .filter((item) => item !== ''),
    refuse,
    finish() {
      if (problems.length > 0) throw new ConfigError(problems)
    },
  }
}

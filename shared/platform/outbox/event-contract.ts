import type { TSchema } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'

/** What a message of one kind looks like and where it goes; the `<noun>.events.ts` files hold them. */
export interface EventContract<S extends TSchema = TSchema> {
  /** `<noun>.<what happened>`, such as `photo.published`. */
  readonly name: string
  readonly schema: S
  /** The message travels to each of these queues on its own. */
  readonly queues: readonly string[]
}

const NAME = /^[a-z][a-z0-9_.-]{0,62}$/
const validators = new WeakMap<EventContract, Validator>()

/**
 * Declares an event: its name, the typebox schema of its body (JSON: ids as decimal strings) and its queues.
 *
 * @throws TypeError when a name is not of the form a-z 0-9 . _ -, or no queue is given
 */
export function defineEvent<S extends TSchema>(name: string, schema: S, queues: readonly string[]): EventContract<S> {
  const bad = [name, ...queues].find((candidate) => !NAME.test(candidate))
  if (bad !== undefined) throw new TypeError(`"${bad}" cannot name an event or a queue`)
  if (queues.length === 0) throw new TypeError(`the event ${name} goes to no queue`)
  return { name, schema, queues }
}

/** What is wrong with a body, in one line, or undefined when it keeps the contract. */
export function bodyProblem(contract: EventContract, body: unknown): string | undefined {
  let validator = validators.get(contract)
  if (validator === undefined) {
    validator = Compile(contract.schema)
    validators.set(contract, validator)
  }
  if (validator.Check(body)) return undefined
  const [first] = validator.Errors(body)
  return first === undefined ? 'does not match its schema' : `${first.instancePath || '/'} ${first.message}`
}

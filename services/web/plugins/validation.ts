import type { FastifySchemaCompiler } from 'fastify'
import type { TObject, TSchema } from 'typebox'
import { Compile } from 'typebox/compile'

const WHOLE_NUMBER = /^-?(0|[1-9]\d{0,14})$/

/**
 * Compiles schemas with typebox. A body is checked as it came; in a query, digits count as a whole number where
 * the schema asks for one. Nothing else is converted, and nothing that the schema does not name is removed.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const validator = Compile(schema)
  const numbers = httpPart === 'querystring' ? wholeNumbersOf(schema) : []
  return (input: unknown) => {
    const value = numbers.length === 0 ? input : readNumbers(input as Record<string, unknown>, numbers)
    if (validator.Check(value)) return { value }
    return { error: validator.Errors(value) }
  }
}

function wholeNumbersOf(schema: TSchema): string[] {
  const { properties = {} } = schema as Partial<TObject>
  return Object.keys(properties).filter((name) => (properties[name] as { type?: string }).type === 'integer')
}

function readNumbers(query: Record<string, unknown>, names: readonly string[]): Record<string, unknown> {
  const read = { ...query }
  for (const name of names) {
    const text = query[name]
    if (typeof text === 'string' && WHOLE_NUMBER.test(text)) read[name] = Number(text)
  }
  return read
}

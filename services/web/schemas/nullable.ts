import { Type, type Static, type TSchema } from 'typebox'

/**
 * A value or null, as a list of types: the serialiser then needs no validator to tell the two apart,
 * which a union would.
 */
export function Nullable<S extends TSchema & { type: string }>(schema: S) {
  return Type.Unsafe<Static<S> | null>({ ...schema, type: [schema.type, 'null'] })
}

import { Type } from 'typebox'

/** An id on the wire: a decimal string of 1 to 19 digits. */
export const IdText = Type.String({ pattern: '^[1-9][0-9]{0,18}$' })

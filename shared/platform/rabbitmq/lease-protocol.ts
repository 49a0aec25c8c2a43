import { Type, type Static } from 'typebox'
import { Compile } from 'typebox/compile'

/** What travels between a process that needs a lease and the allocator. */

const GrantSchema = Type.Object({
  leaseId: Type.String(),
  rectangle: Type.Object({
    firstSequence: Type.Integer(),
    sequenceCount: Type.Integer(),
    fromMs: Type.Number(),
    untilMs: Type.Number(),
  }),
  ledgerNowMs: Type.Number(),
})
const NoLaneSchema = Type.Object({ leaseId: Type.Null(), freeInMs: Type.Number() })

const RequestSchema = Type.Union([
  Type.Object({ ask: Type.Literal('grant'), holder: Type.String(), laneWidth: Type.Integer() }),
  Type.Object({ ask: Type.Literal('renew'), leaseId: Type.String() }),
  Type.Object({ ask: Type.Literal('release'), leaseId: Type.String(), usedUntilMs: Type.Number() }),
])
const ReplySchema = Type.Union([
  Type.Object({ answer: Type.Literal('grant'), grant: Type.Union([GrantSchema, NoLaneSchema]) }),
  Type.Object({ answer: Type.Literal('renew'), grant: Type.Union([GrantSchema, Type.Null()]) }),
  Type.Object({ answer: Type.Literal('release') }),
  Type.Object({ answer: Type.Literal('failed'), reason: Type.String() }),
])

export type LeaseCall = Static<typeof RequestSchema>
export type LeaseReply = Static<typeof ReplySchema>

const requests = Compile(RequestSchema)
const replies = Compile(ReplySchema)

/** @throws Error if the bytes are no request of ours */
export function readCall(body: Buffer): LeaseCall {
  const value: unknown = JSON.parse(body.toString())
  if (!requests.Check(value)) throw new Error('not a request for a lease')
  return value
}

/** @throws Error if the bytes are no reply of ours */
export function readReply(body: Buffer): LeaseReply {
  const value: unknown = JSON.parse(body.toString())
  if (!replies.Check(value)) throw new Error('not an answer about a lease')
  return value
}

/** Bytes with an encoding come out of the library as bytes. */
export const LEASE_MESSAGE = { contentType: 'application/json', contentEncoding: 'utf-8' } as const

export function toBytes(message: LeaseCall | LeaseReply): Buffer {
  return Buffer.from(JSON.stringify(message))
}

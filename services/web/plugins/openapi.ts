import swagger from '@fastify/swagger'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import apiReference from '@scalar/fastify-api-reference'
import { ERRORS } from '#kernel/errors.ts'
import { CONSISTENCY_TOKEN } from './consistency.ts'

const PROBLEM_SCHEMA = {
  type: 'object' as const,
  description: 'RFC 9457. `code` is one of a fixed catalogue; branch on it, not on the texts.',
  required: ['type', 'title', 'status', 'code', 'detail', 'instance', 'requestId'],
  properties: {
    type: { type: 'string' as const, format: 'uri' },
    title: { type: 'string' as const },
    status: { type: 'integer' as const },
    code: { type: 'string' as const, enum: Object.keys(ERRORS) },
    detail: { type: 'string' as const },
    instance: { type: 'string' as const },
    requestId: { type: 'string' as const },
    errors: {
      type: 'array' as const,
      items: {
        type: 'object' as const,
        required: ['path', 'code', 'message'],
        properties: {
          path: { type: 'string' as const, description: 'A JSON pointer, such as /body/username.' },
          code: { type: 'string' as const },
          message: { type: 'string' as const },
        },
      },
    },
  },
}
const PROBLEM_RESPONSE = {
  description: 'A problem',
  content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
}
const TOKEN_PARAMETER = {
  name: CONSISTENCY_TOKEN,
  in: 'header' as const,
  required: false,
  description:
    'The last one that an answer gave, sent back so that this request sees what the account wrote before, and may be served ' +
    'by replicas all the same. Opaque; one that is too old or malformed is as good as none.',
  schema: { type: 'string' as const },
}
const TOKEN_RESPONSE = {
  description: 'Given after writes, and in place of one that does not open all that it could, where the server has replicas.',
  schema: { type: 'string' as const },
}
const METHODS = ['get', 'put', 'post', 'patch', 'delete'] as const
/** A token is welcome, or none. */
const OPTIONAL_SECURITY = [{}, { bearer: [] }]

/** Describes the routes registered after it: OpenAPI 3.1 at /openapi.json. */
export const openapi = fp(
  async (app) => {
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Monogram',
          version: '1',
          description:
            'A photo-sharing feed. Sign up or in for a token, and send it as `Authorization: Bearer`. ' +
            'Every error is a problem with a `code`. Lists give `next`, the cursor of the page after.',
        },
        tags: ['accounts', 'sessions', 'me', 'follows', 'photos', 'feed', 'moderation', 'media', 'health', 'debug'].map((name) => ({ name })),
        components: {
          securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
          schemas: { Problem: PROBLEM_SCHEMA },
        },
      },
      transform: ({ schema, url }) => ({
        url,
        schema: url.startsWith('/v1/') ? { ...schema, security: schema.security ?? OPTIONAL_SECURITY } : schema,
      }),
      transformObject(document) {
        if (!('openapiObject' in document)) return document.swaggerObject
        const described = document.openapiObject
        for (const [url, path] of Object.entries(described.paths ?? {})) {
          for (const method of METHODS) {
            const operation = path?.[method]
            if (operation === undefined) continue
            operation.responses = { ...operation.responses, default: PROBLEM_RESPONSE }
            if (!url.startsWith('/v1/')) continue
            operation.parameters = [...(operation.parameters ?? []), TOKEN_PARAMETER]
            for (const [status, answer] of Object.entries(operation.responses)) {
              if (status.startsWith('2') && !('$ref' in answer)) answer.headers = { ...answer.headers, [CONSISTENCY_TOKEN]: TOKEN_RESPONSE }
            }
          }
        }
        return described
      },
    })
    app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
  },
  { name: 'openapi' },
)

/** The description to read and try, at /docs; everything it needs comes from this process, and nothing is sent away. */
export async function registerDocs(app: FastifyInstance): Promise<void> {
  await app.register(apiReference, {
    routePrefix: '/docs',
    configuration: {
      url: '/openapi.json',
      favicon: '/assets/icon.svg',
      withDefaultFonts: false,
      telemetry: false,
      showDeveloperTools: 'never',
      hideClientButton: true,
      agent: { disabled: true },
      mcp: { disabled: true },
    },
  })
}

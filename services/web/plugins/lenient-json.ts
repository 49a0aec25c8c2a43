import fp from 'fastify-plugin'

/**
 * JSON is the only content type of a plain body. An empty one is no body, whatever its type says: many clients
 * send `Content-Type: application/json` with each request. A resource that needs a body says so by its schema.
 */
export const lenientJson = fp(
  (app, _options, done) => {
    const parse = app.getDefaultJsonParser('error', 'error')
    app.removeContentTypeParser(['application/json', 'text/plain'])
    app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, parsed) => {
      if (body.length === 0) parsed(null, undefined)
      else void parse(request, body as string, parsed)
    })
    done()
  },
  { name: 'lenient-json' },
)

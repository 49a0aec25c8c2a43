/**
 * The import rule of ARCHITECTURE.md:
 *
 *   kernel <- platform <- domain (migrations beside it) <- services <- scripts, test
 *
 * Each rule's comment is what a developer reads when a build fails, so it says what to do instead.
 */

/** A rule that keeps an npm package inside the one place that may know it. */
const only = (name, packages, allowed, comment) => ({
  name,
  comment,
  severity: 'error',
  from: { path: '^(services|shared|scripts)/', pathNot: allowed },
  to: { path: packages.map((pattern) => `(^|node_modules/)${pattern}(/|$)`) },
})

/** A rule that forbids the files of one layer to import any of ours outside the layers given. */
const layer = (name, from, allowed, comment) => ({
  name,
  comment,
  severity: 'error',
  from: { path: from },
  to: { path: '^(services|shared|scripts|test)/', pathNot: allowed },
})

export default {
  forbidden: [
    layer('kernel-stands-alone', '^shared/kernel/', '^shared/kernel/', 'The kernel imports nothing of ours: pass the value in, or move the code to platform.'),
    layer('platform-on-kernel', '^shared/platform/', '^shared/(kernel|platform)/', 'Platform knows outside systems, not our nouns: take what differs as a parameter.'),
    layer('domain-on-platform', '^shared/domain/', '^shared/(kernel|platform|domain|migrations)/', 'Domain may import kernel, platform, domain and the list of migrations.'),
    layer('migrations-beside-domain', '^shared/migrations/', '^shared/(kernel|platform|migrations)/', 'A migration is history: it must not change when a noun of the domain does.'),
    layer('services-on-shared', '^services/', '^(shared|services)/', 'What a service needs from scripts or test belongs in shared.'),
    layer('scripts-not-on-test', '^scripts/', '^(shared|services|scripts)/', 'What a script needs from test belongs in scripts or shared.'),
    {
      name: 'no-service-imports-another',
      comment: 'Two services meet in shared/domain or by messages.',
      severity: 'error',
      from: { path: '^services/([^/]+)/' },
      to: { path: '^services/', pathNot: '^services/$1/' },
    },
    {
      name: 'kernel-does-no-io',
      comment: 'The kernel is pure: no clock, file, socket or process of its own.',
      severity: 'error',
      from: { path: '^shared/kernel/' },
      to: {
        dependencyTypes: ['core'],
        path: '^(node:)?(fs|net|http|https|http2|tls|dgram|dns|child_process|cluster|worker_threads|process|os|readline|repl|tty|inspector|sqlite|timers|v8|vm|async_hooks|diagnostics_channel|perf_hooks)(/|$)',
      },
    },
    only('pg-in-one-place', ['pg', '@types/pg', 'pg-[a-z-]+'], '^(shared/platform/postgres|scripts/bench)/', 'Use shared/platform/postgres; only a benchmark measures beside it.'),
    only('memjs-in-one-place', ['memjs'], '^(shared/platform/memcached|scripts/bench)/', 'Use shared/platform/memcached, which mends what memjs lacks; only a benchmark measures beside it.'),
    only('fastify-in-services', ['fastify', '@fastify/[^/]+', 'fastify-plugin', '@scalar/[^/]+'], '^(services|scripts/bench)/', 'HTTP belongs to services; a benchmark may measure the bare framework.'),
    only('aws-sdk-in-one-place', ['@aws-sdk/[^/]+', '@smithy/[^/]+'], '^shared/platform/blob-store/', 'Use shared/platform/blob-store: nothing above it knows where blobs live.'),
    only('sharp-in-one-place', ['sharp'], '^shared/platform/images/', 'Use shared/platform/images, which blocks the loaders we do not accept.'),
    only('pino-in-one-place', ['pino'], '^shared/platform/logger/', 'Use shared/platform/logger, which redacts.'),
    only('prom-client-in-one-place', ['prom-client'], '^shared/platform/metrics/', 'Use shared/platform/metrics.'),
    only('rabbitmq-client-in-one-place', ['rabbitmq-client'], '^(shared/platform/rabbitmq|scripts/bench)/', 'Use shared/platform/rabbitmq; only a benchmark measures beside it.'),
    {
      name: 'no-cycle',
      comment: 'Two files that need each other are one file, or there is a third below both. Types count too.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-orphan',
      comment: 'Nobody imports this file and it is not a main: is it dead?',
      severity: 'error',
      from: { orphan: true, pathNot: ['^services/[^/]+/main\\.ts$', '^scripts/([^/]+|bench/[^/]+)\\.ts$', '^test/', '\\.d\\.ts$'] },
      to: {},
    },
    {
      name: 'resolvable',
      comment: 'An import of ours that cannot be followed would hide what is behind it. (Packages are for tsc to check.)',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, path: '^[.#]' },
    },
    {
      name: 'dev-dependency-in-product',
      comment: '`npm ci --omit=dev` must be enough to run: move the package to dependencies.',
      severity: 'error',
      from: { path: ['^(services|shared)/', '^scripts/(migrate|shards)\\.ts$'] },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['npm', 'type-only'], pathNot: 'node_modules/@types/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'types', 'default'], extensions: ['.ts', '.js', '.json'] },
    skipAnalysisNotInRules: true,
  },
}

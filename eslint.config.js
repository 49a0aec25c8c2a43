import eslint from '@eslint/js'
import tseslint from 'typescript-eslint'

/** What `t.test(…)` returns: the runner itself awaits it, so a test file need not. */
const awaitedByTap = { from: 'package', package: '@tapjs/core', name: 'PromiseWithSubtest' }

export default tseslint.config(
  { ignores: ['node_modules/', '.monogram/', '.tap/'] },
  // An inline "disable" comment has no effect: a rule that is wrong for us is changed here, for everybody.
  { linterOptions: { noInlineConfig: true, reportUnusedDisableDirectives: 'error' } },
  {
    files: ['**/*.ts'],
    extends: [eslint.configs.recommended, tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': ['error', { prefer: 'type-imports', fixStyle: 'separate-type-imports' }],
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-floating-promises': ['error', { allowForKnownSafePromises: [awaitedByTap] }],
      'eqeqeq': ['error', 'always'],
      'max-lines': ['error', { max: 350 }],
      'no-restricted-exports': ['error', { restrictDefaultExports: { direct: true, named: true, defaultFrom: true, namedFrom: true, namespaceFrom: true } }],
      'prefer-const': 'error',
    },
  },
  {
    // The environment is read once, in shared/platform/config; a composition root hands it over.
    files: ['shared/**/*.ts', 'services/**/*.ts'],
    ignores: ['shared/platform/config/**', 'services/*/main.ts'],
    rules: {
      'no-restricted-properties': ['error', { object: 'process', property: 'env', message: 'Read it in shared/platform/config.' }],
      'no-console': 'error',
    },
  },
  {
    // `async (app) => {…}` is how a fastify plugin is written, whether or not it awaits.
    files: ['services/web/routes/*.ts'],
    rules: { '@typescript-eslint/require-await': 'off' },
  },
  {
    // `async (t) => {…}` is how a test is written, whether or not it awaits.
    files: ['test/**/*.ts'],
    rules: { '@typescript-eslint/require-await': 'off' },
  },
)

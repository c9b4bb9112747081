/**
 * Lint: correctness rules with types (typescript-eslint), and the layers of the architecture.
 *
 * Calls go downward only: a file under ts/ imports from its own folder or from one further down in `layers`.
 */
import { dirname, relative, resolve, sep } from 'node:path';
import tseslint from 'typescript-eslint';

const layers = [
  'cli', 'server', 'store', 'tiering', 'vector', 'erasure', 'meta', 'layout', 'drive', 'rpc', 'native', 'util',
];

/** Packages that only one layer may use, so that they can be replaced there. */
const ownedPackages = { lmdb: 'meta', saxes: 'server', commander: 'cli' };

const root = import.meta.dirname;

/** The layer of a path below ts/, or undefined for anything else. */
function layerOf(path) {
  const [top, layer] = relative(root, path).split(sep);
  return top === 'ts' ? layer : undefined;
}

/** What is wrong with importing `specifier` from `file`, or undefined. */
function layerProblem(file, specifier) {
  const from = layerOf(file);
  if (from === undefined) return undefined;
  if (!layers.includes(from)) return `ts/${from} is not one of the layers`;
  if (!specifier.startsWith('.')) {
    const owner = ownedPackages[specifier];
    return owner === undefined || owner === from ? undefined : `only ts/${owner} uses the package ${specifier}`;
  }
  const target = resolve(dirname(file), specifier);
  const to = layerOf(target);
  if (to === undefined) return `ts/ imports nothing from outside ts/: ${specifier}`;
  if (layers.indexOf(to) < layers.indexOf(from)) return `ts/${from} may not import from ts/${to}, which is above it`;
  if (from !== 'native' && target.endsWith(`${sep}addon.js`)) return 'only ts/native uses the addon itself';
  return undefined;
}

const layersRule = {
  meta: { type: 'problem', schema: [], docs: { description: 'imports follow the layers of the architecture' } },
  create(context) {
    const check = (node) => {
      if (node.source?.type !== 'Literal') return;
      const problem = layerProblem(context.filename, String(node.source.value));
      if (problem !== undefined) context.report({ node: node.source, message: problem });
    };
    return {
      ImportDeclaration: check,
      ImportExpression: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
    };
  },
};

const nodeGlobals = [
  'process',
  'fetch',
  'AbortSignal',
  'AbortController',
  'Buffer',
  'URL',
  'console',
  'setTimeout',
  'clearTimeout',
];

export default tseslint.config(
  { ignores: ['dist/', 'build/', 'node_modules/', 'native/vendor/', 'data/', '.cache/'] },
  {
    files: ['ts/**/*.ts', 'test/**/*.ts', 'bench/**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: {
      parserOptions: {
        project: ['ts/tsconfig.json', 'test/tsconfig.json', 'bench/tsconfig.json'],
        tsconfigRootDir: root,
      },
    },
    plugins: { ostraka: { rules: { layers: layersRule } } },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      'ostraka/layers': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/no-unnecessary-type-assertion': 'error',
      '@typescript-eslint/return-await': ['error', 'error-handling-correctness-only'],
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      // Implementations of asynchronous interfaces need not wait for anything themselves.
      '@typescript-eslint/require-await': 'off',
      eqeqeq: 'error',
      'no-constant-condition': ['error', { checkLoops: false }],
      'no-eval': 'error',
      'no-var': 'error',
      'prefer-const': 'error',
    },
  },
  {
    // The Raft core decides; it does not wait, look at clocks, draw numbers or touch anything outside.
    files: ['ts/meta/raft/core/**/*.ts', 'ts/meta/raft/host/**/*.ts'],
    rules: {
      'no-restricted-globals': [
        'error',
        ...['Date', 'performance', 'process', 'crypto', 'fetch', 'queueMicrotask', 'WeakRef', 'FinalizationRegistry'],
        ...['setTimeout', 'setInterval', 'setImmediate', 'clearTimeout', 'clearInterval', 'clearImmediate', 'Promise'],
      ],
      'no-restricted-properties': ['error', { object: 'Math', property: 'random', message: 'use the injected random' }],
      'no-restricted-syntax': [
        'error',
        { selector: 'FunctionDeclaration[async=true], FunctionExpression[async=true]', message: 'nothing waits here' },
        { selector: 'ArrowFunctionExpression[async=true], AwaitExpression', message: 'nothing waits here' },
        { selector: "ImportDeclaration[source.value=/^[^.]/]", message: 'only the core and the host themselves' },
        { selector: 'ForInStatement', message: 'the order of object keys is not the order of ids' },
      ],
    },
  },
  {
    // node:test's functions return promises that the runner itself waits for.
    files: ['test/**/*.ts'],
    rules: {
      // The addon's functions are called with whatever a test wants, apart from their object.
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', package: 'node:test', name: ['test', 'it', 'describe', 'suite'] },
          ],
        },
      ],
    },
  },
  {
    files: ['**/*.mjs'],
    languageOptions: { globals: Object.fromEntries(nodeGlobals.map((name) => [name, 'readonly'])) },
    rules: {
      eqeqeq: 'error',
      'no-undef': 'error',
      'no-unused-vars': 'error',
      'no-var': 'error',
      'prefer-const': 'error',
    },
  },
);

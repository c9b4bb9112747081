/**
 * Puts counters into a compiled module: one at the beginning of every function, branch, arm of a conditional or
 * logical expression, case, loop and catch. `__hits[n]++` is all that a counter costs.
 *
 * The counters come from `globalThis.ostrakaFuzz.module(name, count, words)` (coverage.ts), which is also told what the
 * module compares its input with: its string and number literals, a dictionary for mutations.
 */
import ts from 'typescript'

const { factory } = ts

export interface Instrumented {
  code: string
  counters: number
}

export function instrument(name: string, source: string): Instrumented {
  const file = ts.createSourceFile(name, source, ts.ScriptTarget.ESNext, true, ts.ScriptKind.JS)
  const words = new Set<string | number>()
  let counters = 0
  const count = (): ts.Expression => factory.createPostfixIncrement(
    factory.createElementAccessExpression(factory.createIdentifier('__hits'), counters++))
  const before = (expression: ts.Expression): ts.Expression => factory.createParenthesizedExpression(
    factory.createComma(count(), factory.createParenthesizedExpression(expression)))
  const atStart = (statements: readonly ts.Statement[]): ts.Statement[] => (
    [factory.createExpressionStatement(count()), ...statements])
  const asBlock = (statement: ts.Statement): ts.Block => factory.createBlock(
    atStart(ts.isBlock(statement) ? statement.statements : [statement]), true)

  const transformer: ts.TransformerFactory<ts.SourceFile> = (context) => {
    const visit = (original: ts.Node): ts.Node => {
      if (ts.isImportDeclaration(original) || ts.isExportDeclaration(original)) return original
      noteWord(original, words)
      const node = ts.visitEachChild(original, visit, context)
      if (ts.isArrowFunction(node) && !ts.isBlock(node.body)) {
        return factory.updateArrowFunction(node, node.modifiers, node.typeParameters, node.parameters, node.type,
          node.equalsGreaterThanToken, before(node.body))
      }
      const { parent } = original
      if (ts.isBlock(node) && (ts.isFunctionLike(parent) || ts.isCatchClause(parent))) return asBlock(node)
      if (ts.isIfStatement(node)) {
        const other = node.elseStatement ?? factory.createBlock([])
        return factory.updateIfStatement(node, node.expression, asBlock(node.thenStatement), asBlock(other))
      }
      if (ts.isConditionalExpression(node)) {
        return factory.updateConditionalExpression(node, node.condition, node.questionToken, before(node.whenTrue),
          node.colonToken, before(node.whenFalse))
      }
      if (ts.isBinaryExpression(node) && isLogical(node.operatorToken.kind)) {
        return factory.updateBinaryExpression(node, node.left, node.operatorToken, before(node.right))
      }
      if (ts.isCaseClause(node)) return factory.updateCaseClause(node, node.expression, atStart(node.statements))
      if (ts.isDefaultClause(node)) return factory.updateDefaultClause(node, atStart(node.statements))
      return loop(node, asBlock)
    }
    return (root) => ts.visitEachChild(root, visit, context)
  }
  const { transformed } = ts.transform(file, [transformer])
  const body = ts.createPrinter().printFile(transformed[0] ?? file)
  const arguments_ = [name, counters, [...words]].map((value) => JSON.stringify(value)).join(', ')
  return { code: `const __hits = globalThis.ostrakaFuzz.module(${arguments_});\n${body}`, counters }
}

function loop(node: ts.Node, asBlock: (statement: ts.Statement) => ts.Block): ts.Node {
  if (ts.isForStatement(node)) {
    return factory.updateForStatement(node, node.initializer, node.condition, node.incrementor, asBlock(node.statement))
  }
  if (ts.isForOfStatement(node)) {
    return factory.updateForOfStatement(node, node.awaitModifier, node.initializer, node.expression,
      asBlock(node.statement))
  }
  if (ts.isWhileStatement(node)) return factory.updateWhileStatement(node, node.expression, asBlock(node.statement))
  if (ts.isDoStatement(node)) return factory.updateDoStatement(node, asBlock(node.statement), node.expression)
  return node
}

function isLogical(kind: ts.SyntaxKind): boolean {
  return kind === ts.SyntaxKind.AmpersandAmpersandToken || kind === ts.SyntaxKind.BarBarToken
    || kind === ts.SyntaxKind.QuestionQuestionToken
}

const LONGEST_WORD = 64

function noteWord(node: ts.Node, words: Set<string | number>): void {
  if (ts.isStringLiteral(node) && node.text.length > 0 && node.text.length <= LONGEST_WORD) words.add(node.text)
  else if (ts.isNumericLiteral(node) && Number.isSafeInteger(Number(node.text))) words.add(Number(node.text))
}

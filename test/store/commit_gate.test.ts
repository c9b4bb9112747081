import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CommitGate, type Turn } from '../../ts/store/commit_gate.js'

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('groups of small writes', () => {
  it('are of all that came in one turn; none starts while another writes', async () => {
    const announcements: string[] = []
    const gate = new CommitGate(() => {
      announcements.push('begin')
      return () => { announcements.push('end') }
    })
    const order: string[] = []
    const write = async (name: string, until: Promise<void>): Promise<void> => {
      const turn = await gate.enter()
      order.push(`${name} begins`)
      await until
      turn.leave()
      order.push(`${name} ends`)
    }
    let release: () => void = () => undefined
    const held = new Promise<void>((resolve) => { release = resolve })
    const first = [write('a', held), write('b', Promise.resolve())]
    await nextTurn()
    await nextTurn()
    const second = [write('c', Promise.resolve()), write('d', Promise.resolve())]
    for (let i = 0; i < 5; i++) await nextTurn()
    assert.deepEqual(order, ['a begins', 'b begins', 'b ends'])
    assert.deepEqual(announcements, ['begin'])
    release()
    await Promise.all([...first, ...second])
    assert.deepEqual(order.slice(3), ['a ends', 'c begins', 'd begins', 'c ends', 'd ends'])
    assert.deepEqual(announcements, ['begin', 'end', 'begin', 'end'])
  })

  it('are announced until the last member wrote, and a member counts once however often it says so', async () => {
    let open = 0
    const gate = new CommitGate(() => {
      open++
      return () => { open-- }
    })
    const turns: Turn[] = await Promise.all([gate.enter(), gate.enter()])
    assert.equal(open, 1)
    turns[0]?.wrote()
    turns[0]?.wrote()
    turns[0]?.leave()
    turns[0]?.leave()
    assert.equal(open, 1)
    turns[1]?.wrote()
    assert.equal(open, 0)
    turns[1]?.leave()
    turns[1]?.wrote()
    assert.equal(open, 0)
  })

  it('write while others commit, once as many wait, and then half of both together', async () => {
    const gate = new CommitGate()
    const turns: Turn[] = []
    const enter = (count: number): void => {
      for (let i = 0; i < count; i++) void gate.enter().then((turn) => { turns.push(turn) })
    }
    const begun = async (): Promise<number> => {
      for (let i = 0; i < 4; i++) await nextTurn()
      return turns.length
    }
    enter(4)
    assert.equal(await begun(), 4)
    enter(3)
    for (const turn of turns) turn.wrote()
    assert.equal(await begun(), 4, 'three wait, four commit')
    enter(5)
    assert.equal(await begun(), 10, 'eight wait and four commit: six begin')
    for (const turn of turns.slice(0, 4)) turn.leave()
    assert.equal(await begun(), 10, 'six write')
    for (const turn of turns.slice(4, 10)) turn.wrote()
    assert.equal(await begun(), 10, 'two wait, six commit')
    for (const turn of turns.slice(4, 7)) turn.leave()
    assert.equal(await begun(), 10, 'two wait, three commit')
    turns[7]?.leave()
    assert.equal(await begun(), 12)
  })

  it('of one write at a time start with the next turn', async () => {
    const gate = new CommitGate()
    for (let i = 0; i < 3; i++) {
      let begun: Turn | undefined
      void gate.enter().then((turn) => { begun = turn })
      await nextTurn()
      await nextTurn()
      assert.ok(begun)
      begun.leave()
    }
  })
})

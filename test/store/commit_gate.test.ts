import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CommitGate, type Turn } from '../../ts/store/commit_gate.js'

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('groups of small writes', () => {
  it('are of all that came in one turn; the next one starts when the last member has left', async () => {
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
    const third = gate.enter()
    let begun = false
    void third.then(() => { begun = true })
    for (let i = 0; i < 3; i++) await nextTurn()
    assert.equal(begun, false)
    turns[1]?.leave()
    ;(await third).leave()
    assert.equal(open, 0)
  })
})

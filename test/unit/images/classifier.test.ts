import t from 'tap'
import type { Test } from 'tap'
import { ClassifierError, startClassifier } from '../../../services/safety-worker/nsfw/classifier.ts'
import type { Classifier, ClassifierOptions } from '../../../services/safety-worker/nsfw/classifier.ts'

const ENTRY = new URL('../../support/fake-classifier-thread.ts', import.meta.url)
const GOOD = Uint8Array.of(0)
const CRASH = Uint8Array.of(1)
const HANG = Uint8Array.of(2)
const FAIL = Uint8Array.of(3)

function start(t: Test, options: ClassifierOptions = {}): { classifier: Classifier; events: string[] } {
  const events: string[] = []
  const classifier = startClassifier({
    entry: ENTRY,
    restartDelayMs: 0,
    report: ({ event }) => events.push(event),
    ...options,
  })
  t.teardown(() => classifier.close())
  return { classifier, events }
}

t.test('pictures that come before the model is loaded wait for it', async (t) => {
  const { classifier, events } = start(t)
  const scores = await Promise.all([classifier.classify(GOOD), classifier.classify(GOOD)])
  t.match(scores, [{ Neutral: 1 }, { Neutral: 1 }])
  await classifier.ready
  t.same(events, ['loaded'])
})

t.test('a crash costs the picture that caused it, and nobody else', async (t) => {
  const { classifier, events } = start(t)
  const before = await classifier.classify(GOOD)
  const [crashed, after] = await Promise.allSettled([classifier.classify(CRASH), classifier.classify(GOOD)])
  t.match(crashed, { status: 'rejected', reason: ClassifierError })
  t.match(after, { status: 'fulfilled', value: { Neutral: 1 } })
  t.not(before.Sexy, after.status === 'fulfilled' && after.value.Sexy, 'it is another thread')
  t.same(events, ['loaded', 'died', 'loaded'])
})

t.test('a picture that hangs the thread costs its deadline only', async (t) => {
  const { classifier } = start(t, { classifyDeadlineMs: 50 })
  const [hung, after] = await Promise.allSettled([classifier.classify(HANG), classifier.classify(GOOD)])
  t.match(hung, { status: 'rejected', reason: ClassifierError })
  t.match(after, { status: 'fulfilled', value: { Neutral: 1 } })
})

t.test('an error of the model is the answer to its picture', async (t) => {
  const { classifier, events } = start(t)
  await t.rejects(classifier.classify(FAIL), { name: 'ClassifierError', message: 'no tensor' })
  t.match(await classifier.classify(GOOD), { Neutral: 1 })
  t.same(events, ['loaded'])
})

t.test('the queue is bounded', async (t) => {
  const { classifier } = start(t, { queueMax: 2 })
  const accepted = [classifier.classify(GOOD), classifier.classify(GOOD)]
  await t.rejects(classifier.classify(GOOD), ClassifierError)
  await Promise.all(accepted)
  t.match(await classifier.classify(GOOD), { Neutral: 1 })
})

t.test('a thread that cannot load sends those who wait away', async (t) => {
  const { classifier, events } = start(t, { entry: new URL('./no-such-thread.ts', import.meta.url), restartDelayMs: 60_000 })
  await t.rejects(classifier.classify(GOOD), { name: 'ClassifierError', message: 'The classifier did not load.' })
  t.same(events, ['died'])
})

t.test('closing ends the waiting', async (t) => {
  const { classifier } = start(t)
  const pending = [classifier.classify(HANG), classifier.classify(GOOD)]
  const settled = Promise.allSettled(pending)
  await classifier.close()
  t.match(await settled, [{ reason: ClassifierError }, { reason: ClassifierError }])
  await t.rejects(classifier.classify(GOOD), ClassifierError)
})

import t from 'tap'
import { hammingDistance } from '#kernel/pdq.ts'
import { worstVerdict } from '#domain/photos/verdict.rules.ts'
import { openImage, openPixels, toPixels } from '#platform/images/open-image.ts'
import { UndecodableImageError } from '#platform/images/undecodable-image-error.ts'
import { makePicture } from '../../../scripts/pictures/make-picture.ts'
import { startClassifier } from '../../../services/safety-worker/nsfw/classifier.ts'
import type { Scores } from '../../../services/safety-worker/nsfw/protocol.ts'
import { decodeForScreens, screenPicture } from '../../../services/safety-worker/screen-picture.ts'
import type { Screen, ScreenResult } from '../../../services/safety-worker/screen.ts'
import { bannedHashScreen } from '../../../services/safety-worker/screens/banned-hash.ts'
import type { BannedHashOptions } from '../../../services/safety-worker/screens/banned-hash.ts'
import { judgeScores, nsfwClassifierScreen } from '../../../services/safety-worker/screens/nsfw-classifier.ts'
import { makeTruncatedJpeg } from '../../support/hostile-pictures.ts'
import { PHOTOGRAPHS, readPhotograph } from '../../support/photographs.ts'

const THRESHOLDS = {
  Porn: { reviewAt: 0.6, rejectAt: 0.9 },
  Sexy: { reviewAt: 0.8, rejectAt: null },
}

const NONE: Scores = { Drawing: 0, Hentai: 0, Neutral: 0, Porn: 0, Sexy: 0 }

function bannedHashes(hashes: readonly string[], options: Partial<BannedHashOptions> = {}): Screen {
  return bannedHashScreen({ listHashes: () => Promise.resolve(hashes), distanceMax: 31, refreshMs: 1_000, nowMs: () => 0, ...options })
}

const fixedScreen = (name: string, result: ScreenResult): Screen => ({
  name,
  screen: () => Promise.resolve(result),
  close: () => Promise.resolve(),
})

async function pdqOf(picture: Buffer): Promise<string> {
  const { detail } = await bannedHashes([]).screen(await decodeForScreens(picture))
  return (detail as { pdq: string }).pdq
}

t.test('the worst verdict wins', async (t) => {
  t.equal(worstVerdict([]), 'clean')
  t.equal(worstVerdict(['clean', 'review', 'clean']), 'review')
  t.equal(worstVerdict(['review', 'reject', 'clean']), 'reject')
  const picture = await makePicture({ seed: 30, width: 64, height: 64 })
  const screens = [fixedScreen('one', { verdict: 'clean', detail: 1 }), fixedScreen('two', { verdict: 'review', detail: 2 })]
  t.same(await screenPicture(picture, screens), {
    verdict: 'review',
    detail: { one: { verdict: 'clean', detail: 1 }, two: { verdict: 'review', detail: 2 } },
  })
})

t.test('a picture that cannot be decoded, or a screen that cannot tell, is never clean', async (t) => {
  await t.rejects(screenPicture(await makeTruncatedJpeg(), []), UndecodableImageError)
  const broken: Screen = { ...fixedScreen('broken', { verdict: 'clean', detail: null }), screen: () => Promise.reject(new Error('no list')) }
  await t.rejects(screenPicture(await makePicture({ seed: 30, width: 64, height: 64 }), [broken]), { message: 'no list' })
})

t.test('screens see RGB, upright, at most 512 pixels, whatever the original was', async (t) => {
  const grey = openPixels({ data: new Uint8Array(900 * 600).fill(90), width: 900, height: 600, channels: 1 })
  for (const original of [
    await makePicture({ seed: 31, width: 900, height: 600, orientation: 6 }),
    await makePicture({ seed: 31, width: 900, height: 600, format: 'png', alpha: true }),
    await grey.clone().toColourspace('b-w').jpeg().toBuffer(),
    await grey.clone().ensureAlpha(0.5).toColourspace('b-w').png().toBuffer(),
  ]) {
    const { data, width, height, channels } = await decodeForScreens(original)
    t.same([width, height, channels, data.length], [512, 341, 3, 512 * 341 * 3])
  }
})

t.test('a banned picture is rejected, also saved anew, smaller, turned or mirrored', async (t) => {
  const original = await makePicture({ seed: 32, width: 1200, height: 900 })
  const hash = await pdqOf(original)
  const screens = [bannedHashes(['0'.repeat(64), hash])]
  const { channels: _, ...upright } = await decodeForScreens(original)
  const pixels = openPixels({ ...upright, channels: 3 })
  for (const [name, copy] of [
    ['itself', original],
    ['low quality', await pixels.clone().jpeg({ quality: 30 }).toBuffer()],
    ['WebP', await pixels.clone().webp({ quality: 60 }).toBuffer()],
    ['smaller', await pixels.clone().resize(300).jpeg().toBuffer()],
    ['turned', await pixels.clone().rotate(90).jpeg().toBuffer()],
    ['mirrored', await pixels.clone().flop().jpeg().toBuffer()],
    ['brighter', await pixels.clone().linear(1.1, 5).jpeg().toBuffer()],
  ] as const) {
    t.match(await screenPicture(copy, screens), { verdict: 'reject', detail: { 'banned-hash': { detail: { match: { hash } } } } }, name)
  }
  for (let seed = 33; seed < 43; seed++) {
    t.match(await screenPicture(await makePicture({ seed, width: 600, height: 400 }), screens), { verdict: 'clean' })
  }
})

t.test('the distance is a setting, and flat pictures match nothing', async (t) => {
  const picture = await makePicture({ seed: 44, width: 600, height: 400 })
  const near = await pdqOf(await openImage(picture).resize(500).jpeg({ quality: 20 }).toBuffer())
  const distance = hammingDistance(near, await pdqOf(picture))
  t.ok(distance > 0 && distance <= 31)
  t.match(await screenPicture(picture, [bannedHashes([near], { distanceMax: distance })]), { verdict: 'reject' })
  t.match(await screenPicture(picture, [bannedHashes([near], { distanceMax: distance - 1 })]), { verdict: 'clean' })
  const flat = await openPixels({ data: new Uint8Array(64 * 64).fill(9), width: 64, height: 64, channels: 1 }).png().toBuffer()
  t.match(await screenPicture(flat, [bannedHashes([await pdqOf(flat)])]), { verdict: 'clean' })
})

t.test('the list is asked for again after its life, and after a failure', async (t) => {
  const picture = await decodeForScreens(await makePicture({ seed: 45, width: 100, height: 80 }))
  let nowMs = 0
  let asked = 0
  let isBroken = false
  const screen = bannedHashes([], {
    nowMs: () => nowMs,
    listHashes: () => {
      asked++
      return isBroken ? Promise.reject(new Error('database gone')) : Promise.resolve([])
    },
  })
  await Promise.all([screen.screen(picture), screen.screen(picture)])
  nowMs = 999
  await screen.screen(picture)
  t.equal(asked, 1)
  nowMs = 1_000
  isBroken = true
  await t.rejects(screen.screen(picture), { message: 'database gone' })
  isBroken = false
  await screen.screen(picture)
  t.equal(asked, 3)
})

t.test('scores become a verdict by the thresholds of their categories', async (t) => {
  for (const [scores, verdict] of [
    [{ Neutral: 1 }, 'clean'],
    [{ Porn: 0.59, Neutral: 0.41 }, 'clean'],
    [{ Porn: 0.6, Neutral: 0.4 }, 'review'],
    [{ Porn: 0.9, Neutral: 0.1 }, 'reject'],
    [{ Sexy: 0.8, Neutral: 0.2 }, 'review'],
    [{ Sexy: 1 }, 'review'],
    [{ Hentai: 1 }, 'clean'],
  ] as const) {
    t.equal(judgeScores({ ...NONE, ...scores }, THRESHOLDS), verdict, JSON.stringify(scores))
  }
})

t.test('the real classifier scores pictures without holding up the process', async (t) => {
  const classifier = startClassifier()
  const screen = nsfwClassifierScreen({ classifier, thresholds: THRESHOLDS })
  t.teardown(() => screen.close())
  let ticks = 0
  const ticking = setInterval(() => ticks++, 1)
  const picture = await makePicture({ seed: 46, width: 640, height: 480 })
  const { verdict, detail } = await screenPicture(picture, [screen])
  clearInterval(ticking)
  t.ok(ticks > 20, 'the event loop turned while the model was loading')
  t.equal(verdict, 'clean')
  const scores = detail['nsfw-classifier']?.detail as Scores
  t.same(Object.keys(scores).sort(), ['Drawing', 'Hentai', 'Neutral', 'Porn', 'Sexy'])
  t.ok(Math.abs(Object.values(scores).reduce((a, b) => a + b, 0) - 1) < 1e-3, 'the scores sum to 1')
  t.ok(scores.Neutral > 0.5)
  const { data } = await toPixels(openImage(picture).resize(224, 224, { fit: 'fill' }))
  const again = await Promise.all([classifier.classify(data), classifier.classify(data)])
  t.same(again[0], again[1])
  for (const name of PHOTOGRAPHS) t.match(await screenPicture(await readPhotograph(name), [screen]), { verdict: 'clean' }, name)
  // The same picture under thresholds that Neutral meets shows the whole way from pixels to a verdict.
  const strict = nsfwClassifierScreen({ classifier, thresholds: { Neutral: { reviewAt: 0.2, rejectAt: 0.4 } } })
  t.match(await screenPicture(picture, [strict]), { verdict: 'reject' })
})

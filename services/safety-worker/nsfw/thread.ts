import { createRequire } from 'node:module'
import { dirname, sep } from 'node:path'
import { parentPort } from 'node:worker_threads'
import * as tf from '@tensorflow/tfjs'
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm'
import { load } from 'nsfwjs/core'
import type { NSFWJS } from 'nsfwjs/core'
import { MobileNetV2Model } from 'nsfwjs/models/mobilenet_v2'
import { CLASSIFIER_SIDE, NSFW_CATEGORIES } from './protocol.ts'
import type { ClassifyRequest, Scores, ThreadMessage } from './protocol.ts'

// The entry of the classifier's thread: loads the model that the package brings, then scores one picture at a time.

const port = parentPort
if (port === null) throw new Error('thread.ts runs in a worker thread')
const send = (message: ThreadMessage): void => port.postMessage(message)

const startedMs = performance.now()
const model = await loadModel()
port.on('message', ({ pixels }: ClassifyRequest) => {
  classify(model, pixels).then(
    (scores) => send({ kind: 'scores', scores }),
    (error: unknown) => send({ kind: 'failed', message: String(error) }),
  )
})
send({ kind: 'ready', loadMs: Math.round(performance.now() - startedMs) })

async function loadModel(): Promise<NSFWJS> {
  const packageEntry = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm')
  setWasmPaths(dirname(packageEntry) + sep)
  if (!(await tf.setBackend('wasm'))) throw new Error('the WASM backend of TensorFlow.js did not start')
  return await load('MobileNetV2', { modelDefinitions: [MobileNetV2Model] })
}

async function classify(model: NSFWJS, pixels: Uint8Array): Promise<Scores> {
  const tensor = tf.tensor3d(pixels, [CLASSIFIER_SIDE, CLASSIFIER_SIDE, 3], 'int32')
  try {
    const predictions = await model.classify(tensor, NSFW_CATEGORIES.length)
    const scores = { Drawing: 0, Hentai: 0, Neutral: 0, Porn: 0, Sexy: 0 }
    for (const { className, probability } of predictions) scores[className] = probability
    return scores
  } finally {
    tensor.dispose()
  }
}

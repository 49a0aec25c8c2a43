import { parentPort, threadId } from 'node:worker_threads'
import type { ClassifyRequest, ThreadMessage } from '../../services/safety-worker/nsfw/protocol.ts'

// Stands in for the classifier's thread. The first pixel's value says what to do with a picture.

const CRASH = 1
const HANG = 2
const FAIL = 3

const send = (message: ThreadMessage): void => parentPort?.postMessage(message)

parentPort?.on('message', ({ pixels }: ClassifyRequest) => {
  console.log('an advertisement')
  if (pixels[0] === CRASH) process.exit(7)
  while (pixels[0] === HANG);
  if (pixels[0] === FAIL) send({ kind: 'failed', message: 'no tensor' })
  else send({ kind: 'scores', scores: { Drawing: 0, Hentai: 0, Neutral: 1, Porn: 0, Sexy: threadId } })
})
send({ kind: 'ready', loadMs: 1 })

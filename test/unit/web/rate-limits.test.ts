import t from 'tap'
import { manualClock } from '#kernel/clock.ts'
import { createLocalRateStore, networkOf, rateHeaders } from '../../../services/web/rate-limits.ts'

const POLICY = { name: 'signin', quota: 5, windowSeconds: 60 }

t.test('a quota is used up, and comes back use by use', async (t) => {
  const clock = manualClock(0)
  const store = createLocalRateStore(clock)
  const take = () => store.take(POLICY, 'ann')

  for (const remaining of [4, 3, 2, 1, 0]) t.match(await take(), { allowed: true, remaining })
  t.match(await take(), { allowed: false, remaining: 0, seconds: 12 })
  clock.advance(11_000)
  t.match(await take(), { allowed: false, seconds: 1 }, 'the wait that was told was true')
  clock.advance(1_000)
  t.match(await take(), { allowed: true, remaining: 0 })
  t.match(await take(), { allowed: false }, 'one use, not a window full')
  t.match(await store.take(POLICY, 'ben'), { allowed: true, remaining: 4 }, 'others are not meant')
  clock.advance(600_000)
  t.match(await take(), { allowed: true, remaining: 4 }, 'and no more than the quota comes back')
})

t.test('a use that does not count is given back', async (t) => {
  const store = createLocalRateStore(manualClock(0))
  for (let i = 0; i < 20; i++) {
    t.match(await store.take(POLICY, 'ann'), { allowed: true, remaining: 4 })
    await store.giveBack(POLICY, 'ann')
  }
  await store.giveBack(POLICY, 'nobody')
})

t.test('headers', async (t) => {
  const store = createLocalRateStore(manualClock(0))
  t.strictSame(rateHeaders([await store.take(POLICY, 'ann')]), {
    'RateLimit': '"signin";r=4;t=12',
    'RateLimit-Policy': '"signin";q=5;w=60',
  })
})

t.test('an address counts as its network', async (t) => {
  for (const [address, network] of [
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0DB8:1:2::6', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ] as const) {
    t.equal(networkOf(address), network, address)
  }
})

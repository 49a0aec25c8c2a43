import { sql } from 'kysely'
import t from 'tap'
import type { Account } from '../support/api-client.ts'
import { startBrokerWorld } from './broker-world.ts'

t.test('every message delivered three times, shuffled, all at once', async (t) => {
  const { db, api, upload, settled } = await startBrokerWorld(t)
  // Each row of the outbox comes with two copies, same message, that are due at random moments of the next second.
  await sql`create function triple() returns trigger language plpgsql as $$
    begin
      insert into outbox (message_id, queue, event, body, request_id, available_at)
      select new.message_id, new.queue, new.event, new.body, new.request_id, now() + random() * interval '1 second'
      from generate_series(1, 2);
      return new;
    end $$`.execute(db)
  await sql`create trigger triple before insert on outbox for each row
    when (pg_trigger_depth() = 0) execute function triple()`.execute(db)
  const { ids } = await upload(12)
  await settled(ids)
  const { photoCount } = await api.ok<Account>('GET', '/v1/accounts/author')
  t.equal(photoCount, ids.length, 'each counted once')
})

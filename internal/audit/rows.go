package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// entity names what an event is about.
type entity struct{ resource, id string }

// fresh leaves the records whose ids aren't there yet, and gives them what
// differs from their entities' events before.
func (t *transaction) fresh(ctx context.Context, w work) (work, error) {
	ids := make([]string, len(w))
	for i, r := range w {
		ids[i] = r.eventID
	}
	resources, entities := make([]string, 0, len(w)), make([]string, 0, len(w))
	asked := make(map[entity]bool, len(w))
	for _, r := range w {
		if e := (entity{r.resource, r.entityID}); r.contents && !asked[e] {
			asked[e] = true
			resources, entities = append(resources, e.resource), append(entities, e.id)
		}
	}
	s := t.log.schema
	p := t.pg.StartPipeline(ctx)
	p.SendQueryParams(`select event_id from `+s+`.event_ids where event_id = any($1)`, [][]byte{textArray(ids)}, []uint32{pgtype.TextArrayOID}, []int16{1}, []int16{1})
	// Offset 0 keeps the planner from reading the partitions for a join.
	p.SendQueryParams(`select r.resource, r.id, p.payload from unnest($1, $2) as r(resource, id)
cross join lateral (select seq, received_at from `+s+`.entities where entity_id = r.id and resource = r.resource and seq is not null offset 0) as e
cross join lateral (select payload from `+s+`.events where seq = e.seq and received_at = e.received_at and payload is not null offset 0) as p`,
		[][]byte{textArray(resources), textArray(entities)}, []uint32{pgtype.TextArrayOID, pgtype.TextArrayOID}, []int16{1, 1}, []int16{1, 1, 1})
	if err := p.Sync(); err != nil {
		_ = p.Close() // fails the same way
		return nil, wrapped(err)
	}
	known, before := map[string]bool{}, make(map[entity][]byte, len(entities))
	err := readPipeline(p,
		func(row [][]byte) { known[string(row[0])] = true },
		func(row [][]byte) { before[entity{string(row[0]), string(row[1])}] = bytes.Clone(row[2]) })
	if err != nil {
		return nil, err
	}
	return t.choose(w, known, before), nil
}

func (t *transaction) choose(w work, known map[string]bool, before map[entity][]byte) work {
	kept := make(work, 0, len(w))
	for _, r := range w {
		switch {
		case known[r.eventID]:
			t.duplicates++
			continue
		case r.receivedAt < t.prunedBefore && !r.redriven:
			t.pruned++
			continue
		}
		known[r.eventID] = true
		if r.contents {
			e := entity{r.resource, r.entityID}
			// Prepared once, committed maybe twice: what it differs from may be another event then.
			r.personal[changed] = personal{value: differences(before[e], r.personal[payload].value)}
			before[e] = r.personal[payload].value
		}
		kept = append(kept, r)
	}
	return kept
}

// readPipeline reads as many results as there are visitors, in order, and
// closes the pipeline.
func readPipeline(p *pgconn.Pipeline, visit ...func([][]byte)) (failed error) {
	defer func() {
		if err := p.Close(); err != nil && failed == nil {
			failed = wrapped(err)
		}
	}()
	for i := 0; ; {
		result, err := p.GetResults()
		if err != nil {
			failed = errors.Join(failed, wrapped(err))
			if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
				continue // the results up to the sync are skipped
			}
			return failed
		}
		switch r := result.(type) {
		case *pgconn.ResultReader:
			for r.NextRow() {
				if i < len(visit) {
					visit[i](r.Values())
				}
			}
			if _, err := r.Close(); err != nil {
				failed = errors.Join(failed, wrapped(err))
			}
			i++
		case *pgconn.PipelineSync:
			return failed
		default:
			return errors.Join(failed, errors.New("the database ended the answer early"))
		}
	}
}

// columns of events, as they are copied.
const columns = `seq, event_id, instance_id, type, resource, entity_id, actor_id, organization_id, occurred_at, received_at, client_ip, user_agent, changed, payload, svix_timestamp, svix_signature, source, stream_epoch, stream_seq, redriven, salts, digests, prev_hash, hash`

const columnCount = 24

func (t *transaction) copyRows(ctx context.Context, w work) error {
	size := 32
	for _, r := range w {
		size += 1<<10 + len(r.personal[payload].value) + len(r.personal[changed].value)
	}
	b := append(make([]byte, 0, size), copyHeader...)
	for _, r := range w {
		b = r.appendCopy(b)
	}
	b = binary.BigEndian.AppendUint16(b, 0xFFFF) // the end
	_, err := t.pg.CopyFrom(ctx, bytes.NewReader(b), `copy `+t.log.schema+`.events (`+columns+`) from stdin (format binary)`)
	return wrapped(err)
}

// finish writes what goes with the rows, and commits.
func (t *transaction) finish(ctx context.Context, w work) error {
	s := t.log.schema
	ids, received := make([]string, len(w)), make([]int64, len(w))
	for i, r := range w {
		ids[i], received[i] = r.eventID, r.receivedAt
	}
	p := t.pg.StartPipeline(ctx)
	p.SendQueryParams(`insert into `+s+`.event_ids (event_id, seq, received_at) select r.id, $3 + r.n, r.at from unnest($1, $2) with ordinality as r(id, at, n)`,
		[][]byte{textArray(ids), timeArray(received), int8(t.seq - int64(len(w)))},
		[]uint32{pgtype.TextArrayOID, pgtype.TimestamptzArrayOID, pgtype.Int8OID}, []int16{1, 1, 1}, nil)
	t.sendEntities(p, w)
	p.SendQueryParams(`update `+s+`.sync_status set seq = $1, hash = $2`, [][]byte{int8(t.seq), t.head[:]}, []uint32{pgtype.Int8OID, pgtype.ByteaOID}, []int16{1, 1}, nil)
	p.SendQueryParams("commit", nil, nil, nil, nil)
	if err := p.Sync(); err != nil {
		_ = p.Close() // fails the same way
		return wrapped(err)
	}
	return readPipeline(p)
}

// sendEntities notes whose the entities are, and where their contents stand now.
func (t *transaction) sendEntities(p *pgconn.Pipeline, w work) {
	last := make(map[entity]int, len(w)) // index of the note
	var resources, ids, users []string
	var seqs, at []int64
	for _, r := range w {
		if r.entityID == "" {
			continue
		}
		e := entity{r.resource, r.entityID}
		i, there := last[e]
		if !there {
			i = len(ids)
			last[e] = i
			resources, ids, users, seqs, at = append(resources, e.resource), append(ids, e.id), append(users, ""), append(seqs, 0), append(at, 0)
		}
		if r.userID != "" {
			users[i] = r.userID
		}
		if r.contents {
			seqs[i], at[i] = r.seq, r.receivedAt
		}
	}
	p.SendQueryParams(`insert into `+t.log.schema+`.entities as t (resource, entity_id, user_id, seq, received_at)
select r.resource, r.id, nullif(r.user_id, ''), nullif(r.seq, 0), case when r.seq > 0 then r.at end from unnest($1, $2, $3, $4, $5) as r(resource, id, user_id, seq, at)
on conflict (entity_id, resource) do update set user_id = coalesce(excluded.user_id, t.user_id), seq = coalesce(excluded.seq, t.seq), received_at = coalesce(excluded.received_at, t.received_at)`,
		[][]byte{textArray(resources), textArray(ids), textArray(users), int8Array(seqs), timeArray(at)},
		[]uint32{pgtype.TextArrayOID, pgtype.TextArrayOID, pgtype.TextArrayOID, pgtype.Int8ArrayOID, pgtype.TimestamptzArrayOID}, []int16{1, 1, 1, 1, 1}, nil)
}

// copyHeader begins Postgres's binary COPY format.
var copyHeader = append([]byte("PGCOPY\n\xff\r\n\x00"), make([]byte, 8)...)

// postgresEpoch is 2000-01-01 in microseconds since 1970.
const postgresEpoch = 946684800000000

// appendCopy appends the row in COPY's binary format; its columns are columns.
func (r *row) appendCopy(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, columnCount)
	b = copyInt8(b, r.seq)
	for _, s := range []string{r.eventID, r.instanceID, r.eventType, r.resource, r.entityID} {
		b = appendText(b, s)
	}
	b = appendBytes(b, r.personal[actorID].value)
	b = appendNullable(b, r.organizationID)
	b = copyTime(b, r.occurredAt)
	b = copyTime(b, r.receivedAt)
	for _, column := range []int{clientIP, userAgent, changed, payload} {
		b = appendBytes(b, r.personal[column].value)
	}
	b = appendNullable(b, r.svixTimestamp)
	b = appendNullable(b, r.svixSignature)
	b = appendText(b, r.source)
	b = copyInt8(b, r.epoch)
	b = copyInt8(b, r.streamSeq)
	flag := byte(0)
	if r.redriven {
		flag = 1
	}
	b = append(binary.BigEndian.AppendUint32(b, 1), flag)
	b = copyByteas(b, func(p *personal) []byte { return p.salt }, &r.personal)
	b = copyByteas(b, func(p *personal) []byte { return p.digest }, &r.personal)
	b = appendBytes(b, r.prevHash[:])
	return appendBytes(b, r.hash[:])
}

func copyInt8(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(n))
}

func copyTime(b []byte, us int64) []byte {
	if us == noTime {
		return binary.BigEndian.AppendUint32(b, null)
	}
	return copyInt8(b, us-postgresEpoch)
}

// copyByteas appends a bytea[] of one element for each personal column.
func copyByteas(b []byte, of func(*personal) []byte, values *[personals]personal) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = arrayHeader(b, personals, pgtype.ByteaOID)
	for i := range values {
		b = appendBytes(b, of(&values[i]))
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// arrayHeader begins a one-dimensional array in binary: dimensions, whether
// there may be nulls, type, length, lower bound.
func arrayHeader(b []byte, n int, oid uint32) []byte {
	for _, v := range []uint32{1, 1, oid, uint32(n), 1} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func textArray(values []string) []byte {
	b := arrayHeader(make([]byte, 0, 20+40*len(values)), len(values), pgtype.TextOID)
	for _, v := range values {
		b = appendText(b, v)
	}
	return b
}

func int8Array(values []int64) []byte {
	b := arrayHeader(make([]byte, 0, 20+12*len(values)), len(values), pgtype.Int8OID)
	for _, v := range values {
		b = copyInt8(b, v)
	}
	return b
}

func timeArray(micros []int64) []byte {
	b := arrayHeader(make([]byte, 0, 20+12*len(micros)), len(micros), pgtype.TimestamptzOID)
	for _, us := range micros {
		b = copyInt8(b, us-postgresEpoch)
	}
	return b
}

func int8(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

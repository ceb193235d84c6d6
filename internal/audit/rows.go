package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rollcall-dev/rollcall/internal/schema"
)

// entity names what an event is about.
type entity struct{ resource, id string }

// begin opens the transaction, takes the writer lock and moves the position, or
// whatever update of sync_status stands in for that. Of the records it finds
// those that are new, and gives them their entities' events before. All of it is
// one round trip: each costs as much as a hundred rows.
func (t *transaction) begin(ctx context.Context, update string, w work) (work, error) {
	p := t.pg.StartPipeline(ctx)
	for _, sql := range append([]string{"begin"}, t.log.lock.Statements()...) {
		p.SendQueryParams(sql, nil, nil, nil, nil)
	}
	// Compiling the look-ups would take 200 ms a batch, running them takes 4. And an
	// anchor must not outlive its rows.
	p.SendQueryParams(`select set_config('jit', 'off', true), set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), true)`, nil, nil, nil, nil)
	p.SendQueryParams(update+` returning seq, hash, (select coalesce((extract(epoch from max(before)) * 1000000)::bigint, `+strconv.FormatInt(noTime, 10)+`) from `+t.log.schema+`.prunes)`,
		nil, nil, nil, []int16{1})
	t.sendLookups(p, w)
	if err := p.Sync(); err != nil {
		_ = p.Close() // fails the same way
		return nil, t.explain(ctx, err)
	}
	moved, known, before := true, map[string]bool{}, map[entity]previous{}
	ignore := func([][]byte) {}
	err := readPipeline(p, ignore, ignore, ignore, ignore, ignore, // begin, two settings, the lock, a setting
		func(row [][]byte) { moved = !t.read(row) },
		ignore, // partitions
		func(row [][]byte) { known[string(row[0])] = true },
		func(row [][]byte) {
			before[entity{string(row[0]), string(row[1])}] = previous{int64(binary.BigEndian.Uint64(row[2])) + postgresEpoch, bytes.Clone(row[3])}
		})
	switch {
	case err != nil:
		return nil, t.explain(ctx, err)
	case moved:
		return nil, schema.Moved("the position is another replica's by now")
	}
	return t.choose(w, known, before), nil
}

// read reads where the chain ends.
func (t *transaction) read(row [][]byte) bool {
	if len(row[0]) != 8 || len(row[1]) != len(t.head) || len(row[2]) != 8 {
		return false
	}
	t.seq, t.prunedBefore = int64(binary.BigEndian.Uint64(row[0])), int64(binary.BigEndian.Uint64(row[2]))
	copy(t.head[:], row[1])
	return true
}

// sendLookups makes the partitions that are missing, and asks what the entities'
// events before were, and where need be which of the ids are known.
func (t *transaction) sendLookups(p *pgconn.Pipeline, w work) {
	if len(w) == 0 {
		return
	}
	var ids []string
	var resources, entities []string
	asked := map[entity]bool{}
	for _, r := range w {
		if t.lookUp {
			ids = append(ids, r.eventID)
		}
		if e := (entity{r.resource, r.entityID}); r.contents && !r.created && !asked[e] {
			asked[e] = true
			resources, entities = append(resources, e.resource), append(entities, e.id)
		}
	}
	s := t.log.schema
	// What was received before a prune and isn't driven again was pruned.
	kept := ` where $2 or at >= coalesce((select max(before) from ` + s + `.prunes), '-infinity')`
	redriven := []byte{flag(w[0].redriven)}
	p.SendQueryParams(`select `+s+`.make_partition(at) from unnest($1) as at`+kept,
		[][]byte{timeArray(months(w)), redriven}, []uint32{pgtype.TimestamptzArrayOID, pgtype.BoolOID}, []int16{1, 1}, nil)
	p.SendQueryParams(`select r.id from unnest($1) as r(id) cross join lateral (select from `+s+`.event_ids where event_id = r.id offset 0) as e`,
		[][]byte{textArray(ids)}, []uint32{pgtype.TextArrayOID}, []int16{1}, []int16{1})
	p.SendQueryParams(`select r.resource, r.id, e.received_at, e.payload from unnest($1, $2) as r(resource, id)
cross join lateral (select received_at, payload from `+s+`.events where entity_id = r.id and resource = r.resource and payload is not null and type not like '%.deleted' order by received_at desc, seq desc limit 1) as e`,
		[][]byte{textArray(resources), textArray(entities)}, []uint32{pgtype.TextArrayOID, pgtype.TextArrayOID}, []int16{1, 1}, []int16{1, 1, 1, 1})
}

// explain is what an error of begin's means. Nothing of the batch but its ids
// was sent yet: it isn't to blame for a lock, or for a partition.
func (t *transaction) explain(ctx context.Context, err error) error {
	l := t.log
	if schema.Missing(err) {
		l.prepared = false
		return schema.Moved("the audit log's tables are gone")
	}
	return l.lock.Explain(ctx, l.pool, err)
}

// previous is an entity's event before: when it was received, and its body.
type previous struct {
	at   int64
	body []byte
}

// choose keeps the records that are new, and finds what each is to be compared with.
func (t *transaction) choose(w work, known map[string]bool, before map[entity]previous) work {
	kept := make(work, 0, len(w))
	for _, r := range w {
		if r.receivedAt < t.prunedBefore && !r.redriven {
			t.pruned++
			continue
		}
		if known[r.eventID] {
			t.duplicates++
			continue
		}
		known[r.eventID] = true // it may be twice in the batch
		// Prepared once, committed maybe twice: what it differs from may be another event then.
		r.personal[changed], r.before = personal{}, nil
		if e := (entity{r.resource, r.entityID}); r.contents {
			last := before[e]
			if !r.created {
				r.before = last.body
			}
			if r.receivedAt >= last.at || last.body == nil {
				before[e] = previous{r.receivedAt, r.personal[payload].value}
			}
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

// copyRows notes the ids, and compares, numbers, hashes and appends the records:
// all of it while the database is busy with those before.
func (t *transaction) copyRows(ctx context.Context, w work) error {
	rows := &rowReader{t: t, left: w, salts: newSalts(len(w)), out: append(make([]byte, 0, copyChunk*2), copyHeader...)}
	_, err := t.pg.CopyFrom(ctx, bytes.NewReader(copyIDs(w)), `copy `+t.log.schema+`.event_ids (event_id, received_at) from stdin (format binary)`)
	if err == nil {
		_, err = t.pg.CopyFrom(ctx, rows, `copy `+t.log.schema+`.events (`+columns+`) from stdin (format binary)`)
	}
	t.appended = len(w)
	return wrapped(err)
}

// copyIDs are the records' ids in COPY's binary format.
func copyIDs(w work) []byte {
	b := append(make([]byte, 0, len(copyHeader)+64*len(w)), copyHeader...)
	for _, r := range w {
		b = binary.BigEndian.AppendUint16(b, 2)
		b = appendText(b, r.eventID)
		b = copyTime(b, r.receivedAt)
	}
	return binary.BigEndian.AppendUint16(b, copyEnd)
}

// copyEnd stands where another row would have its number of columns.
const copyEnd = 0xFFFF

// copyChunk is about how many bytes of rows are encoded at a time.
const copyChunk = 64 << 10

// rowReader chains records and reads as COPY's binary format.
type rowReader struct {
	t       *transaction
	left    work
	salts   []byte // for what changed, one a record
	scratch []byte
	out     []byte
	read    int // of out
	ended   bool
}

func (r *rowReader) Read(p []byte) (int, error) {
	if r.read == len(r.out) {
		if r.ended {
			return 0, io.EOF
		}
		r.fill()
	}
	n := copy(p, r.out[r.read:])
	r.read += n
	return n, nil
}

func (r *rowReader) fill() {
	r.out, r.read = r.out[:0], 0
	for len(r.out) < copyChunk && len(r.left) > 0 {
		record := r.left[0]
		r.left = r.left[1:]
		record.personal[changed].value = differences(record.before, record.personal[payload].value)
		r.salts = record.seal(r.salts)
		r.scratch = record.row.chain(r.t.seq+1, r.t.head, r.scratch)
		r.t.seq, r.t.head = record.seq, record.hash
		r.out = record.appendCopy(r.out)
	}
	if len(r.left) == 0 {
		r.ended = true
		r.out = binary.BigEndian.AppendUint16(r.out, copyEnd)
	}
}

// finish writes what goes with the rows, and commits.
func (t *transaction) finish(ctx context.Context, w work) error {
	s := t.log.schema
	p := t.pg.StartPipeline(ctx)
	t.sendEntities(p, w)
	p.SendQueryParams(`update `+s+`.sync_status set seq = $1, hash = $2`, [][]byte{int8(t.seq), t.head[:]}, []uint32{pgtype.Int8OID, pgtype.ByteaOID}, []int16{1, 1}, nil)
	p.SendQueryParams("commit", nil, nil, nil, nil)
	if err := p.Sync(); err != nil {
		_ = p.Close() // fails the same way
		return wrapped(err)
	}
	return readPipeline(p)
}

// sendEntities notes whose the entities are.
func (t *transaction) sendEntities(p *pgconn.Pipeline, w work) {
	seen := map[entity]bool{}
	var resources, ids, users []string
	for _, r := range w {
		if e := (entity{r.resource, r.entityID}); r.userID != "" && e.id != "" && !seen[e] {
			seen[e] = true
			resources, ids, users = append(resources, e.resource), append(ids, e.id), append(users, r.userID)
		}
	}
	if len(ids) == 0 {
		return
	}
	p.SendQueryParams(`insert into `+t.log.schema+`.entities (resource, entity_id, user_id) select * from unnest($1, $2, $3) on conflict do nothing`,
		[][]byte{textArray(resources), textArray(ids), textArray(users)}, []uint32{pgtype.TextArrayOID, pgtype.TextArrayOID, pgtype.TextArrayOID}, []int16{1, 1, 1}, nil)
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
	b = append(binary.BigEndian.AppendUint32(b, 1), flag(r.redriven))
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

func timeArray(micros []int64) []byte {
	b := arrayHeader(make([]byte, 0, 20+12*len(micros)), len(micros), pgtype.TimestamptzOID)
	for _, us := range micros {
		b = copyInt8(b, us-postgresEpoch)
	}
	return b
}

func int8(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

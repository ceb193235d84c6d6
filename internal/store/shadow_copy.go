package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rollcall-dev/rollcall/internal/projection"
	"github.com/rollcall-dev/rollcall/streams"
)

// Copied is a batch ready to be added to a shadow, in the binary format of COPY.
type Copied struct {
	parts [][]byte // by table, as the shadow's
}

var copyHeader = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// Prepare decodes and folds messages of the log. Those that are rejected can't be
// applied by the store either.
func (sh *Shadow) Prepare(messages []streams.Message) (c *Copied, rejected map[int]error) {
	batch := sh.l.decoder.Begin()
	defer batch.Release()
	for i := range messages {
		if _, err := batch.Decode(messages[i]); err != nil {
			if rejected == nil {
				rejected = map[int]error{}
			}
			rejected[i] = err
		}
	}
	folded := batch.Fold()
	c = &Copied{parts: make([][]byte, len(sh.tables))}
	for i, t := range sh.tables {
		if t.resource != nil {
			c.parts[i] = copyContents(folded.Contents[t.resource])
			continue
		}
		for _, w := range sh.l.writers {
			c.parts[i] = copyDeletions(c.parts[i], folded.Deletions[w.resource])
			for _, id := range folded.Erased[w.resource] { // though an earlier deletion has won
				c.parts[i] = copyErased(c.parts[i], folded.Deletions[w.resource], id)
			}
		}
	}
	return c, rejected
}

// copyContents encodes rows: for each the number of columns, then each column
// behind its length.
func copyContents(list []*projection.Change) []byte {
	if len(list) == 0 {
		return nil
	}
	a := array{b: append(make([]byte, 0, 1024*len(list)), copyHeader...)}
	for _, c := range list {
		columns := c.Resource.Columns
		a.b = binary.BigEndian.AppendUint16(a.b, uint16(len(columns)+4))
		for i := range columns {
			a.kind = columns[i].Type
			if c.Values[i].Valid {
				a.add(c.Values[i])
			} else {
				a.copyNull()
			}
		}
		a.text(string(c.Version))
		a.copyOrigin(c)
	}
	return a.b
}

func copyDeletions(b []byte, list []*projection.Change) []byte {
	for _, c := range list {
		b = copyDeletion(b, c, string(c.Source))
	}
	return b
}

// copyErased repeats an entity's deletion as an erasure.
func copyErased(b []byte, list []*projection.Change, id string) []byte {
	for _, c := range list {
		if c.ID == id && c.Source != streams.SourceErase {
			b = copyDeletion(b, c, string(streams.SourceErase))
		}
	}
	return b
}

func copyDeletion(b []byte, c *projection.Change, source string) []byte {
	if b == nil {
		b = append(b, copyHeader...)
	}
	a := array{b: binary.BigEndian.AppendUint16(b, 6), kind: projection.Timestamp}
	a.text(c.Resource.Table)
	a.text(c.ID)
	a.add(projection.Value{Valid: true, Int: c.DeletedAt})
	a.text(c.InstanceID)
	a.text(source)
	a.integer(int64(c.Sequence))
	return a.b
}

func (a *array) copyNull() { a.b = binary.BigEndian.AppendUint32(a.b, 0xFFFFFFFF) }

func (a *array) integer(n int64) {
	a.size(8)
	a.b = binary.BigEndian.AppendUint64(a.b, uint64(n))
}

func (a *array) copyOrigin(c *projection.Change) {
	a.text(c.InstanceID)
	a.text(string(c.Source))
	a.integer(int64(c.Sequence))
}

// ErrOtherRebuild says that somebody else adds to the shadow.
var ErrOtherRebuild = errors.New("another rebuild of this store is at work")

// Add adds a batch and moves the position, in one transaction. An *Error that is
// Poison lies in the batch.
func (sh *Shadow) Add(ctx context.Context, c *Copied, to uint64) error {
	err := sh.on(ctx, func(pg *pgconn.PgConn) error {
		results, err := pg.Exec(ctx, fmt.Sprintf(`begin; set local synchronous_commit = off; update %s.progress set position = %d where epoch = %d and position = %d and build = %s`,
			sh.schema, to, sh.at.Epoch, sh.at.Sequence, literal(sh.build()))).ReadAll()
		if err != nil {
			return err
		}
		if results[len(results)-1].CommandTag.RowsAffected() != 1 {
			return ErrOtherRebuild
		}
		for i, part := range c.parts {
			if len(part) == 0 {
				continue
			}
			part = binary.BigEndian.AppendUint16(part, 0xFFFF)
			t := sh.tables[i]
			if _, err := pg.CopyFrom(ctx, bytes.NewReader(part), fmt.Sprintf(`copy %s.%s (%s) from stdin (format binary)`, sh.schema, sh.into(t), t.columns)); err != nil {
				return err
			}
		}
		_, err = pg.Exec(ctx, "commit").ReadAll()
		return err
	})
	if err == nil {
		sh.at.Sequence = to
	}
	return err
}

func (sh *Shadow) into(t shadowTable) string {
	if sh.apart {
		return t.name + applySuffix
	}
	return t.name
}

// rows are the newest contents of a table of the shadow's, or of what is applied,
// as rows r.
func (sh *Shadow) rows(r *projection.Resource, apply bool) string {
	from := sh.schema + "." + r.Table
	if apply {
		from += applySuffix
	}
	if apply && sh.whole[r.Table] {
		all := strings.Join(columnNames(r), ", ") + ", version, instance_id, source, stream_seq"
		from = fmt.Sprintf(`(select %[1]s from %[2]s union all select %[1]s from %[3]s.%[4]s where id in (select id from %[3]s.drift where resource = '%[4]s')) x`, all, from, sh.schema, r.Table)
	}
	return fmt.Sprintf(`(select distinct on (id collate "C") * from %s order by id collate "C", version desc)`, from)
}

// earliest are, of a table of deletions, those that bury would keep.
func earliest(table string) string {
	return fmt.Sprintf(`(select distinct on (resource, id) * from %s order by resource, id, source = '%[2]s', case when source <> '%[2]s' then deleted_at end, deleted_at desc, stream_seq)`, table, streams.SourceReconcile)
}

// deletions are the earliest deletions of a resource that are applied, as rows r.
func (sh *Shadow) deletions(r *projection.Resource) string {
	return fmt.Sprintf(`(select * from %s n where resource = '%s')`, earliest(sh.schema+"."+deletionTable+applySuffix), r.Table)
}

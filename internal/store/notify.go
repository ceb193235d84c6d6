package store

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rollcall-dev/rollcall/internal/projection"
)

// Limits of one note. Postgres takes less than 8,000 bytes; and who is told of a
// hundred rows had better look at the table.
const (
	maxNoteIDs  = 100
	maxNoteSize = 7999
)

// note is what a listener is told of one table after a batch.
type note struct {
	Table string   `json:"table"`
	IDs   []string `json:"ids"` // sorted; null: more than a note holds
}

// notes are of what a batch may have changed, one a table. Which rows went with
// their parent only Postgres knows.
func notes(l *layout, f projection.Folded) (out [][]byte) {
	ids, many := map[string][]string{}, map[string]bool{}
	add := func(table string, list []*projection.Change) {
		for _, c := range list {
			ids[table] = append(ids[table], c.ID)
		}
	}
	for _, w := range l.writers {
		add(w.resource.Table, f.Contents[w.resource])
		if list := f.Deletions[w.resource]; len(list) > 0 {
			if w.remove != "" {
				add(w.resource.Table, list)
			}
			for _, c := range w.cascades {
				ids[c.table], many[c.table] = nil, true
			}
		}
	}
	for _, table := range slices.Sorted(maps.Keys(ids)) {
		n := note{Table: table}
		if list := ids[table]; len(list) <= maxNoteIDs && !many[table] {
			slices.Sort(list)
			n.IDs = slices.Compact(list)
		}
		text, err := json.Marshal(n)
		if err != nil || len(text) > maxNoteSize { // ids may be long
			text, _ = json.Marshal(note{Table: table})
		}
		out = append(out, text)
	}
	return out
}

// sendNotes tells listeners, who hear of it with the commit and so see the rows.
func (s *Store) sendNotes(p *pgconn.Pipeline, notes [][]byte) {
	for _, n := range notes {
		p.SendQueryParams("select pg_notify($1, $2)", [][]byte{[]byte(s.o.Schema), n}, []uint32{pgtype.TextOID, pgtype.TextOID}, nil, nil)
	}
}

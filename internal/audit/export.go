package audit

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Formats are those of an export.
var formats = []string{"jsonl", "csv", "ocsf"}

// Formats of an export, one event a line: JSON, CSV for spreadsheets, and JSON in
// the Open Cybersecurity Schema Framework.
func Formats() []string { return slices.Clone(formats) }

// exportRows is how many rows are read at a time.
const exportRows = 1000

// ExportOptions say what is exported.
type ExportOptions struct {
	Format   string // of [Formats]
	Filter   Filter
	After    int64            // the cursor: rows behind this one
	Header   bool             // csv begins with the columns' names
	Progress func(rows int64) // nil: nobody looks
}

// Export writes rows, oldest first, one a line, and returns the number of the
// last one that was written: the cursor to go on with, also after an error. Rows
// that are appended meanwhile are exported too.
func (l *Log) Export(ctx context.Context, to io.Writer, o ExportOptions) (cursor int64, err error) {
	out := bufio.NewWriterSize(to, 64<<10)
	line, err := formatter(o.Format)
	if err != nil {
		return o.After, err
	}
	if o.Header && o.Format == "csv" {
		if _, err := out.WriteString(csvLine(csvColumns)); err != nil {
			return o.After, err
		}
	}
	cursor, written := o.After, int64(0)
	for {
		list, err := l.after(ctx, o.Filter, cursor, exportRows)
		if err != nil {
			return cursor, err
		}
		for i := range list {
			text, err := line(&list[i])
			if err != nil {
				return cursor, fmt.Errorf("row %d: %w", list[i].Seq, err)
			}
			if _, err := out.Write(text); err != nil {
				return cursor, err
			}
		}
		if err := out.Flush(); err != nil {
			return cursor, err
		}
		if len(list) > 0 {
			cursor = list[len(list)-1].Seq
			written += int64(len(list))
			if o.Progress != nil {
				o.Progress(written)
			}
		}
		if len(list) < exportRows {
			return cursor, nil
		}
	}
}

func formatter(format string) (func(*Entry) ([]byte, error), error) {
	switch format {
	case "jsonl":
		return func(e *Entry) ([]byte, error) { return jsonLine(e) }, nil
	case "csv":
		return func(e *Entry) ([]byte, error) { return []byte(csvLine(e.cells())), nil }, nil
	case "ocsf":
		return func(e *Entry) ([]byte, error) { return jsonLine(e.ocsf()) }, nil
	}
	return nil, fmt.Errorf("there is no format %q; use %s", format, strings.Join(formats, ", "))
}

func jsonLine(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	return append(text, '\n'), err
}

// csvColumns leave out the payload, which is longer than a spreadsheet's cell.
var csvColumns = []string{"seq", "event_id", "instance_id", "type", "resource", "entity_id", "actor_id", "organization_id", "occurred_at", "received_at", "client_ip", "user_agent", "platform", "changed", "source", "redriven", "hash"}

func (e *Entry) cells() []string {
	occurred := ""
	if e.OccurredAt != nil {
		occurred = e.OccurredAt.Format(time.RFC3339Nano)
	}
	return []string{
		strconv.FormatInt(e.Seq, 10), e.EventID, e.InstanceID, e.Type, e.Resource, e.EntityID, e.ActorID, e.OrganizationID, occurred, e.ReceivedAt.Format(time.RFC3339Nano),
		e.ClientIP, e.UserAgent, e.Platform, string(e.Changed), e.Source, strconv.FormatBool(e.Redriven), e.Hash,
	}
}

// csvLine is one line, whatever the cells hold: breaks within become spaces. A
// cell that a spreadsheet would take for a formula begins with an apostrophe.
func csvLine(cells []string) string {
	safe := make([]string, len(cells))
	for i, c := range cells {
		c = strings.Map(func(r rune) rune {
			if r < ' ' || r == '\u2028' || r == '\u2029' || r == '\u0085' {
				return ' '
			}
			return r
		}, c)
		if begins := strings.TrimLeft(c, " \u00a0\ufeff"); begins != "" && strings.ContainsRune("=+-@＝＋－＠", []rune(begins)[0]) {
			c = "'" + c
		}
		safe[i] = c
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(safe) // to memory
	w.Flush()
	return b.String()
}

// ErrNotAnExport is of a file whose end isn't an export of that format.
var ErrNotAnExport = errors.New("the file's last line isn't one of an export in that format")

// LastExported is the number of the row on an export's line.
func LastExported(format string, line []byte) (int64, error) {
	var seq int64
	switch format {
	case "csv":
		cells, err := csv.NewReader(strings.NewReader(string(line))).Read()
		if err == nil && slices.Equal(cells, csvColumns) {
			return 0, nil // nothing but the columns' names
		}
		if err == nil && len(cells) == len(csvColumns) {
			seq, _ = strconv.ParseInt(cells[0], 10, 64)
		}
	case "jsonl":
		var e struct {
			Seq  int64  `json:"seq"`
			Hash string `json:"hash"`
		}
		if json.Unmarshal(line, &e) == nil && e.Hash != "" {
			seq = e.Seq
		}
	case "ocsf":
		var e struct {
			Metadata struct {
				Sequence int64 `json:"sequence"`
			} `json:"metadata"`
		}
		if json.Unmarshal(line, &e) == nil {
			seq = e.Metadata.Sequence
		}
	}
	if seq <= 0 {
		return 0, ErrNotAnExport
	}
	return seq, nil
}

// Package schema is what our schemas in Postgres have in common: connections
// that work behind a pooler in transaction mode, one writer at a time, numbered
// migrations, and which errors a message is to blame for.
//
// There is no session state: whatever is set or locked ends with its
// transaction.
package schema

import (
	"errors"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// MinPostgres is the oldest server, as server_version_num has it.
const MinPostgres = 150000

const connectTimeout = 5 * time.Second

// Pool makes a pool for a URL that may lead through a pooler. It doesn't
// connect. The error doesn't quote the URL.
func Pool(url string, connections int32) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the database URL can't be parsed")
	}
	c.MaxConns = connections
	forPooler(c.ConnConfig)
	return c, nil
}

// Connection is the configuration of one connection; see [Pool].
func Connection(url string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the database URL can't be parsed")
	}
	forPooler(c)
	return c, nil
}

// forPooler makes a connection do without prepared statements, which a pooler
// in transaction mode loses.
func forPooler(c *pgx.ConnConfig) {
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	c.StatementCacheCapacity = 0
	c.DescriptionCacheCapacity = 0
	if c.ConnectTimeout == 0 { // not in the URL; trouble has to show within seconds
		c.ConnectTimeout = connectTimeout
		c.DialFunc = (&net.Dialer{Timeout: connectTimeout, KeepAlive: time.Minute}).DialContext
	}
}

// Error is an error of the database while rows are written.
type Error struct{ Err error }

func (e *Error) Error() string { return "write: " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Poison reports whether the rows are to blame: SQLSTATE classes 22 (data), 23
// (constraints) and 54 (limits). A missing table, column or grant is the
// schema's, all else the server's: no reason to give an event up.
func (e *Error) Poison() bool {
	code := sqlState(e.Err)
	return len(code) == 5 && (code[:2] == "22" || code[:2] == "23" || code[:2] == "54")
}

// Missing tells that a table, a column or the schema isn't there.
func Missing(err error) bool {
	switch sqlState(err) {
	case "42P01", "42703", "3F000":
		return true
	}
	return false
}

func sqlState(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return ""
	}
	return pg.Code
}

// Moved is the error of a commit from a position that isn't the sink's any more;
// it says why.
type Moved string

func (e Moved) Error() string { return string(e) }

// Moved is true.
func (Moved) Moved() bool { return true }

// Literal quotes a string for SQL.
func Literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// OneLine is a statement as an error shows it.
func OneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

package stack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const tailLines = 10

// output is what a command printed.
type output struct{ bytes.Buffer }

func (o *output) tail() string { return lastLines(o.String()) }

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

const logLimit = 16 * mebibyte

// logFile is a server's log that is kept over restarts.
type logFile struct {
	*os.File
	start int64 // where this run began
}

// openLog opens path to append; a log grown large makes way, once, to path.1.
func openLog(path string) (*logFile, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > logLimit {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("rotate the log: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the log: %w", err), f.Close())
	}
	return &logFile{File: f, start: end}, nil
}

// mark forgets what is in the log so far.
func (l *logFile) mark() error {
	end, err := l.Seek(0, io.SeekEnd)
	l.start = end
	return err
}

// tail is the last of what was logged since mark.
func (l *logFile) tail() string {
	b, err := io.ReadAll(io.NewSectionReader(l.File, l.start, mebibyte))
	if err != nil {
		return fmt.Sprintf("(%s cannot be read: %v)", l.Name(), err)
	}
	return lastLines(string(b))
}

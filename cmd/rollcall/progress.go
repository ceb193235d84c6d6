package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// newBar is a progress bar on standard error, total -1 where that isn't known;
// silent where that is no terminal, or there is only one thing to do.
func newBar(total int, doing, unit string) *progressbar.ProgressBar {
	var w io.Writer = os.Stderr
	if total == 1 || !term.IsTerminal(int(os.Stderr.Fd())) {
		w = io.Discard
	}
	return progressbar.NewOptions(total, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
		progressbar.OptionSetItsString(unit), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionFullWidth(), progressbar.OptionSetDescription(doing),
		progressbar.OptionSetSpinnerChangeInterval(0)) // turns when something is done; by itself it would race
}

// troubles are shown above a bar, each once.
type troubles struct {
	mu   sync.Mutex
	bar  *progressbar.ProgressBar
	said map[string]string
}

// tell says what is being retried; with nil that it is over.
func (t *troubles) tell(what string, err error) {
	text := what + " works again"
	if err != nil {
		text = fmt.Sprintf("%s: %v; trying again, Ctrl-C gives up", what, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.said[what] == text {
		return
	}
	t.said[what] = text
	_ = t.bar.Clear()
	fmt.Fprintln(os.Stderr, "rollcall:", text)
}

package publish

import "time"

// line is how many waiting messages are worth a batch. It depends on the
// server (with one replica a batch costs about as much as ten singles before
// its first message, with three replicas nothing), so it is learned: from the
// moving mean of what a batch takes and of what a single does.
type line struct {
	single, batch float64 // seconds
}

const (
	startSingle = 0.0003
	startLine   = 12
	gain        = 0.1
)

func newLine() line { return line{startSingle, startSingle * startLine} }

func (l *line) at() int {
	return min(max(int(l.batch/l.single), 2), 4*startLine)
}

// published notes that n singles, side by side, took that long. While many go
// singly nothing is learned of batches, so what made them look dear fades.
func (l *line) published(n int, took time.Duration) {
	l.single += gain * (took.Seconds()/float64(n) - l.single)
	if n >= startLine {
		l.batch += gain / 4 * (startLine*l.single - l.batch)
	}
}

// batched notes what a batch took, with all that followed where it was refused.
func (l *line) batched(took time.Duration) {
	l.batch += gain * (took.Seconds() - l.batch)
}

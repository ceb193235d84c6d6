package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// row is one line of the table. Ours and Beside have Unit; where there is a
// target it is one for Ratio, or for Ours where nothing stands beside.
type row struct {
	What     string  `json:"what"`
	Ours     float64 `json:"ours"`
	Unit     string  `json:"unit"` // of both: "/s", "ms", "MB", ""
	Beside   float64 `json:"beside,omitempty"`
	BesideIs string  `json:"beside_is,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"` // median of the rounds' ours/beside
	Target   float64 `json:"target,omitempty"`
	AtMost   bool    `json:"at_most,omitempty"` // Target is an upper bound
}

// Verdict is "ok", "short", or "" where nothing was aimed at.
func (r row) verdict() string {
	value := r.Ours
	if r.BesideIs != "" {
		value = r.Ratio
	}
	switch {
	case r.Target == 0:
		return ""
	case r.AtMost && value <= r.Target, !r.AtMost && value >= r.Target:
		return "ok"
	}
	return "short"
}

func (r row) target() string {
	switch {
	case r.Target == 0:
		return ""
	case r.AtMost && r.BesideIs != "":
		return fmt.Sprintf("≤ %gx", r.Target)
	case r.AtMost:
		return fmt.Sprintf("≤ %g %s", r.Target, r.Unit)
	case r.BesideIs != "":
		return fmt.Sprintf("≥ %gx", r.Target)
	}
	return fmt.Sprintf("≥ %g %s", r.Target, r.Unit)
}

// compare makes a row of paired rounds.
func compare(what, unit string, rounds []pair, besideIs string, target float64) row {
	var ours, beside, ratios []float64
	for _, p := range rounds {
		ours, beside, ratios = append(ours, p.ours), append(beside, p.beside), append(ratios, p.ours/p.beside)
	}
	return row{
		What: what, Unit: unit, Ours: median(ours), Beside: median(beside), BesideIs: besideIs,
		Ratio: median(ratios), Target: target,
	}
}

// pair is one round: two figures taken one right after the other.
type pair struct{ ours, beside float64 }

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func printTable(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tours\tbeside\tratio\ttarget\t")
	for _, r := range rows {
		beside, ratio := "", ""
		if r.BesideIs != "" {
			beside = fmt.Sprintf("%s %s", figure(r.Beside, r.Unit), r.BesideIs)
			ratio = fmt.Sprintf("%.2f", r.Ratio)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.What, figure(r.Ours, r.Unit), beside, ratio, r.target(), r.verdict())
	}
	_ = t.Flush() // the terminal's own trouble
}

func figure(v float64, unit string) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f %s", v, unit)
	}
	return fmt.Sprintf("%.3g %s", v, unit)
}

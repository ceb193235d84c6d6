package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
)

func newChaos() *cobra.Command {
	show := remoteCommand(&cobra.Command{
		Use: "show", Short: "Show how bad the internet is", Example: "  clerkemu chaos show",
	}, func(r *remote, c *cobra.Command, _ []string) error { return r.chaos(c, http.MethodGet, nil) })
	set := remoteCommand(&cobra.Command{
		Use: "set NAME=VALUE...", Short: "Change some of it; the rest stays", Args: cli.AtLeastOne("NAME=VALUE, such as drop=0.1"),
		Long: `Change how bad the internet is between Clerk and its endpoints, for all instances
or that of --instance. Probabilities, from 0 to 1: duplicate, reorder, delay,
drop, burst, bad_signature, corrupt, equal_updated_at; of requests to the Backend
API api_limited (429), api_error (500), api_timeout, api_truncated (half an answer).
Milliseconds: delay_ms, clock_skew_ms.`,
		Example: "  clerkemu chaos set drop=0.1 duplicate=0.2\n  clerkemu chaos set delay=0.5 delay_ms=3000",
	}, func(r *remote, c *cobra.Command, args []string) error {
		patch := map[string]any{}
		for _, arg := range args {
			name, text, ok := strings.Cut(arg, "=")
			value, err := strconv.ParseFloat(text, 64)
			if !ok || err != nil {
				return cli.Usagef("%q is not NAME=NUMBER, such as drop=0.1", arg)
			}
			patch[name] = value
		}
		return r.chaos(c, http.MethodPatch, patch)
	})
	off := remoteCommand(&cobra.Command{
		Use: "off", Short: "Make all well again", Example: "  clerkemu chaos off",
	}, func(r *remote, c *cobra.Command, _ []string) error {
		return r.chaos(c, http.MethodPut, map[string]any{})
	})
	return cli.Group("chaos", "Make webhooks as bad as the internet, or well again", show, set, off)
}

// chaos changes it and prints what is in force.
func (r *remote) chaos(c *cobra.Command, method string, body any) error {
	var answer json.RawMessage
	if err := r.control(c.Context(), method, "/chaos", body, &answer); err != nil {
		return err
	}
	return r.print(c, answer, func(w io.Writer) error {
		var all map[string]float64
		if err := json.Unmarshal(answer, &all); err != nil {
			return err
		}
		maps.DeleteFunc(all, func(_ string, v float64) bool { return v == 0 })
		if len(all) == 0 {
			_, err := fmt.Fprintln(w, "no chaos")
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if _, err := fmt.Fprintf(w, "%s=%v\n", name, all[name]); err != nil {
				return err
			}
		}
		return nil
	})
}

func newTraffic() *cobra.Command {
	var changes int
	var kinds []string
	c := remoteCommand(&cobra.Command{
		Use: "traffic", Short: "Make believable changes: show the rate, or make some now", Args: cli.NoSuchCommand,
		Example: "  clerkemu traffic\n  clerkemu traffic --changes 20000\n  clerkemu traffic --changes 5000 --kind sign_up\n  clerkemu traffic set 50/s",
	}, func(r *remote, c *cobra.Command, _ []string) error {
		if !c.Flags().Changed("changes") {
			if len(kinds) > 0 {
				return cli.Usagef("--kind needs --changes; see %s --help", c.CommandPath())
			}
			return r.rate(c, http.MethodGet, nil)
		}
		var answer json.RawMessage
		if err := r.control(c.Context(), http.MethodPost, "/traffic", map[string]any{"changes": changes, "kinds": kinds}, &answer); err != nil {
			return err
		}
		return r.print(c, answer, func(w io.Writer) error {
			var made struct{ Changes, Events int }
			if err := json.Unmarshal(answer, &made); err != nil {
				return err
			}
			_, err := fmt.Fprintf(w, "%d changes, %d events\n", made.Changes, made.Events)
			return err
		})
	})
	c.Flags().IntVar(&changes, "changes", 0, "make so many changes now, and wait until they are made")
	c.Flags().StringArrayVar(&kinds, "kind", nil, "with --changes: only of this kind, such as sign_up, join or delete_user (repeatable)")
	c.AddCommand(remoteCommand(&cobra.Command{
		Use: "set RATE", Short: "Make so many events a second from now on; 0 for none", Args: cli.Exactly(1, "a rate, such as 50/s"),
		Example: "  clerkemu traffic set 50/s\n  clerkemu traffic set 0",
	}, func(r *remote, c *cobra.Command, args []string) error {
		rate, err := parseRate(args[0])
		if err != nil {
			return err
		}
		return r.rate(c, http.MethodPut, map[string]any{"rate": rate})
	}))
	return c
}

// rate changes the rate of traffic and prints it.
func (r *remote) rate(c *cobra.Command, method string, body any) error {
	var answer json.RawMessage
	if err := r.control(c.Context(), method, "/traffic", body, &answer); err != nil {
		return err
	}
	return r.print(c, answer, func(w io.Writer) error {
		var now struct{ Rate float64 }
		if err := json.Unmarshal(answer, &now); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "%v/s\n", now.Rate)
		return err
	})
}

// parseRate reads 50/s or 50.
func parseRate(text string) (float64, error) {
	rate, err := strconv.ParseFloat(strings.TrimSuffix(text, "/s"), 64)
	if err != nil || !(rate >= 0) {
		return 0, cli.Usagef("%q is no rate; say how many events a second, such as 50/s", text)
	}
	return rate, nil
}

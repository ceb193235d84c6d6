package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
)

type endpointView struct {
	ID       string   `json:"id"`
	URL      string   `json:"url"`
	Secrets  []string `json:"secrets"`
	Events   []string `json:"events"`
	Disabled bool     `json:"disabled"`
}

func newEndpoint() *cobra.Command {
	return cli.Group("endpoint", "Add, list and change webhook endpoints", newEndpointAdd(), newEndpointList(), newEndpointRotate(),
		newEndpointVerb("disable", "Send nothing there until it is enabled", http.MethodPatch, map[string]any{"disabled": true}),
		newEndpointVerb("enable", "Send there again; replay --missing sends what it has missed", http.MethodPatch, map[string]any{"disabled": false}),
		newEndpointVerb("remove", "Remove an endpoint", http.MethodDelete, nil))
}

func newEndpointAdd() *cobra.Command {
	var secret string
	var events []string
	c := remoteCommand(&cobra.Command{
		Use: "add URL", Short: "Add an endpoint; prints its id and signing secret", Args: cli.Exactly(1, "a URL"),
		Example: "  clerkemu endpoint add http://127.0.0.1:8080/webhooks/clerk\n  clerkemu endpoint add http://127.0.0.1:9000 --event user.created --event user.deleted",
	}, func(r *remote, c *cobra.Command, args []string) error {
		p := map[string]any{"url": args[0], "events": events}
		if secret != "" {
			p["secret"] = secret
		}
		return r.endpoint(c, http.MethodPost, "/endpoints", p)
	})
	c.Flags().StringVar(&secret, "secret", "", "signing secret, whsec_… (default: a new one)")
	c.Flags().StringArrayVar(&events, "event", nil, "a type of event that it wants (repeatable; default: all)")
	return c
}

// endpoint makes or changes one and prints its id and newest secret.
func (r *remote) endpoint(c *cobra.Command, method, path string, params map[string]any) error {
	var answer json.RawMessage
	if err := r.control(c.Context(), method, path, params, &answer); err != nil {
		return err
	}
	return r.print(c, answer, func(w io.Writer) error {
		var e endpointView
		if err := json.Unmarshal(answer, &e); err != nil {
			return err
		}
		if len(e.Secrets) == 0 { // a removed one
			_, err := fmt.Fprintln(w, e.ID)
			return err
		}
		_, err := fmt.Fprintln(w, e.ID, e.Secrets[0])
		return err
	})
}

func newEndpointList() *cobra.Command {
	return remoteCommand(&cobra.Command{
		Use: "list", Short: "List the endpoints", Example: "  clerkemu endpoint list",
	}, func(r *remote, c *cobra.Command, _ []string) error {
		var answer json.RawMessage
		if err := r.control(c.Context(), http.MethodGet, "/endpoints", nil, &answer); err != nil {
			return err
		}
		return r.print(c, answer, func(w io.Writer) error {
			var list struct{ Data []endpointView }
			if err := json.Unmarshal(answer, &list); err != nil {
				return err
			}
			rows := []string{}
			for _, e := range list.Data {
				events, state := "all", "enabled"
				if len(e.Events) > 0 {
					events = strings.Join(e.Events, ",")
				}
				if e.Disabled {
					state = "disabled"
				}
				rows = append(rows, strings.Join([]string{e.ID, e.URL, state, events, strings.Join(e.Secrets, ",")}, "\t"))
			}
			return table(w, "ID\tURL\tSTATE\tEVENTS\tSECRETS", rows)
		})
	})
}

func newEndpointRotate() *cobra.Command {
	var secret string
	c := remoteCommand(&cobra.Command{
		Use: "rotate ENDPOINT_ID", Short: "Give an endpoint another secret; the old one signs beside it for 24 hours", Args: cli.Exactly(1, "the id of an endpoint"),
		Example: "  clerkemu endpoint rotate ep_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
	}, func(r *remote, c *cobra.Command, args []string) error {
		return r.endpoint(c, http.MethodPost, "/endpoints/"+url.PathEscape(args[0])+"/rotate", map[string]any{"secret": secret})
	})
	c.Flags().StringVar(&secret, "secret", "", "signing secret, whsec_… (default: a new one)")
	return c
}

func newEndpointVerb(verb, short, method string, params map[string]any) *cobra.Command {
	return remoteCommand(&cobra.Command{
		Use: verb + " ENDPOINT_ID", Short: short, Args: cli.Exactly(1, "the id of an endpoint"),
		Example: "  clerkemu endpoint " + verb + " ep_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
	}, func(r *remote, c *cobra.Command, args []string) error {
		return r.endpoint(c, method, "/endpoints/"+url.PathEscape(args[0]), params)
	})
}

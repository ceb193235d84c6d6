package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
)

func newHealth(o *options) *cobra.Command {
	var url string
	c := &cobra.Command{
		Use: "health", Short: "Ask a process whether it takes traffic: a container's health check", Args: cli.NoArgs,
		Long: `Ask /readyz of a process and print the answer. Exit 0 if it takes traffic, be it
degraded, else 1.`,
		Example: "  rollcall health --url http://127.0.0.1:8089",
		RunE: func(c *cobra.Command, _ []string) error {
			if url == "" {
				url = "http://127.0.0.1:8080"
				if dev, err := o.devEnv(); err == nil && dev["ROLLCALL_WEBHOOK_URL"] != "" {
					url, _, _ = strings.Cut(dev["ROLLCALL_WEBHOOK_URL"], "/webhooks/")
				}
			}
			ctx, cancel := context.WithTimeout(c.Context(), 5*time.Second)
			defer cancel()
			status, body, err := readyz(ctx, url)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), strings.TrimSpace(string(body)))
			if status != http.StatusOK {
				return fmt.Errorf("%s takes no traffic", url)
			}
			return nil
		},
	}
	c.Flags().StringVar(&url, "url", "", "the process's health address (default: the dev stack's, or http://127.0.0.1:8080)")
	return c
}

func readyz(ctx context.Context, url string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/readyz", nil)
	if err != nil {
		return 0, nil, cli.Usage(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
)

const defaultURL = "http://127.0.0.1:8090"

// remote is the clerkemu that a command talks to, and how it prints the answer.
type remote struct {
	url, instance string
	asJSON        bool
}

// remoteCommand adds the flags that all commands to a running clerkemu share.
func remoteCommand(c *cobra.Command, run func(*remote, *cobra.Command, []string) error) *cobra.Command {
	r := &remote{}
	r.addURL(c)
	c.Flags().StringVar(&r.instance, "instance", "", "id or name of the instance (default: the first)")
	c.Flags().BoolVar(&r.asJSON, "json", false, "print the answer as JSON")
	if c.Args == nil {
		c.Args = cli.NoArgs
	}
	c.RunE = func(c *cobra.Command, args []string) error { return run(r, c, args) }
	return c
}

func (r *remote) addURL(c *cobra.Command) {
	c.Flags().StringVar(&r.url, "url", "", "address of clerkemu (default: CLERK_API_URL, else "+defaultURL+")")
}

func (r *remote) base() string {
	return strings.TrimSuffix(cmp.Or(r.url, os.Getenv("CLERK_API_URL"), defaultURL), "/")
}

// control calls the control API: path is of /_emu, body and answer are JSON.
func (r *remote) control(ctx context.Context, method, path string, body, answer any) error {
	u, err := url.Parse(path)
	if err != nil {
		return err
	}
	if r.instance != "" {
		q := u.Query()
		q.Set("instance", r.instance)
		u.RawQuery = q.Encode()
	}
	resp, err := r.send(ctx, method, "/_emu"+u.String(), "", body)
	if err != nil {
		return err
	}
	return read(resp, answer)
}

// backend calls Clerk's Backend API, whose key the control API tells.
func (r *remote) backend(ctx context.Context, method, path string, body, answer any) error {
	var list struct {
		Data []struct {
			SecretKey string `json:"secret_key"`
		} `json:"data"`
	}
	if err := r.control(ctx, http.MethodGet, "/instances", nil, &list); err != nil {
		return err
	}
	if len(list.Data) == 0 {
		return fmt.Errorf("%s has no instances", r.base())
	}
	resp, err := r.send(ctx, method, "/v1"+path, list.Data[0].SecretKey, body)
	if err != nil {
		return err
	}
	return read(resp, answer)
}

// send makes a request; the body is JSON, or sent as it is if it is a reader.
func (r *remote) send(ctx context.Context, method, path, key string, body any) (*http.Response, error) {
	reader, ok := body.(io.Reader)
	if !ok && body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base()+path, reader)
	if err != nil {
		return nil, cli.Usage(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "clerkemu/"+version)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return nil, fmt.Errorf("nothing answers at %s: %w; start clerkemu serve, or say where it is with --url", r.base(), op.Err)
	}
	return resp, err
}

// read reads an answer, and makes an error of one that isn't 2xx. An answer
// that is a *json.RawMessage gets the text.
func read(resp *http.Response, answer any) error {
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return refusal(resp)
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the answer of %s: %w", resp.Request.URL, err)
	}
	return nil
}

// refusedError is an answer that isn't 2xx.
type refusedError struct {
	status int
	body   []byte
	text   string
}

func (e *refusedError) Error() string { return e.text }

func refusal(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", resp.Request.URL, err)
	}
	var clerk struct {
		Errors []struct {
			Code        string `json:"code"`
			LongMessage string `json:"long_message"`
			Message     string `json:"message"`
		} `json:"errors"`
	}
	said := []string{}
	if json.Unmarshal(body, &clerk) == nil {
		for _, e := range clerk.Errors {
			said = append(said, fmt.Sprintf("%s (%s)", cmp.Or(e.LongMessage, e.Message), e.Code))
		}
	}
	if len(said) == 0 {
		said = append(said, fmt.Sprintf("%s %s answered %s: is that a clerkemu?", resp.Request.Method, resp.Request.URL, resp.Status))
	}
	return &refusedError{resp.StatusCode, body, strings.Join(said, "; ")}
}

// print prints an answer as JSON if that was asked for, else as text says.
func (r *remote) print(c *cobra.Command, answer json.RawMessage, text func(w io.Writer) error) error {
	if !r.asJSON {
		return text(c.OutOrStdout())
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), string(bytes.TrimSpace(answer)))
	return err
}

// table prints lines of tab-separated columns.
func table(w io.Writer, header string, rows []string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range append([]string{header}, rows...) {
		fmt.Fprintln(t, line) //nolint:errcheck // Flush tells
	}
	return t.Flush()
}

// settings reads NAME=VALUE arguments: the value as JSON or else as text.
func settings(into map[string]any, what string, args []string) error {
	for _, arg := range args {
		name, text, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return cli.Usagef("%s %q is not NAME=VALUE", what, arg)
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber() // to the digit
		var value any
		if err := d.Decode(&value); err != nil || d.More() {
			value = text
		}
		into[name] = value
	}
	return nil
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
)

func newToken() *cobra.Command {
	var text = map[string]*string{}
	var version int
	var expired, notYetValid, cookies bool
	var claims []string
	c := &cobra.Command{
		Use: "token USER_ID", Short: "Print a session token of a user", Args: cli.Exactly(1, "the id of a user"),
		Long: `Print a session token of a user, for the user's newest session or else a new one;
or with --template that of a JWT template. It lives for a minute.`,
		Example: `  curl -H "Authorization: Bearer $(clerkemu token user_2g7np7Hrk0SN6kj5EDMLDaKNL0S)" http://127.0.0.1:3000/api
  clerkemu token user_2g7np7Hrk0SN6kj5EDMLDaKNL0S --organization org_2g7 --azp http://localhost:3000
  clerkemu token user_2g7np7Hrk0SN6kj5EDMLDaKNL0S --expired`,
	}
	remoteCommand(c, func(r *remote, c *cobra.Command, args []string) error {
		p := map[string]any{"user_id": args[0], "version": version, "expired": expired, "not_yet_valid": notYetValid, "cookies": cookies}
		for name, value := range text {
			if *value != "" {
				p[name] = *value
			}
		}
		if len(claims) > 0 {
			all := map[string]any{}
			if err := settings(all, "--claim", claims); err != nil {
				return err
			}
			p["claims"] = all
		}
		return r.printToken(c, p)
	})
	for flag, about := range map[string][2]string{
		"organization": {"organization_id", "id of the active organization"},
		"role":         {"role", "key of the role there (default: that of the membership)"},
		"session":      {"session_id", "id of the session; then the user need not exist"},
		"azp":          {"azp", "authorized party: the origin of the application"},
		"sts":          {"sts", "status: active or pending"},
		"template":     {"template", "name of a JWT template"},
		"flaw":         {"flaw", "what is wrong with it, such as wrong_key, bad_signature, alg_none"},
	} {
		text[about[0]] = c.Flags().String(flag, "", about[1])
	}
	c.Flags().IntVar(&version, "version", 2, "version of the claims, 1 or 2")
	c.Flags().BoolVar(&expired, "expired", false, "one that has expired a minute ago")
	c.Flags().BoolVar(&notYetValid, "not-yet-valid", false, "one that is valid in ten minutes")
	c.Flags().BoolVar(&cookies, "cookies", false, "print a Cookie header with __session and __client_uat")
	c.Flags().StringArrayVar(&claims, "claim", nil, "a further claim: NAME=VALUE, the value as JSON or else as text (repeatable)")
	return c
}

func (r *remote) printToken(c *cobra.Command, params map[string]any) error {
	var answer json.RawMessage
	if err := r.control(c.Context(), http.MethodPost, "/tokens", params, &answer); err != nil {
		return err
	}
	return r.print(c, answer, func(w io.Writer) error {
		var made struct {
			JWT     string            `json:"jwt"`
			Cookies map[string]string `json:"cookies"`
		}
		if err := json.Unmarshal(answer, &made); err != nil {
			return err
		}
		if len(made.Cookies) == 0 {
			_, err := fmt.Fprintln(w, made.JWT)
			return err
		}
		pairs := []string{}
		for _, name := range slices.Sorted(maps.Keys(made.Cookies)) {
			pairs = append(pairs, name+"="+made.Cookies[name])
		}
		_, err := fmt.Fprintln(w, strings.Join(pairs, "; "))
		return err
	})
}

func newKeys() *cobra.Command {
	var newKID bool
	rotate := remoteCommand(&cobra.Command{
		Use: "rotate", Short: "Sign tokens with another key; prints the public one",
		Example: "  clerkemu keys rotate\n  clerkemu keys rotate --new-kid",
	}, func(r *remote, c *cobra.Command, _ []string) error {
		var answer json.RawMessage
		if err := r.control(c.Context(), http.MethodPost, "/keys/rotate", map[string]any{"new_kid": newKID}, &answer); err != nil {
			return err
		}
		return r.print(c, answer, func(w io.Writer) error {
			var made struct {
				PublicKey string `json:"public_key"`
			}
			if err := json.Unmarshal(answer, &made); err != nil {
				return err
			}
			_, err := fmt.Fprint(w, made.PublicKey)
			return err
		})
	})
	rotate.Flags().BoolVar(&newKID, "new-kid", false, "under another kid: the old key stays in the key set for an hour (default: Clerk's way, the same kid)")
	return cli.Group("keys", "Change the keys that sign tokens", rotate)
}

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

// userFlags are what create and update take.
type userFlags struct {
	emails                            []string
	first, last, username, externalID string
	set                               []string
}

func (f *userFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.first, "first-name", "", "first name")
	c.Flags().StringVar(&f.last, "last-name", "", "last name")
	c.Flags().StringVar(&f.username, "username", "", "username")
	c.Flags().StringVar(&f.externalID, "external-id", "", "the application's own id of the user")
	c.Flags().StringArrayVar(&f.set, "set", nil, "any parameter of the Backend API: NAME=VALUE, the value as JSON or else as text (repeatable)")
}

// params are the parameters that were given.
func (f *userFlags) params(c *cobra.Command) (map[string]any, error) {
	p := map[string]any{}
	for flag, value := range map[string]string{"first-name": f.first, "last-name": f.last, "username": f.username, "external-id": f.externalID} {
		if c.Flags().Changed(flag) {
			p[strings.ReplaceAll(flag, "-", "_")] = value
		}
	}
	if len(f.emails) > 0 {
		p["email_address"] = f.emails
	}
	return p, settings(p, "--set", f.set)
}

func newUser() *cobra.Command {
	verbs := []*cobra.Command{newUserCreate(), newUserList(), newUserGet(), newUserUpdate(), newUserDelete()}
	for verb, short := range map[string]string{
		"ban": "Ban users, and revoke their sessions", "unban": "Lift the ban of users", "lock": "Lock users out", "unlock": "Let locked users in again",
	} {
		verbs = append(verbs, newUserVerb(verb, short))
	}
	return cli.Group("user", "Create, list, change and delete users", verbs...)
}

func newUserCreate() *cobra.Command {
	f := &userFlags{}
	c := remoteCommand(&cobra.Command{
		Use: "create", Short: "Sign a user up; prints the id",
		Example: `  clerkemu user create --email ada@example.com --first-name Ada
  clerkemu user create --set 'phone_number=["+12125550123"]' --set 'public_metadata={"plan":"pro"}'`,
	}, func(r *remote, c *cobra.Command, _ []string) error {
		p, err := f.params(c)
		if err != nil {
			return err
		}
		return r.created(c, "/users", p)
	})
	f.add(c)
	c.Flags().StringArrayVar(&f.emails, "email", nil, "e-mail address (repeatable; the first is the primary one)")
	return c
}

// created posts and prints the id of what was made.
func (r *remote) created(c *cobra.Command, path string, params map[string]any) error {
	return r.changed(c, http.MethodPost, path, params)
}

// changed makes a change and prints the id of what it was made to.
func (r *remote) changed(c *cobra.Command, method, path string, params map[string]any) error {
	var answer json.RawMessage
	if err := r.backend(c.Context(), method, path, params, &answer); err != nil {
		return err
	}
	return r.print(c, answer, func(w io.Writer) error {
		var made struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(answer, &made); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w, made.ID)
		return err
	})
}

type userView struct {
	ID             string  `json:"id"`
	FirstName      *string `json:"first_name"`
	LastName       *string `json:"last_name"`
	PrimaryEmail   *string `json:"primary_email_address_id"`
	Banned         bool    `json:"banned"`
	Locked         bool    `json:"locked"`
	EmailAddresses []struct {
		ID           string `json:"id"`
		EmailAddress string `json:"email_address"`
	} `json:"email_addresses"`
}

func (u userView) row() string {
	name, email, state := []string{}, "", ""
	for _, part := range []*string{u.FirstName, u.LastName} {
		if part != nil {
			name = append(name, *part)
		}
	}
	for _, a := range u.EmailAddresses {
		if u.PrimaryEmail != nil && a.ID == *u.PrimaryEmail {
			email = a.EmailAddress
		}
	}
	switch {
	case u.Banned:
		state = "banned"
	case u.Locked:
		state = "locked"
	}
	return u.ID + "\t" + strings.Join(name, " ") + "\t" + email + "\t" + state
}

func newUserList() *cobra.Command {
	var query string
	var limit int
	c := remoteCommand(&cobra.Command{
		Use: "list", Short: "List users, newest first", Example: "  clerkemu user list --query ada --limit 5",
	}, func(r *remote, c *cobra.Command, _ []string) error {
		q := url.Values{"limit": {fmt.Sprint(limit)}}
		if query != "" {
			q.Set("query", query)
		}
		var answer json.RawMessage
		if err := r.backend(c.Context(), http.MethodGet, "/users?"+q.Encode(), nil, &answer); err != nil {
			return err
		}
		return r.print(c, answer, func(w io.Writer) error {
			var users []userView
			if err := json.Unmarshal(answer, &users); err != nil {
				return err
			}
			rows := []string{}
			for _, u := range users {
				rows = append(rows, u.row())
			}
			return table(w, "ID\tNAME\tEMAIL\tSTATE", rows)
		})
	})
	c.Flags().StringVar(&query, "query", "", "a part of a name, an e-mail address, a username, a phone number or an id")
	c.Flags().IntVar(&limit, "limit", 20, "how many, at most 500")
	return c
}

func newUserGet() *cobra.Command {
	return remoteCommand(&cobra.Command{
		Use: "get USER_ID", Short: "Print a user as the Backend API has it", Args: cli.Exactly(1, "the id of a user"),
		Example: "  clerkemu user get user_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
	}, func(r *remote, c *cobra.Command, args []string) error {
		var answer json.RawMessage
		if err := r.backend(c.Context(), http.MethodGet, "/users/"+url.PathEscape(args[0]), nil, &answer); err != nil {
			return err
		}
		r.asJSON = true
		return r.print(c, answer, nil)
	})
}

func newUserUpdate() *cobra.Command {
	f := &userFlags{}
	c := remoteCommand(&cobra.Command{
		Use: "update USER_ID", Short: "Change a user; metadata are merged", Args: cli.Exactly(1, "the id of a user"),
		Example: `  clerkemu user update user_2g7np7Hrk0SN6kj5EDMLDaKNL0S --first-name Ada
  clerkemu user update user_2g7np7Hrk0SN6kj5EDMLDaKNL0S --set 'public_metadata={"plan":"pro"}'`,
	}, func(r *remote, c *cobra.Command, args []string) error {
		p, err := f.params(c)
		if err != nil {
			return err
		}
		if len(p) == 0 {
			return cli.Usagef("user update changes nothing; see %s --help", c.CommandPath())
		}
		path := "/users/" + url.PathEscape(args[0])
		metadata := map[string]any{}
		for _, kind := range []string{"public_metadata", "private_metadata", "unsafe_metadata"} {
			if v, ok := p[kind]; ok {
				metadata[kind] = v
				delete(p, kind)
			}
		}
		if len(p) > 0 && len(metadata) > 0 {
			if err := r.backend(c.Context(), http.MethodPatch, path, p, nil); err != nil {
				return err
			}
		}
		if len(metadata) > 0 {
			return r.changed(c, http.MethodPatch, path+"/metadata", metadata)
		}
		return r.changed(c, http.MethodPatch, path, p)
	})
	f.add(c)
	return c
}

func newUserDelete() *cobra.Command {
	return remoteCommand(&cobra.Command{
		Use: "delete USER_ID...", Short: "Delete users, their memberships and sessions", Args: cli.AtLeastOne("the id of a user"),
		Example: "  clerkemu user delete user_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
	}, func(r *remote, c *cobra.Command, args []string) error {
		for _, id := range args {
			if err := r.changed(c, http.MethodDelete, "/users/"+url.PathEscape(id), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

func newUserVerb(verb, short string) *cobra.Command {
	return remoteCommand(&cobra.Command{
		Use: verb + " USER_ID...", Short: short, Args: cli.AtLeastOne("the id of a user"),
		Example: "  clerkemu user " + verb + " user_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
	}, func(r *remote, c *cobra.Command, args []string) error {
		for _, id := range args {
			if err := r.changed(c, http.MethodPost, "/users/"+url.PathEscape(id)+"/"+verb, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
)

func newState() *cobra.Command {
	return cli.Group("state", "Save and load all that Clerk knows", newStateSave(), newStateLoad())
}

func newStateSave() *cobra.Command {
	return remoteCommand(&cobra.Command{
		Use: "save FILE", Short: "Save the state, with its keys and secrets (- for standard output)", Args: cli.Exactly(1, "a file"),
		Example: "  clerkemu state save before.json",
	}, func(r *remote, c *cobra.Command, args []string) error {
		resp, err := r.send(c.Context(), http.MethodGet, "/_emu/state", "", nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return refusal(resp)
		}
		if args[0] == "-" {
			_, err := io.Copy(c.OutOrStdout(), resp.Body)
			return err
		}
		f, err := os.OpenFile(args[0]+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) // it holds keys
		if err != nil {
			return cli.Usage(err)
		}
		if _, err := io.Copy(f, resp.Body); err != nil {
			return errors.Join(fmt.Errorf("save the state: %w", err), f.Close(), os.Remove(f.Name()))
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("save the state: %w", err)
		}
		return os.Rename(f.Name(), args[0])
	})
}

func newStateLoad() *cobra.Command {
	return remoteCommand(&cobra.Command{
		Use: "load FILE", Short: "Replace the state; a reset returns to it (- for standard input)", Args: cli.Exactly(1, "a file"),
		Example: "  clerkemu state load before.json",
	}, func(r *remote, c *cobra.Command, args []string) error {
		in := c.InOrStdin()
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return cli.Usage(err)
			}
			defer f.Close()
			in = f
		}
		return r.replaced(c, http.MethodPut, "/state", in)
	})
}

func newReset() *cobra.Command {
	return remoteCommand(&cobra.Command{
		Use: "reset", Short: "Make all as it was when clerkemu started, or when a state was loaded", Example: "  clerkemu reset",
		Long: `Make all as it was when clerkemu started, or when a state was loaded: state, keys,
endpoints, chaos and traffic. Deliveries are forgotten.`,
	}, func(r *remote, c *cobra.Command, _ []string) error {
		return r.replaced(c, http.MethodPost, "/reset", nil)
	})
}

type instanceView struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	Users         int    `json:"users"`
	Organizations int    `json:"organizations"`
	Memberships   int    `json:"organization_memberships"`
	SecretKey     string `json:"secret_key"`
}

func (i instanceView) String() string {
	return fmt.Sprintf("instance %s (%s): %d users, %d organizations, %d memberships", i.Name, i.ID, i.Users, i.Organizations, i.Memberships)
}

// replaced replaces the state and prints what there is now.
func (r *remote) replaced(c *cobra.Command, method, path string, body any) error {
	var answer json.RawMessage
	if err := r.control(c.Context(), method, path, body, &answer); err != nil {
		return err
	}
	return r.print(c, answer, func(w io.Writer) error {
		var now struct{ Instances []instanceView }
		if err := json.Unmarshal(answer, &now); err != nil {
			return err
		}
		for _, i := range now.Instances {
			if _, err := fmt.Fprintln(w, i); err != nil {
				return err
			}
		}
		return nil
	})
}

func newInstance() *cobra.Command {
	var users, organizations, memberships int
	add := remoteCommand(&cobra.Command{
		Use: "add NAME", Short: "Add an instance, with keys and endpoints of its own", Args: cli.Exactly(1, "a name"),
		Example: "  clerkemu instance add staging --users 100",
	}, func(r *remote, c *cobra.Command, args []string) error {
		p := map[string]any{"name": args[0], "users": users, "organizations": organizations, "memberships": memberships}
		var answer json.RawMessage
		if err := r.control(c.Context(), http.MethodPost, "/instances", p, &answer); err != nil {
			return err
		}
		return r.print(c, answer, func(w io.Writer) error {
			var i instanceView
			if err := json.Unmarshal(answer, &i); err != nil {
				return err
			}
			_, err := fmt.Fprintln(w, i)
			return err
		})
	})
	add.Flags().IntVar(&users, "users", 0, "users to make")
	add.Flags().IntVar(&organizations, "orgs", 0, "organizations to make")
	add.Flags().IntVar(&memberships, "memberships", 0, "memberships to make")
	list := remoteCommand(&cobra.Command{
		Use: "list", Short: "List the instances and their secret keys", Example: "  clerkemu instance list --json",
	}, func(r *remote, c *cobra.Command, _ []string) error {
		var answer json.RawMessage
		if err := r.control(c.Context(), http.MethodGet, "/instances", nil, &answer); err != nil {
			return err
		}
		return r.print(c, answer, func(w io.Writer) error {
			var list struct{ Data []instanceView }
			if err := json.Unmarshal(answer, &list); err != nil {
				return err
			}
			rows := []string{}
			for _, i := range list.Data {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%d\t%d\t%d\t%s", i.ID, i.Name, i.Users, i.Organizations, i.Memberships, i.SecretKey))
			}
			return table(w, "ID\tNAME\tUSERS\tORGANIZATIONS\tMEMBERSHIPS\tSECRET KEY", rows)
		})
	})
	return cli.Group("instance", "Add and list instances of Clerk", add, list)
}

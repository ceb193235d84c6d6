package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/cli"
)

func newOrganization() *cobra.Command {
	return cli.Group("organization", "Create, list and delete organizations", newOrganizationCreate(), newOrganizationList(), newOrganizationDelete())
}

func newOrganizationCreate() *cobra.Command {
	var creator, slug string
	var set []string
	c := remoteCommand(&cobra.Command{
		Use: "create NAME", Short: "Create an organization; prints the id", Args: cli.Exactly(1, "a name"),
		Example: "  clerkemu organization create Acme --created-by user_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
	}, func(r *remote, c *cobra.Command, args []string) error {
		// Clerk's own limit of 5 members is for who pays nothing.
		p := map[string]any{"name": args[0], "max_allowed_memberships": 0}
		if creator != "" {
			p["created_by"] = creator
		}
		if slug != "" {
			p["slug"] = slug
		}
		if err := settings(p, "--set", set); err != nil {
			return err
		}
		return r.created(c, "/organizations", p)
	})
	c.Flags().StringVar(&creator, "created-by", "", "id of the user who becomes its first admin")
	c.Flags().StringVar(&slug, "slug", "", "its slug (default: made of the name)")
	c.Flags().StringArrayVar(&set, "set", nil, "any parameter of the Backend API: NAME=VALUE, the value as JSON or else as text (repeatable)")
	return c
}

func newOrganizationList() *cobra.Command {
	var query string
	var limit int
	c := remoteCommand(&cobra.Command{
		Use: "list", Short: "List organizations, newest first", Example: "  clerkemu organization list --query acme",
	}, func(r *remote, c *cobra.Command, _ []string) error {
		q := url.Values{"limit": {fmt.Sprint(limit)}, "include_members_count": {"true"}}
		if query != "" {
			q.Set("query", query)
		}
		var answer json.RawMessage
		if err := r.backend(c.Context(), http.MethodGet, "/organizations?"+q.Encode(), nil, &answer); err != nil {
			return err
		}
		return r.print(c, answer, func(w io.Writer) error {
			var list struct {
				Data []struct {
					ID      string `json:"id"`
					Name    string `json:"name"`
					Slug    string `json:"slug"`
					Members int    `json:"members_count"`
				} `json:"data"`
			}
			if err := json.Unmarshal(answer, &list); err != nil {
				return err
			}
			rows := []string{}
			for _, o := range list.Data {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%d", o.ID, o.Name, o.Slug, o.Members))
			}
			return table(w, "ID\tNAME\tSLUG\tMEMBERS", rows)
		})
	})
	c.Flags().StringVar(&query, "query", "", "a part of a name or a slug, or an id")
	c.Flags().IntVar(&limit, "limit", 20, "how many, at most 500")
	return c
}

func newOrganizationDelete() *cobra.Command {
	return remoteCommand(&cobra.Command{
		Use: "delete ORGANIZATION_ID...", Short: "Delete organizations and all that is theirs", Args: cli.AtLeastOne("the id of an organization"),
		Example: "  clerkemu organization delete org_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
	}, func(r *remote, c *cobra.Command, args []string) error {
		for _, id := range args {
			if err := r.changed(c, http.MethodDelete, "/organizations/"+url.PathEscape(id), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

func newMembership() *cobra.Command {
	return cli.Group("membership", "Create, change and delete memberships",
		newMembershipVerb("create", "Make a user a member; prints the membership's id", http.MethodPost, "org:member"),
		newMembershipVerb("update", "Give a member another role", http.MethodPatch, "org:admin"),
		newMembershipVerb("delete", "End a membership", http.MethodDelete, ""))
}

func newMembershipVerb(use, short, method, defaultRole string) *cobra.Command {
	var role string
	c := remoteCommand(&cobra.Command{
		Use: use + " ORGANIZATION_ID USER_ID", Short: short, Args: cli.Exactly(2, "the ids of an organization and a user"),
		Example: "  clerkemu membership " + use + " org_2g7np7Hrk0SN6kj5EDMLDaKNL0S user_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
	}, func(r *remote, c *cobra.Command, args []string) error {
		path := "/organizations/" + url.PathEscape(args[0]) + "/memberships"
		member := path + "/" + url.PathEscape(args[1])
		switch method {
		case http.MethodPost:
			return r.changed(c, method, path, map[string]any{"user_id": args[1], "role": role})
		case http.MethodPatch:
			return r.changed(c, method, member, map[string]any{"role": role})
		}
		return r.changed(c, method, member, nil)
	})
	if defaultRole != "" {
		c.Flags().StringVar(&role, "role", defaultRole, "key of the role")
	}
	return c
}

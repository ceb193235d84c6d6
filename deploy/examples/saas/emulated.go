package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// emulatedClerk stands for what clerkemu hasn't: Clerk's pages to sign in and to
// choose an organization, and clerk-js, which fetches the next token of a
// session. With a Clerk of your own leave this file out.
type emulatedClerk struct{ url, key string }

// tokenLife is longer than Clerk's minute, since nobody here renews a token
// before it ends; no longer than the gateway takes.
const tokenLife = 10 * time.Minute

func (c emulatedClerk) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /sign-in", c.signIn)
	mux.HandleFunc("POST /sign-in", func(w http.ResponseWriter, r *http.Request) { c.session(w, r, r.FormValue("id"), "") })
	mux.HandleFunc("GET /select-organization", c.selectOrganization)
	mux.HandleFunc("POST /select-organization", func(w http.ResponseWriter, r *http.Request) {
		user, _ := current(r)
		c.session(w, r, user, r.FormValue("id"))
	})
}

type choice struct{ ID, Name string }

// signIn renews a session that lives, as clerk-js does, else asks who it is.
func (c emulatedClerk) signIn(w http.ResponseWriter, r *http.Request) {
	if _, session := current(r); session != "" && c.renew(w, r, session) == nil {
		// Not at once: a token of the second in which a role changed is refused too.
		showPage("wait.html")(w, http.StatusOK, then(r))
		return
	}
	var users []struct {
		ID        string
		FirstName string `json:"first_name"`
	}
	if err := c.ask(r.Context(), "GET", "/v1/users?limit=20&order_by=-created_at", nil, &users); err != nil {
		refuse(w, r, err)
		return
	}
	choices := make([]choice, len(users))
	for i, u := range users {
		choices[i] = choice{u.ID, strings.TrimSpace(u.FirstName + " " + u.ID)}
	}
	showPage("choose.html")(w, http.StatusOK, map[string]any{"Title": "Sign in as", "Then": then(r), "Choices": choices})
}

func (c emulatedClerk) selectOrganization(w http.ResponseWriter, r *http.Request) {
	user, _ := current(r)
	var memberships struct {
		Data []struct{ Organization choice }
	}
	if err := c.ask(r.Context(), "GET", "/v1/users/"+url.PathEscape(user)+"/organization_memberships", nil, &memberships); err != nil {
		refuse(w, r, err)
		return
	}
	var choices []choice
	for _, m := range memberships.Data {
		choices = append(choices, m.Organization)
	}
	showPage("choose.html")(w, http.StatusOK, map[string]any{"Title": "Select an organization", "Then": then(r), "Choices": choices})
}

// session begins one with an organization active, "" for none.
func (c emulatedClerk) session(w http.ResponseWriter, r *http.Request, user, organization string) {
	var session struct{ ID string }
	err := c.ask(r.Context(), "POST", "/v1/sessions", map[string]any{"user_id": user, "active_organization_id": organization}, &session)
	if err == nil {
		err = c.renew(w, r, session.ID)
	}
	switch {
	case errors.Is(err, errForbidden):
		showPage("error.html")(w, http.StatusForbidden, "This account can't sign in.")
	case err != nil:
		refuse(w, r, err)
	default:
		http.Redirect(w, r, then(r), http.StatusSeeOther)
	}
}

// renew gives the browser the session's next token.
func (c emulatedClerk) renew(w http.ResponseWriter, r *http.Request, session string) error {
	var token struct{ JWT string }
	err := c.ask(r.Context(), "POST", "/v1/sessions/"+url.PathEscape(session)+"/tokens", map[string]any{"expires_in_seconds": tokenLife / time.Second}, &token)
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{Name: "__session", Value: token.JWT, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return nil
}

var errForbidden = errors.New("clerk forbids it") // the user is banned

func (c emulatedClerk) ask(ctx context.Context, method, path string, body, result any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusForbidden:
		return errForbidden
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(result)
}

// current is whose the browser's token was. It needn't be good any more, and
// isn't looked at: whoever can be anybody here gains nothing.
func current(r *http.Request) (user, session string) {
	cookie, err := r.Cookie("__session")
	if err != nil {
		return "", ""
	}
	var claims struct{ Sub, SID string }
	parts := strings.Split(cookie.Value, ".")
	if len(parts) == 3 {
		text, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(text, &claims)
	}
	return claims.Sub, claims.SID
}

// then is the page to go on to; only one of ours.
func then(r *http.Request) string {
	u, err := url.Parse(r.URL.Query().Get("redirect_url"))
	if err != nil || !strings.HasPrefix(u.Path, "/app") {
		return "/app"
	}
	return u.Path
}

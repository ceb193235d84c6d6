package token

import (
	"crypto/sha1" //nolint:gosec // Clerk's cookie names are made with it
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const livePrefix = "pk_live_"

// PublishableKey is the key of a production instance whose frontend API is at
// host. Clerk's Go library takes no issuer that starts otherwise than
// https://clerk., so host should be clerk.<domain>. As in Clerk's dashboard the
// base64 has no padding.
func PublishableKey(host string) string {
	return livePrefix + base64.RawStdEncoding.EncodeToString([]byte(host+"$"))
}

// FrontendHost is the frontend API's host that a publishable key holds, padded
// or not.
func FrontendHost(publishableKey string) (string, error) {
	encoded, ok := strings.CutPrefix(publishableKey, livePrefix)
	if !ok {
		return "", fmt.Errorf("the publishable key doesn't start with %s", livePrefix)
	}
	decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return "", fmt.Errorf("read the publishable key: %w", err)
	}
	host, ok := strings.CutSuffix(string(decoded), "$")
	if !ok || host == "" {
		return "", errors.New("the publishable key holds no host: it ends in $ once decoded")
	}
	return host, nil
}

// IssuerOf is the iss of the instance whose frontend API is at host.
func IssuerOf(host string) string { return "https://" + host }

// Cookies are those of a signed-in browser. clientUpdatedAt is when the client's
// sessions last changed: Clerk's libraries take a token that is issued before it
// for stale; the zero time means a signed-out client.
//
// Each comes twice, as Clerk sets them: with the suffix that keeps two instances
// on one domain apart, and without.
func Cookies(publishableKey, jwt string, clientUpdatedAt time.Time) []*http.Cookie {
	uat := "0"
	if !clientUpdatedAt.IsZero() {
		uat = strconv.FormatInt(clientUpdatedAt.Unix(), 10)
	}
	suffix := "_" + CookieSuffix(publishableKey)
	var cookies []*http.Cookie
	for _, c := range [][2]string{{"__session", jwt}, {"__session" + suffix, jwt}, {"__client_uat", uat}, {"__client_uat" + suffix, uat}} {
		cookies = append(cookies, &http.Cookie{Name: c[0], Value: c[1], Path: "/", SameSite: http.SameSiteLaxMode})
	}
	return cookies
}

// CookieSuffix is what Clerk appends to the names of cookies, after a "_".
func CookieSuffix(publishableKey string) string {
	sum := sha1.Sum([]byte(publishableKey)) //nolint:gosec // not a secret
	return base64.URLEncoding.EncodeToString(sum[:])[:8]
}

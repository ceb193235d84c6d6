package main

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall-dev/rollcall/internal/emulator/token"
	"github.com/rollcall-dev/rollcall/streams/auth"
)

// tokenRuns are verifications of one round. The bare signature of the same token
// is checked beside, which no verifier can do without.
const tokenRuns = 5000

// tokens measures what the verification of a session token adds to a request.
func (b *bench) tokens(ctx context.Context) error {
	text, publicPEM, err := sessionToken()
	if err != nil {
		return err
	}
	instances := []auth.Instance{{JWTKey: publicPEM}}
	remembers, err := auth.New(auth.Options{Instances: instances})
	if err != nil {
		return err
	}
	forgets, err := auth.New(auth.Options{Instances: instances, CacheSize: -1})
	if err != nil {
		return err
	}
	bare, err := bareSignature(text, publicPEM)
	if err != nil {
		return err
	}
	verify := func(v *auth.Verifier) func() error {
		return func() error { _, err := v.Verify(ctx, text); return err }
	}
	var again, more []float64
	var beside []pair
	for range b.rounds {
		b.round()
		var took [3]float64
		for i, f := range []func() error{verify(remembers), verify(forgets), bare} {
			if took[i], err = microseconds(f); err != nil {
				return err
			}
		}
		again, more = append(again, took[0]), append(more, took[1]-took[0])
		beside = append(beside, pair{took[1], took[2]})
	}
	b.add(row{What: "session token, remembered", Unit: "µs CPU", Ours: median(again)})
	b.add(compare("session token, first seen", "µs CPU", beside, "its RSA signature alone", 0))
	b.add(row{What: "session token, first seen: more than remembered", Unit: "µs CPU", Ours: median(more), Target: 60, AtMost: true})
	return nil
}

// microseconds are of this process's CPU: what is so short is all noise on a
// clock that other processes move too.
func microseconds(f func() error) (each float64, err error) {
	began, err := cpuTime()
	if err != nil {
		return 0, err
	}
	for range tokenRuns {
		if err := f(); err != nil {
			return 0, err
		}
	}
	ended, err := cpuTime()
	return float64((ended - began).Nanoseconds()) / 1000 / tokenRuns, err
}

func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read the CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

func sessionToken() (text, publicPEM string, err error) {
	keys, err := token.NewKeys("ins_bench", time.Now)
	if err != nil {
		return "", "", err
	}
	minter := token.Minter{Keys: keys, Issuer: "https://clerk.bench.example", Clock: time.Now}
	text, err = minter.Session(token.SessionClaims{
		UserID: userID(1), SessionID: "sess_bench", AuthorizedParty: "https://app.example", Options: token.Options{Lifetime: auth.DefaultMaxTokenLife},
		Organization: &token.Organization{ID: "org_bench", Slug: "bench", Role: "org:admin", Permissions: []string{"org:invoices:read", "org:invoices:manage", "org:teams:read"}},
	})
	if err != nil {
		return "", "", err
	}
	publicPEM, err = keys.PublicPEM()
	return text, publicPEM, err
}

func bareSignature(text, publicPEM string) (func() error, error) {
	block, _ := pem.Decode([]byte(publicPEM))
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("no RSA key")
	}
	dot := strings.LastIndexByte(text, '.')
	signature, err := base64.RawURLEncoding.DecodeString(text[dot+1:])
	if err != nil {
		return nil, fmt.Errorf("read the signature: %w", err)
	}
	return func() error {
		digest := sha256.Sum256([]byte(text[:dot]))
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature)
	}, nil
}
